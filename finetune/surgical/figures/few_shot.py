"""Figure of table few_shot: gains over full tuning against the size of the target set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, band, cells, heading, legend_below, page
from finetune.surgical.tables.few_shot import SHOWN, SIZES, row_of
from finetune.surgical.tables.shifts import BLOCKS

COLORS = ("tab:blue", "tab:cyan", "tab:green", "tab:orange")


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a panel for every shift, with bands from the lowest to the highest seed.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)
    with page(out_path, (10, 4)) as figure:
        for axis, name in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
            for block, color in zip(BLOCKS, COLORS, strict=True):
                values = [shown[row_of(name, size), block] for size in SIZES]
                band(axis, SIZES, values, name=block, color=color, marker="o", markersize=3)
            axis.axhline(0, color="tab:red", lw=0.8)
            axis.set(xscale="log", title=name, xlabel="target images", ylabel="points over all")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
