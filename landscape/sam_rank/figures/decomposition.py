"""Figure of table decomposition: drops of pre-activations and active units along trainings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import load_config
from common.figures import RunDirectories, heading, legend_below, page
from landscape.sam_rank.courses import Course, course
from landscape.sam_rank.tables.decomposition import OVERRIDES

COLORS = ("black", "tab:blue", "tab:green", "tab:orange", "tab:red")


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the course of the first seed of every row.

    Args:
        data: The table's JSON.
        run_directories: Not used: trainings are in the cache.
        out_path: The PNG to write.
    """
    del run_directories
    seed, spec = str(data["seeds"][0]), f"{data['config']}:{data['preset']}"
    with page(out_path, (10, 3.6)) as figure:
        drop, fit, active = figure.subplots(1, 3)
        for color, (row, fields) in zip(COLORS, OVERRIDES.items(), strict=True):
            texts = {name: str(value) for name, value in fields.items()}
            found: Course = course(load_config(spec, {**texts, "seed": seed}))
            look = {"color": color, "lw": 1, "label": row}
            drop.plot(found.updates, -found.values["regularization_change"], **look)
            fit.plot(found.updates, found.values["fit_change"], **look)
            active.plot(found.updates, found.values["active"], **look)
            for axis in (drop, fit, active):
                axis.axvline(found.num_first, color="gray", lw=0.6, ls=":")
        drop.set(yscale="log", title="drop by regularization, radius 0.01")
        fit.set(yscale="log", title="size of the change by data fit")
        active.set(title="active units")
        drop.set_xlabel("updates; SAM climbs until the dotted line")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
