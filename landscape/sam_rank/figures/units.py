"""Figure of table units: units that are on, and ranks, by row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from landscape.sam_rank.figures.ablations import draw_points
from landscape.sam_rank.tables.images import RANK, at, on_for
from landscape.sam_rank.tables.units import ROWS, row


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws every row as a line of points, one a seed.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    rows = [row(network, kind) for network, kinds in ROWS.items() for kind in kinds]
    columns = (at(5, on_for(5)), at(5, on_for(10)), at(5, RANK), at(3, RANK))
    draw_points(data, out_path, rows, columns)
