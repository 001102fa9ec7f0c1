"""Figure of table shift: errors inside and outside the range of training, by distance from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, band, cells, legend_below, page, rows
from sciml.boon.configs.shift import PDES
from sciml.boon.figures.panels import COLORS, STYLES
from sciml.boon.rows import BOUNDARY, ERROR, TITLES
from sciml.boon.tables.shift import INSIDE, MOVED, place


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws both errors of all rows over the shift; ranges that overlap training on gray."""
    del run_directories
    shown = cells(data)
    labels = sorted((INSIDE, *MOVED), key=_distance)
    distances = [_distance(label) for label in labels]
    with page(out_path, (11, 6.6), dpi=120) as figure:
        axes = figure.subplots(2, len(PDES), sharex=True)
        for row_of_axes, what in zip(axes, (ERROR, BOUNDARY), strict=True):
            for axis, pde in zip(row_of_axes, PDES, strict=True):
                for row, style in zip(rows(data), STYLES, strict=False):
                    values = [shown[row, place(pde, label, what)] for label in labels]
                    if all(value.mean > 0 for value in values):  # 0 has no logarithm
                        band(axis, distances, values, name=row, color=COLORS[row], **style)
                axis.axvspan(-1, 1, color="#eeeeee", zorder=0)
                axis.set_yscale("log")
                note = " (0 left out)" if what == BOUNDARY else ""
                axis.set_title(f"{TITLES[pde]}: {what}{note}", fontsize=10)
        for axis in axes[-1]:
            axis.set_xlabel("shift of the range, in its widths")
        legend_below(figure)


def _distance(label: str) -> float:
    return 0.0 if label == INSIDE else float(label)
