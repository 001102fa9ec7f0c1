"""Figure of table atari: learning curves, in clipped points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from rlhf.figures import draw_runs


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the curves of every row.

    Args:
        data: The table's JSON.
        run_directories: Where the runs are.
        out_path: The PNG to write.
    """
    draw_runs(data, run_directories, out_path, "")
