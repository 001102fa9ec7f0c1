"""Figure of table regularization: networks of all families, gap against Jacobian and sharpness."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import load_config
from common.figures import RunDirectories, heading, legend_below, page
from landscape.sharpening.families import members, numbers_of
from landscape.sharpening.tables.regularization import ALL, FAMILIES, QUANTITIES


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws every network of the first seed: its loss gap over each quantity.

    Args:
        data: The table's JSON.
        run_directories: Not used: networks are in the cache.
        out_path: The PNG to write.
    """
    del run_directories
    spec, seed = f"{data['config']}:{data['preset']}", str(data["seeds"][0])
    config = load_config(spec, {"seed": seed})
    with page(out_path, (4 * len(QUANTITIES), 4.2)) as figure:
        axes = figure.subplots(1, len(QUANTITIES), sharey=True)
        for family, name in FAMILIES.items():
            if family == ALL:
                continue
            found = [numbers_of(member) for member in members(config, name)]
            gaps = [one["test_loss"] - one["train_loss"] for one in found]
            for axis, (label, quantity) in zip(axes, QUANTITIES.items(), strict=True):
                axis.scatter([one[quantity] for one in found], gaps, s=14, label=family)
                axis.set(xscale="log", xlabel=label)
        axes[0].set_ylabel("loss gap")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
