"""Figure of table bounds: a profile of each parameter, and what all rows miss."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.figures import RunDirectories, bars, cells, legend_below, page, rows, stacked
from sciml.probconserv import data as data_sets
from sciml.probconserv.figures.shown import COLORS, Network
from sciml.probconserv.rows import BOUNDED, MSE, OUTSIDE, STEFAN, column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = dict(zip(BOUNDED, ("-", ":", "-", "--"), strict=True))


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a test profile of each parameter after every update, and errors and excesses."""
    shown = cells(data)
    with page(out_path, (11, 7), dpi=110) as figure:
        top, bottom = stacked(figure, (1.2, 1))
        network = Network(run_directories)
        params = network.spec.test_params
        for axis, param in zip(top.subplots(1, len(params)), params, strict=True):
            _profile(axis, network, param)
        legend_below(top)
        for axis, what in zip(bottom.subplots(1, 2), (MSE, OUTSIDE), strict=True):
            series = {row: [shown[row, column(p, what)] for p in STEFAN] for row in rows(data)}
            bars(axis, STEFAN, series, COLORS)
            axis.set_title(what, fontsize=9)


def _profile(axis: "Axes", network: Network, param: float) -> None:
    """Draws the first test function of a parameter."""
    slices = network.slices(param)
    found, x = network.predict(slices), network.x
    axis.plot(x, np.asarray(slices.targets.values[0]), color="black", lw=1, label="exact")
    for row, line in LINES.items():
        mean, _ = found.moments[BOUNDED[row][0]]
        axis.plot(x, mean[0], color=COLORS[row], linestyle=line, label=row)
    for bound in filter(np.isfinite, network.law.bounds or ()):
        axis.axhline(bound, color="black", lw=0.5)
    label = data_sets.label(network.spec, param)
    axis.set_title(f"{label}: a test function at report time", fontsize=9)
    axis.set_xlabel("x", fontsize=8)
