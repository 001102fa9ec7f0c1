"""Figure of table convolutional: courses of sharpness and Jacobians of all networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from landscape.sharpening.figures.courses import draw_courses
from landscape.sharpening.tables.convolutional import VARIANTS


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the course of the first seed of every row.

    Args:
        data: The table's JSON.
        run_directories: Not used: trainings are in the cache.
        out_path: The PNG to write.
    """
    del run_directories
    rows = {row: {} for row in VARIANTS}
    draw_courses(data, rows, out_path, columns=3, variants=VARIANTS)
