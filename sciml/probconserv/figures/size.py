"""The figure of the size curves: squared error by steps, to the paper's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, size_curves
from sciml.probconserv.rows import ANP, PROBCONSERV

COLORS = {ANP: "#9a9a9a", PROBCONSERV: "#2f6db3"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the curve of every row; it needs no run."""
    del run_directories
    size_curves(data, out_path, COLORS, ylabel="MSE", yscale="log")
