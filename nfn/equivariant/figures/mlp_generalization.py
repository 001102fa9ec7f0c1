"""The figure of Table 19: predictions against the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, page, rows
from nfn.equivariant.figures.generalization import COLORS
from nfn.tasks.figures import draw_predictions


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws predictions against the truth for every row and depth."""
    shown = rows(data)
    first = [cell["column"] for cell in data["cells"] if cell["row"] == shown[0]]
    columns = [column for column in first if column.startswith("tau")]
    with page(out_path, (10, 6.4)) as figure:
        axes = figure.subplots(len(columns), len(shown), squeeze=False)
        for line, column in zip(axes, columns, strict=True):
            for axis, row in zip(line, shown, strict=True):
                depth = column.removeprefix("tau, ")
                draw_predictions(axis, run_directories, (row, column), depth, COLORS[row])
