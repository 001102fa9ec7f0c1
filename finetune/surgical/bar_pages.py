"""The figure that most tables of the paper have: a group of bars for every row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.figures import bars, cells, heading, legend_below, page


def bar_page(
    data: Mapping[str, Any],
    out_path: Path,
    *,
    rows: Sequence[str],
    columns: Mapping[str, str],
    colors: Mapping[str, str],
    label: str,
    size: tuple[float, float],
    horizontal: bool = False,
    level: float | None = None,
) -> None:
    """Draws a table as bars, those of a row side by side.

    Args:
        data: The table's JSON.
        out_path: The PNG to write.
        rows: In their order.
        columns: By the name that the legend has for them.
        colors: By the same names.
        label: Of the values.
        size: Of the page, in inches.
        horizontal: Bars go to the right.
        level: A line there, and a logarithmic scale.
    """
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
