"""Figure of table bounds: one profile of each law near its front, and all errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.figures import RunDirectories, bars, cells, legend_below, page, rows, stacked
from sciml.probconserv.figures.shown import COLORS, Network
from sciml.probconserv.rows import BOUNDED, MSE, OUTSIDE, column
from sciml.probconserv.tables.bounds import LAWS, PLACES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = dict(zip(BOUNDED, ("-", ":", "-", "--"), strict=True))


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a test profile of each law after every update, and errors and excesses of all."""
    shown = cells(data)
    with page(out_path, (11, 7), dpi=110) as figure:
        top, bottom = stacked(figure, (1.2, 1))
        for axis, (title, params) in zip(top.subplots(1, len(LAWS)), LAWS.values(), strict=True):
            network = Network(run_directories, column(title + params[-1], MSE))
            _profile(axis, network, f"{title}{params[-1]}: a test function")
        legend_below(top)
        for axis, what in zip(bottom.subplots(1, 2), (MSE, OUTSIDE), strict=True):
            series = {row: [shown[row, column(p, what)] for p in PLACES] for row in rows(data)}
            bars(axis, PLACES, series, COLORS)
            axis.set_title(what, fontsize=9)
            axis.tick_params(axis="x", labelsize=7)


def _profile(axis: "Axes", network: Network, title: str) -> None:
    """Draws the first test function of the last parameter."""
    param = network.spec.test_params[-1]
    slices = network.slices(param)
    found, x = network.predict(slices), network.x
    axis.plot(x, np.asarray(slices.targets.values[0]), color="black", lw=1, label="exact")
    for row, line in LINES.items():
        mean, _ = found.moments[BOUNDED[row][0]]
        axis.plot(x, mean[0], color=COLORS[row], linestyle=line, label=row)
    for bound in filter(np.isfinite, network.law.bounds or ()):
        axis.axhline(bound, color="black", lw=0.5)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("x", fontsize=8)
