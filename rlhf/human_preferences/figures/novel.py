"""Figure of table novel: learning curves, a clip strip and the learned reward."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.pendulum import MAIN


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the runs of every row.

    Args:
        data: The table's JSON.
        run_directories: Where the runs are.
        out_path: The PNG to write.
    """
    draw_runs(data, run_directories, out_path, MAIN)
