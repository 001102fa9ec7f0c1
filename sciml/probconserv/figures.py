"""Figures of the tables: posterior bands, mass over time, shock positions, calibration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from common import runs
from sciml.pdes.conservation import LAWS
from sciml.probconserv import data as data_sets
from sciml.probconserv.claims import (
    ANP,
    COVERAGE,
    DIFFUSED,
    HARD,
    LOCAL,
    MSE,
    PROBCONSERV,
    ROWS,
    SOFT,
    column,
)
from sciml.probconserv.measure import Predicted

RunDirectories = Mapping[tuple[str, str], Mapping[int, Path]]
COLORS = {
    ANP: "#9a9a9a",
    SOFT: "#6aa56e",
    HARD: "#e08a3c",
    PROBCONSERV: "#2f6db3",
    DIFFUSED: "#7fb0e0",
    LOCAL: "#6b4c9a",
}
SHOWN = (ANP, PROBCONSERV, DIFFUSED)
LINES = {ANP: "-", PROBCONSERV: "--", DIFFUSED: ":"}


def law(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a law: bands of one test function for every parameter, mass over time, errors.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    run = _Run(_folder(run_directories, ANP))
    params = run.spec.test_params
    figure, axes = plt.subplots(
        2, len(params) + 1, figsize=(4 * (len(params) + 1), 6.4), layout="constrained"
    )
    for number, param in enumerate(params):
        _bands(axes[0, number], run, param)
        _mass_over_time(axes[1, number], run, param)
    _bars(axes[0, -1], data, [data_sets.label(run.spec, p) for p in params])
    axes[1, -1].set_axis_off()
    parts = [axis.get_legend_handles_labels() for axis in (axes[0, 0], axes[0, -1])]
    named = {label: handle for pair in parts for handle, label in zip(*pair, strict=True)}
    axes[1, -1].legend(named.values(), named.keys(), loc="upper left", fontsize=8)
    figure.suptitle(f"{data['title']} (preset {data['preset']}, n = {len(data['seeds'])})")
    figure.savefig(out_path, dpi=110)
    plt.close(figure)


def shock(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws histograms of shock positions over all test functions; arguments as in `law`."""
    del data
    run = _Run(_folder(run_directories, ANP))
    params = run.spec.test_params
    rows = (ANP, HARD, PROBCONSERV)
    figure, axes = plt.subplots(1, len(params), figsize=(9, 3.4), layout="constrained")
    for axis, param in zip(axes, params, strict=True):
        slices = run.slices(param, LAWS[run.spec.name].report_time)
        found = run.predict(slices)
        grid = _x(run)
        edges = np.append(grid, 2 * grid[-1] - grid[-2]) - (grid[1] - grid[0]) / 2  # a bin a point
        for row in rows:
            positions = found.shocks[ROWS[row][0]].ravel()
            axis.hist(
                positions,
                bins=list(edges),
                density=True,
                histtype="step",
                color=COLORS[row],
                label=row,
            )
        axis.axvline(float(slices.front[0]), color="black", lw=1, label="exact")
        axis.set_title(data_sets.label(run.spec, param), fontsize=10)
        axis.set_xlabel("first x with u ≤ 0")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("density")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    figure.savefig(out_path, dpi=110)
    plt.close(figure)


def calibration(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws coverage of the central 90 % on every law, before and after updates."""
    del run_directories
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    places = list(dict.fromkeys(c for _, c in cells if c.endswith(COVERAGE)))
    figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
    for shift, row in enumerate((ANP, PROBCONSERV, DIFFUSED)):
        for number, place in enumerate(places):
            values = list(cells[row, place]["values"].values())
            x = number + (shift - 1) * 0.2
            label = row if number == 0 else None
            axis.plot([x] * len(values), values, "o", color=COLORS[row], label=label)
    axis.axhline(0.9, color="black", lw=0.8)
    names = [place.removesuffix(f", {COVERAGE}") for place in places]
    axis.set_xticks(range(len(places)), names, fontsize=8)
    axis.set_ylabel("share of truths in the central 90 %")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out_path, dpi=110)
    plt.close(figure)


class _Run:
    """A trained run (the first of its group) that answers for time slices."""

    def __init__(self, folder: Path):
        # Seeds that were trained together are saved together.
        self._group = (runs.read_result(folder) or {}).get("group")
        self._loaded = runs.load(
            folder.parent / self._group if self._group else folder, allow_changed_code=True
        )
        config = self._loaded.config
        self.spec = data_sets.data_spec(config.data, config.constraint.cells)

    def slices(self, param: float, time: float) -> data_sets.Slices:
        return data_sets.slices_at(param, time, spec=self.spec)

    def predict(self, slices: data_sets.Slices) -> Predicted:
        found = jax.tree.map(np.asarray, self._loaded.predict(slices))
        return jax.tree.map(lambda x: x[0], found) if self._group else found


def _folder(run_directories: RunDirectories, row: str) -> Path:
    return next(
        next(iter(seeds.values())) for (name, _), seeds in run_directories.items() if name == row
    )


def _x(run: _Run) -> np.ndarray:
    return np.linspace(*LAWS[run.spec.name].domain, run.spec.points)


def _bands(axis: Axes, run: _Run, param: float) -> None:
    """Draws mean and three standard deviations of one test function at the report time."""
    slices = run.slices(param, LAWS[run.spec.name].report_time)
    found, x = run.predict(slices), _x(run)
    axis.plot(x, np.asarray(slices.targets.values[0]), color="black", lw=1, label="exact")
    for row in SHOWN:
        mean, variance = (part[0] for part in found.moments[ROWS[row][0]])
        width = 3 * np.sqrt(variance)
        axis.plot(x, mean, color=COLORS[row], linestyle=LINES[row], label=row)
        for edge in (mean - width, mean + width):  # filled bands would cover one another
            axis.plot(x, edge, color=COLORS[row], linestyle=LINES[row], lw=0.7)
    axis.set_title(f"{data_sets.label(run.spec, param)}: mean ± 3 sd at report time", fontsize=9)
    axis.set_xlabel("x", fontsize=8)
    axis.set_ylabel("u", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _mass_over_time(axis: Axes, run: _Run, param: float) -> None:
    """Draws the error of the mass at several times, mean over test functions."""
    x, times = _x(run), np.linspace(0, LAWS[run.spec.name].final_time, 7)[1:]
    errors: dict[str, list[float]] = {row: [] for row in SHOWN}
    for time in times:
        slices = run.slices(param, float(time))
        found, mass = run.predict(slices), np.asarray(slices.mass)
        for row in SHOWN:
            masses = np.trapezoid(found.moments[ROWS[row][0]][0], x, axis=-1)
            errors[row].append(float(np.mean(masses - mass)))
    for row in SHOWN:
        axis.plot(times, errors[row], marker=".", color=COLORS[row], linestyle=LINES[row])
    axis.axhline(0, color="black", lw=0.6)
    axis.set_title(f"{data_sets.label(run.spec, param)}: error of the mass", fontsize=9)
    axis.set_xlabel("t", fontsize=8)
    axis.set_ylabel("predicted - exact mass", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _bars(axis: Axes, data: Mapping[str, Any], params: Sequence[str]) -> None:
    """Draws the MSE of all rows, for every parameter."""
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = [row for row in ROWS if (row, column(params[0], MSE)) in cells]
    for place, row in enumerate(rows):
        for group, param in enumerate(params):
            values = list(cells[row, column(param, MSE)]["values"].values())
            x = group + (place - (len(rows) - 1) / 2) * 0.13
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            label = row if group == 0 else None
            axis.bar(x, np.mean(values), 0.13, yerr=spread, color=COLORS[row], label=label)
    axis.set_xticks(range(len(params)), params)
    axis.set_yscale("log")
    axis.set_title(MSE, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
