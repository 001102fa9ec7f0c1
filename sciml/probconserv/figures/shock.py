"""Figure of table shock: where the front is in drawn profiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.figures import RunDirectories, legend_below, page
from sciml.probconserv import data as data_sets
from sciml.probconserv.figures.shown import COLORS, Network
from sciml.probconserv.rows import ANP, HARD, PROBCONSERV, ROWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws histograms of shock positions over all test functions."""
    del data
    network = Network(run_directories)
    params = network.spec.test_params
    with page(out_path, (9, 3.4), dpi=110) as figure:
        axes = figure.subplots(1, len(params))
        for axis, param in zip(axes, params, strict=True):
            _histogram(axis, network, param)
        axes[0].set_ylabel("density")
        legend_below(figure)


def _histogram(axis: "Axes", network: Network, param: float) -> None:
    slices, x = network.slices(param), network.x
    found = network.predict(slices)
    edges = np.append(x, 2 * x[-1] - x[-2]) - (x[1] - x[0]) / 2  # a bin for every point
    for row in (ANP, HARD, PROBCONSERV):
        positions = found.shocks[ROWS[row][0]].ravel()
        style = {"color": COLORS[row], "label": row}
        axis.hist(positions, bins=list(edges), density=True, histtype="step", **style)
    axis.axvline(float(slices.front[0]), color="black", lw=1, label="exact")
    axis.set_title(data_sets.label(network.spec, param), fontsize=10)
    axis.set_xlabel("first x with u ≤ 0")
