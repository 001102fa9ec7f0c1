"""Figure of table batch_size: the line through both networks, their planes, and their sharpness."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.figures import RunDirectories, bars, cells, heading, legend_below, page, stacked
from landscape.visualizing.figures.panels import HIGHEST, LOWEST, contours, networks, scale
from landscape.visualizing.measures import Trained, interpolation, planes
from landscape.visualizing.tables.batch_size import (
    LARGE,
    ROWS,
    SETTINGS,
    SHARPNESS,
    SMALL,
    TEST,
    TRACE,
    place,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {SMALL: "#2f6db3", LARGE: "#e08a3c"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws for both settings the line between the networks of the first seed, and their planes.

    Args:
        data: The table's JSON.
        run_directories: Not used: networks and surfaces are in the cache, as the cells left them.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)
    with page(out_path, (11, 8), dpi=120) as figure:
        top, bottom = stacked(figure, (2, 0.8))
        axes = top.subplots(len(SETTINGS), 3, width_ratios=(1.4, 1, 1), squeeze=False)
        for (line, *squares), (setting, variant) in zip(axes, SETTINGS.items(), strict=True):
            found = networks(data, variant)
            _line(line, found, setting)
            for axis, (row, name) in zip(squares, ROWS.items(), strict=True):
                plane = planes(found, getattr(found.run.state, name))[0]
                contours(axis, plane, title=f"{row}, {setting}")
        scale(top, axes)
        top.suptitle(heading(data), fontsize=10)
        for axis, what in zip(bottom.subplots(1, 3), (TEST, SHARPNESS, TRACE), strict=True):
            series = {row: [shown[row, place(s, what)] for s in SETTINGS] for row in ROWS}
            bars(axis, list(SETTINGS), series, COLORS)
            axis.set_title(what, fontsize=9)
            if what != TEST:
                axis.set_yscale("log")
        legend_below(bottom)


def _line(axis: "Axes", found: Trained, setting: str) -> None:
    """Draws loss and accuracy on the line through both networks."""
    line = interpolation(found)
    (along,) = line.axes
    axis.plot(along, line.values["loss"], color="tab:blue")
    axis.set_yscale("log")
    axis.set_ylim(LOWEST / 10, HIGHEST)
    axis.set_ylabel("training loss", color="tab:blue", fontsize=8)
    axis.set_title(f"0: small batch, 1: large batch; {setting}", fontsize=8)
    right = axis.twinx()
    right.plot(along, line.values["accuracy"], color="tab:red")
    right.set_ylim(0, 101)
    right.set_ylabel("training accuracy (%)", color="tab:red", fontsize=8)
