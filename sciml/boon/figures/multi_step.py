"""Figure of table multi_step: errors of all rows, at the boundary over time, and vorticities."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.figures import RunDirectories, legend_below, page, stacked
from sciml.boon.figures.panels import COLORS, FLOOR, answer, boundary_errors, errors
from sciml.boon.rows import BOON, FNO, INPUTS, LAST, TITLES
from sciml.boon.tables.multi_step import PDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMED = ("stokes", "heat", "burgers_periodic", "wave")


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the errors of all rows, boundary errors over time, and the cavity's vorticity."""
    with page(out_path, (11, 10), dpi=120) as figure:
        top, middle, bottom = stacked(figure, (1.1, 0.9, 1))
        errors(top.subplots(), data, PDES)
        for axis, pde in zip(middle.subplots(1, len(TIMED)), TIMED, strict=True):
            _over_time(axis, pde, run_directories)
        legend_below(middle)
        _vorticity(bottom.subplots(1, 4), run_directories)


def _over_time(axis: "Axes", pde: str, run_directories: RunDirectories) -> None:
    """Draws the error at the boundary in every frame, mean over samples."""
    for row in (FNO, LAST, BOON):
        missed = boundary_errors(pde, answer(row, pde, run_directories))
        mean = missed.reshape(-1, missed.shape[-1]).mean(0)
        axis.plot(np.maximum(mean, FLOOR), marker=".", color=COLORS[row], label=row)
    axis.set_yscale("log")
    axis.set_xlabel("frame")
    axis.set_title(f"{TITLES[pde]}: error at x = 1 (0 as 1e-9)", fontsize=8)


def _vorticity(axes: "Sequence[Axes]", run_directories: RunDirectories) -> None:
    """Draws the last frame of one test sample of the cavity, and what three rows miss of it."""
    panels: list[tuple[str, np.ndarray]] = []
    for row in (FNO, INPUTS, BOON):
        test, field = answer(row, "cavity", run_directories)
        true = test["frames"][0, ..., -1]
        if not panels:
            panels.append(("exact vorticity, last frame", true))
        panels.append((f"{row}: error", field[0, ..., -1] - true))
    for axis, (title, values) in zip(axes, panels, strict=True):
        size = np.abs(values[1:-1, 1:-1]).max()
        image = axis.imshow(values.T, origin="lower", cmap="RdBu_r", vmin=-size, vmax=size)
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
        axis.figure.colorbar(image, ax=axis, shrink=0.7)
