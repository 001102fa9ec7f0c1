"""Figure of table atari: learning curves, in clipped points."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.atari import MAIN


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the curve of the policy that learned.

    Args:
        data: The table's JSON.
        run_directories: Where the runs are.
        out_path: The PNG to write.
    """
    cells = [cell for cell in data["cells"] if cell["row"] == MAIN]
    draw_runs({**data, "cells": cells}, run_directories, out_path)
