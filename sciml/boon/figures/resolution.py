"""Figure of table resolution: relative L2 on every grid."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, band, cells, legend_below, page, rows
from sciml.boon.figures.panels import COLORS, STYLES
from sciml.boon.rows import ERROR, TITLES
from sciml.boon.tables.resolution import MOVED, TRAINED, place
from sciml.boon.tables.single_step import GIVEN


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws relative L2 against the resolution, for every equation."""
    del run_directories
    coarse, *fine = MOVED.values()
    labels, shown = (coarse, TRAINED, *fine), cells(data)
    with page(out_path, (11, 4.2), dpi=120) as figure:
        axes = figure.subplots(1, len(GIVEN))
        for axis, pde in zip(axes, GIVEN, strict=True):
            for row, style in zip(rows(data), STYLES, strict=False):
                values = [shown[row, place(pde, label)] for label in labels]
                band(axis, labels, values, name=row, color=COLORS[row], **style)
            axis.set_yscale("log")
            axis.set_title(TITLES[pde], fontsize=10)
            axis.set_xlabel("grid points; trained on N")
        axes[0].set_ylabel(ERROR)
        legend_below(figure)
