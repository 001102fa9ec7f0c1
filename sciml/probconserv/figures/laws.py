"""Figures of the tables of conservation laws: bands of one test function, mass, errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.figures import RunDirectories, bars, cells, heading, page, rows
from sciml.probconserv import data as data_sets
from sciml.probconserv.figures.shown import COLORS, Network
from sciml.probconserv.rows import ANP, DIFFUSED, MSE, PROBCONSERV, ROWS, column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = {ANP: "-", PROBCONSERV: "--", DIFFUSED: ":"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws bands of one test function for every parameter, its mass over time, and errors."""
    network = Network(run_directories)
    params = network.spec.test_params
    labels = [data_sets.label(network.spec, param) for param in params]
    columns = len(params) + 1
    with page(out_path, (4 * columns, 6.4), dpi=110) as figure:
        axes = figure.subplots(2, columns)
        for number, (param, label) in enumerate(zip(params, labels, strict=True)):
            _bands(axes[0, number], network, param)
            axes[0, number].set_title(f"{label}: mean ± 3 sd at report time", fontsize=9)
            _mass_over_time(axes[1, number], network, param)
            axes[1, number].set_title(f"{label}: error of the mass", fontsize=9)
        shown = cells(data)
        series = {row: [shown[row, column(p, MSE)] for p in labels] for row in rows(data)}
        bars(axes[0, -1], labels, series, COLORS)
        axes[0, -1].set_yscale("log")
        axes[0, -1].set_title(MSE, fontsize=9)
        axes[1, -1].set_axis_off()
        named: dict[str, Any] = {}
        for axis in (axes[0, 0], axes[0, -1]):
            handles, names = axis.get_legend_handles_labels()
            named |= dict(zip(names, handles, strict=True))
        axes[1, -1].legend(named.values(), named.keys(), loc="upper left", fontsize=8)
        figure.suptitle(heading(data))


def _bands(axis: "Axes", network: Network, param: float) -> None:
    """Draws mean and three standard deviations of one test function at the report time."""
    slices = network.slices(param)
    found, x = network.predict(slices), network.x
    axis.plot(x, np.asarray(slices.targets.values[0]), color="black", lw=1, label="exact")
    for row, line in LINES.items():
        mean, variance = (part[0] for part in found.moments[ROWS[row][0]])
        width = 3 * np.sqrt(variance)
        axis.plot(x, mean, color=COLORS[row], linestyle=line, label=row)
        for edge in (mean - width, mean + width):  # filled bands would cover one another
            axis.plot(x, edge, color=COLORS[row], linestyle=line, lw=0.7)
    axis.set_xlabel("x", fontsize=8)
    axis.set_ylabel("u", fontsize=8)


def _mass_over_time(axis: "Axes", network: Network, param: float) -> None:
    """Draws the error of the mass at several times, mean over test functions."""
    times = np.linspace(0, network.law.final_time, 7)[1:]
    errors: dict[str, list[float]] = {row: [] for row in LINES}
    for time in times:
        slices = network.slices(param, float(time))
        found, mass = network.predict(slices), np.asarray(slices.mass)
        for row in LINES:
            masses = np.trapezoid(found.moments[ROWS[row][0]][0], network.x, axis=-1)
            errors[row].append(float(np.mean(masses - mass)))
    for row, line in LINES.items():
        axis.plot(times, errors[row], marker=".", color=COLORS[row], linestyle=line)
    axis.axhline(0, color="black", lw=0.6)
    axis.set_xlabel("t", fontsize=8)
    axis.set_ylabel("predicted - exact mass", fontsize=8)
