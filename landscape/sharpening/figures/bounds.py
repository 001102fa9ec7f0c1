"""Figure of table bounds: Lipschitz constants and gaps between their bounds, over samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, band, cells, heading, page
from landscape.sharpening.tables.bounds import BOUND, COUNTS, GAP, LOWER, PAIR, TRUE, UPPER

CONSTANTS = {UPPER: "tab:red", TRUE: "black", LOWER: "tab:blue", PAIR: "tab:cyan"}
GAPS = {BOUND: "tab:red", GAP: "black"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws both dimensions side by side, constants above and gaps below.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)
    with page(out_path, (8, 6)) as figure:
        axes = figure.subplots(2, 2, sharex=True)
        for dimension, column in zip((1, 2), axes.T, strict=True):
            rows = [f"d = {dimension}, {count} samples" for count in COUNTS]
            for axis, colors in zip(column, (CONSTANTS, GAPS), strict=True):
                for name, color in colors.items():
                    values = [shown[row, name] for row in rows]
                    band(axis, COUNTS, values, name=name, color=color)
                axis.set(xscale="log", yscale="log", title=f"d = {dimension}")
                axis.set_xticks(COUNTS, [str(count) for count in COUNTS], minor=False)
                axis.set_xticks([], minor=True)
                axis.legend(fontsize=7)
            column[1].set_xlabel("samples")
        figure.suptitle(heading(data), fontsize=10)
