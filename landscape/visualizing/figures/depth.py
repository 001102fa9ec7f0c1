"""Figure of table depth: surfaces of all networks side by side, and the numbers of many planes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, bars, cells, heading, page, rows, stacked
from landscape.visualizing.figures.panels import contours, networks, scale
from landscape.visualizing.measures import planes
from landscape.visualizing.tables.depth import BASIN, NONCONVEX, OVERRIDES, VARIANTS

NUMBERS = {NONCONVEX: "#2f6db3", BASIN: "#e08a3c"}
SHOWN = 2  # planes of every network


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws two planes of every network of the first seed, and what all planes come to.

    Args:
        data: The table's JSON.
        run_directories: Not used: networks and surfaces are in the cache, as the cells left them.
        out_path: The PNG to write.
    """
    del run_directories
    names, shown = rows(data), cells(data)
    with page(out_path, (13, 7.2), dpi=120) as figure:
        top, bottom = stacked(figure, (2, 0.9))
        axes = top.subplots(SHOWN, len(names), squeeze=False)
        for column, row in enumerate(names):
            found = networks(data, VARIANTS[row], OVERRIDES.get(row, {}))
            chosen = planes(found, found.run.state)[:SHOWN]
            for number, plane in enumerate(chosen):
                contours(
                    axes[number, column],
                    plane,
                    title=row.replace(", ", ",\n") if number == 0 else "",
                )
        scale(top, axes)
        top.suptitle(heading(data), fontsize=10)
        axis = bottom.subplots()
        series = {what: [shown[row, what] for row in names] for what in NUMBERS}
        bars(axis, [row.replace(", ", ",\n") for row in names], series, NUMBERS)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=8, frameon=False)
