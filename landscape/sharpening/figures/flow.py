"""Figure of table flow: loss and sharpness of gradient descent and of both flows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import load_config
from common.figures import RunDirectories, heading, page
from landscape.sharpening.flows import CENTRAL, DESCENT, GRADIENT, paths
from landscape.sharpening.tables.flow import FIELDS, RATES

COLORS = {DESCENT: "tab:blue", CENTRAL: "black", GRADIENT: "tab:orange"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a column for every learning rate, of the first seed.

    Args:
        data: The table's JSON.
        run_directories: Not used: trainings are in the cache.
        out_path: The PNG to write.
    """
    del run_directories
    with page(out_path, (9, 6)) as figure:
        axes = figure.subplots(2, len(FIELDS), sharex=True)
        for column, (row, fields), rate in zip(axes.T, FIELDS.items(), RATES, strict=True):
            changed = {**fields, "seed": data["seeds"][0]}
            spec = f"{data['config']}:{data['preset']}"
            found = paths(load_config(spec, {k: str(v) for k, v in changed.items()}))
            for name, flow in found.items():
                look = {"color": COLORS[name], "lw": 1, "label": name}
                column[0].plot(flow.updates, flow.loss, **look)
                column[1].plot(flow.updates, flow.sharpness, **look)
            column[1].axhline(2 / rate, color="gray", lw=0.8, ls="--", label="limit")
            column[0].set(yscale="log", title=row, ylabel="training loss")
            column[1].set(xlabel="updates", ylabel="sharpness")
            column[1].legend(fontsize=7)
        figure.suptitle(heading(data), fontsize=10)
