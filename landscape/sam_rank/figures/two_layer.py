"""Figure of table two_layer: rank, active units and test loss against radius and penalty."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, band, cells, heading, legend_below, page
from landscape.sam_rank.tables.two_layer import ACTIVE, LOG_TEST, RANK, series

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red")


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws means, with bands from the lowest to the highest seed.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)
    with page(out_path, (10, 3.6)) as figure:
        for axis, column in zip(figure.subplots(1, 3), (RANK, ACTIVE, LOG_TEST), strict=True):
            for color, (name, rows) in zip(COLORS, series().items(), strict=True):
                values = [shown[row, column] for row in rows.values()]
                band(axis, tuple(rows), values, name=name, color=color, marker="o", markersize=3)
            axis.set(xlabel="radius rho, or penalty", ylabel=column)
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
