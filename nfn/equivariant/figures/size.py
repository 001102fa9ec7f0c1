"""The figure of the size curves: accuracy by steps, to the paper's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, size_curves

COLORS = {"NFN_NP": "#d9822b", "NFN_HNP": "#2f6db3"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the curve of every row; it needs no run."""
    del run_directories
    size_curves(data, out_path, COLORS, ylabel="test accuracy / %")
