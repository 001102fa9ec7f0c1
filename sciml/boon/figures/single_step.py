"""Figure of table single_step: errors of all rows, of one sample, and at the boundary."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.figures import RunDirectories, cells, legend_below, page, stacked
from sciml.boon.figures.panels import COLORS, FLOOR, Answer, answer, boundary_errors, errors
from sciml.boon.rows import BOON, ERROR, FNO, INPUTS, TITLES, column
from sciml.boon.tables.single_step import PDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = (FNO, INPUTS, BOON)


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the errors of all rows, a test solution of every equation, and boundary errors."""
    measured = cells(data)
    pdes = [pde for pde in PDES if (FNO, column(pde, ERROR)) in measured]  # few at preset paper
    answers = {  # networks are restored once for both panels
        pde: {
            row: answer(row, pde, run_directories)
            for row in SHOWN
            if (row, column(pde, ERROR)) in measured
        }
        for pde in pdes
    }
    with page(out_path, (11, 9), dpi=120) as figure:
        top, middle, bottom = stacked(figure, (1.2, 1, 0.9))
        errors(top.subplots(), data, pdes)
        for axis, pde in zip(middle.subplots(1, len(pdes), squeeze=False)[0], pdes, strict=True):
            _sample(axis, pde, answers[pde])
        legend_below(middle)
        for axis, pde in zip(bottom.subplots(1, len(pdes), squeeze=False)[0], pdes, strict=True):
            _histogram(axis, pde, answers[pde])
        legend_below(bottom)


def _sample(axis: "Axes", pde: str, answers: Mapping[str, Answer]) -> None:
    """Draws the errors of one test sample; the solution behind, on an axis of its own."""
    for number, (row, (test, field)) in enumerate(answers.items()):
        true = test["frames"][..., -1]
        x = np.linspace(0, 1, true.shape[1])
        if number == 0:
            behind = axis.twinx()
            behind.plot(x, true[0], color="#cccccc", lw=3)
            behind.set_axis_off()
            axis.plot([], [], color="#cccccc", lw=3, label="exact solution, own scale")
        error = np.maximum(np.abs(field[0] - true[0]), FLOOR)
        line = "--" if row == BOON else "-"
        axis.plot(x, error, color=COLORS[row], linestyle=line, lw=1.2, label=row)
    axis.set_yscale("log")
    axis.set_zorder(1)
    axis.patch.set_visible(False)
    axis.set_title(f"{TITLES[pde]}, one sample: |error|", fontsize=9)
    axis.set_xlabel("x", fontsize=8)


def _histogram(axis: "Axes", pde: str, answers: Mapping[str, Answer]) -> None:
    """Draws how often every size of the error at the boundary occurs."""
    bins = list(np.linspace(-9, 2, 45))
    for row in (FNO, BOON):
        missed = boundary_errors(pde, answers[row])
        values = np.log10(np.maximum(missed, FLOOR))
        axis.hist(values, bins=bins, color=COLORS[row], alpha=0.7, label=row)
    axis.set_xlabel("log10 of the error at x = 1 (0 as -9)", fontsize=8)
    axis.set_title(TITLES[pde], fontsize=9)
