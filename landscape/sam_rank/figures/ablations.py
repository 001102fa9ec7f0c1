"""Figure of table ablations: rank at block 3, and errors, by row."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, cells, heading, page
from landscape.sam_rank.tables.ablations import ROWS
from landscape.sam_rank.tables.images import NEIGHBORS, PCA, RANK, TEST, at


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws every row as a line of points, one a seed.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    draw_points(data, out_path, list(ROWS), (at(3, RANK), at(3, PCA), at(3, NEIGHBORS), TEST))


def draw_points(
    data: Mapping[str, Any], out_path: Path, rows: Sequence[str], columns: Iterable[str]
) -> None:
    """Draws a panel for every column, in it a line of points for every row, one a seed."""
    shown, columns = cells(data), tuple(columns)
    with page(out_path, (11, 3.2)) as figure:
        axes = figure.subplots(1, len(columns), sharey=True)
        for axis, column in zip(axes, columns, strict=True):
            for place, row in enumerate(rows):
                values = shown[row, column].values
                axis.scatter(values, [-place] * len(values), s=14, color="tab:blue")
            axis.set_xlabel(column)
        axes[0].set_yticks([-place for place in range(len(rows))], rows)
        figure.suptitle(heading(data), fontsize=10)
