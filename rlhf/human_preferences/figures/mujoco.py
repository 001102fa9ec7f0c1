"""Figure of table mujoco: learning curves of the half-cheetah."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from rlhf.figures import draw_runs
from rlhf.human_preferences.tables.mujoco import CHEETAH


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the curves of the half-cheetah, with its reward and from labels.

    Args:
        data: The table's JSON.
        run_directories: Where the runs are.
        out_path: The PNG to write.
    """
    cells = [cell for cell in data["cells"] if cell["column"] == CHEETAH]
    draw_runs({**data, "cells": cells}, run_directories, out_path)
