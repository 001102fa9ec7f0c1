"""The figure that most tables of the paper have: a group of bars for every row."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from common.figures import RunDirectories, bars, cells, heading, legend_below, page

# (the table's JSON, folders of its runs, which are not needed, the PNG to write)
Draw: TypeAlias = Callable[[Mapping[str, Any], RunDirectories, Path], None]


def bar_figure(
    *,
    rows: Sequence[str],
    columns: Mapping[str, str],
    colors: Mapping[str, str],
    label: str,
    size: tuple[float, float],
    horizontal: bool = False,
    level: float | None = None,
) -> Draw:
    """Returns the function that draws a table as bars, those of a row side by side.

    Args:
        rows: In their order.
        columns: By the name that the legend has for them.
        colors: By the same names.
        label: Of the values.
        size: Of the page, in inches.
        horizontal: Bars go to the right.
        level: A line there, and a logarithmic scale.
    """

    def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
        del run_directories
        shown = cells(data)
        series = {name: [shown[row, column] for row in rows] for name, column in columns.items()}
        with page(out_path, size) as figure:
            axis = figure.subplots()
            bars(axis, rows, series, colors, horizontal=horizontal)
            if level is not None:
                axis.axhline(level, color="0.7", lw=0.8)
                axis.set_yscale("log")
            axis.set(**{"xlabel" if horizontal else "ylabel": label})
            legend_below(figure)
            figure.suptitle(heading(data), fontsize=10)

    return draw
