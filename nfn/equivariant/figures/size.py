"""The figure of the size curves: accuracy by steps, to the paper's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, heading, page, size_curve

COLORS = {"NFN_NP": "#d9822b"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the curve of every row; it needs no run."""
    del run_directories
    with page(out_path, (6, 4)) as figure:
        axis = figure.subplots()
        for row, color in COLORS.items():
            size_curve(axis, data, row, 0, color=color)
        axis.set_ylabel("test accuracy / %")
        axis.set_title(f"{heading(data)}; star: the paper", fontsize=9)
        axis.legend(fontsize=8)
