"""Figure of table released: errors of all rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, cells, page
from sciml.boon.figures.panels import errors
from sciml.boon.rows import ERROR, RELEASED, column
from sciml.boon.tables.released import PDES


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the errors of all rows; it needs no run."""
    del run_directories
    measured = cells(data)
    pdes = [pde for pde in PDES if (RELEASED, column(pde, ERROR)) in measured]  # one in full
    with page(out_path, (9, 4.5), dpi=120) as figure:
        errors(figure.subplots(), data, pdes, in_line=3)  # long names
