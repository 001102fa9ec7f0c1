"""Figures of the tables: errors of all rows, fields of a test sample, errors at the boundary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from common import runs
from sciml.boon import claims
from sciml.boon.claims import BOON, BOON_VALUE, ERROR, FNO, INPUTS, LAST, TITLES, column

RunDirectories = Mapping[tuple[str, str], Mapping[int, Path]]
COLORS = {
    FNO: "#9a9a9a",
    INPUTS: "#6aa56e",
    LAST: "#d9b38c",
    claims.WRITE: "#e08a3c",
    BOON: "#2f6db3",
    BOON_VALUE: "#7fb0e0",
    claims.BOON_INPUTS: "#173a63",
    claims.MWT: "#b8a8c8",
    claims.BOON_MWT: "#6b4c9a",
}

FLOOR = 1e-9  # what is exactly 0 on a logarithmic axis
STYLES = tuple(  # of lines that must be told apart, in gray too
    {"marker": marker, "linestyle": line}
    for marker, line in (("o", "-"), ("s", "-"), ("D", "--"), ("^", ":"), ("v", "-."))
)


def single_step(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the errors of all rows, a test solution of every equation, and boundary errors.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    pdes = ("stokes", "burgers", "heat", "burgers_periodic")
    figure = plt.figure(figsize=(11, 9), layout="constrained")
    parts = _rows(figure, (1.2, 1, 0.9))
    _bars(parts[0].subplots(), data, pdes)
    shown = (FNO, INPUTS, BOON)
    for axis, pde in zip(parts[1].subplots(1, len(pdes)), pdes, strict=True):
        _lines(
            axis,
            pde,
            [r for r in shown if (r, column(pde, ERROR)) in run_directories],
            run_directories,
        )
    _legend(parts[1])
    for axis, pde in zip(parts[2].subplots(1, len(pdes)), pdes, strict=True):
        _histogram(axis, pde, (FNO, BOON), run_directories)
    _legend(parts[2])
    figure.savefig(out_path, dpi=120)
    plt.close(figure)


def multi_step(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the errors of all rows, boundary errors over time, and the cavity's vorticity.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    pdes = ("stokes", "burgers", "heat", "burgers_periodic", "wave", "cavity")
    figure = plt.figure(figsize=(11, 10), layout="constrained")
    parts = _rows(figure, (1.1, 0.9, 1))
    _bars(parts[0].subplots(), data, pdes)
    timed = ("stokes", "heat", "burgers_periodic", "wave")
    for axis, pde in zip(parts[1].subplots(1, len(timed)), timed, strict=True):
        _over_time(axis, pde, run_directories)
    _legend(parts[1])
    _vorticity(parts[2].subplots(1, 4), run_directories)
    figure.savefig(out_path, dpi=120)
    plt.close(figure)


def resolution(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws relative L2 against the resolution, for every equation.

    Args:
        data: The table's JSON.
        run_directories: Not used.
        out_path: The PNG to write.
    """
    del run_directories
    labels = ("N / 2", "N", "2 N", "4 N")
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = tuple(dict.fromkeys(cell["row"] for cell in data["cells"]))
    pdes = ("stokes", "burgers", "heat")
    figure, axes = plt.subplots(1, len(pdes), figsize=(11, 4.2), layout="constrained")
    for axis, pde in zip(axes, pdes, strict=True):
        for row, style in zip(rows, STYLES, strict=False):
            values = [
                list(cells[row, f"{TITLES[pde]}, {label}"]["values"].values()) for label in labels
            ]
            axis.fill_between(
                labels, np.min(values, 1), np.max(values, 1), color=COLORS[row], alpha=0.2, lw=0
            )
            axis.plot(labels, np.mean(values, 1), **style, color=COLORS[row], label=row)
        axis.set_yscale("log")
        axis.set_title(TITLES[pde], fontsize=10)
        axis.set_xlabel("grid points; trained on N")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(ERROR)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(rows), fontsize=8)
    figure.savefig(out_path, dpi=120)
    plt.close(figure)


def _rows(figure: Figure, heights: Sequence[float]) -> list[SubFigure]:
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    return [figure.add_subfigure(part) for part in grid]


def _bars(axis: Axes, data: Mapping[str, Any], pdes: Sequence[str]) -> None:
    """Draws relative L2 on a logarithmic scale, grouped by equation."""
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = tuple(dict.fromkeys(cell["row"] for cell in data["cells"]))
    width = 0.8 / len(rows)
    for place, row in enumerate(rows):
        for group, pde in enumerate(pdes):
            cell = cells.get((row, column(pde, ERROR)))
            if cell is None:
                continue
            values = list(cell["values"].values())
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            axis.bar(
                group + (place - (len(rows) - 1) / 2) * width,
                np.mean(values),
                width,
                yerr=spread,
                color=COLORS[row],
                label=row if group == 0 or pde == "heat" else None,
            )
    handles, labels = axis.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    axis.legend(
        named.values(),
        named.keys(),
        fontsize=8,
        ncols=5,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.1),
        frameon=False,
    )
    axis.set_xticks(range(len(pdes)), [TITLES[pde] for pde in pdes])
    axis.set_yscale("log")
    axis.set_ylabel(ERROR)
    axis.set_title(
        f"{data['title']} (preset {data['preset']}, n = {len(data['seeds'])})", fontsize=10
    )
    axis.spines[["top", "right"]].set_visible(False)


def _legend(part: SubFigure) -> None:
    """Names the lines of all axes once, below them."""
    handles, names = part.axes[0].get_legend_handles_labels()
    part.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)


def _predicted(
    row: str, pde: str, run_directories: RunDirectories
) -> tuple[Mapping[str, Any], np.ndarray]:
    """Returns test data and predictions of the first seed on them."""
    folder = next(iter(run_directories[row, column(pde, ERROR)].values()))
    # Seeds that were trained together are saved together.
    group = (runs.read_result(folder) or {}).get("group")
    loaded = runs.load(folder.parent / group if group else folder, allow_changed_code=True)
    test = jax.tree.map(np.asarray, loaded.data["test"])
    field = np.asarray(loaded.predict(test))
    return test, field[0] if group else field


def _lines(axis: Axes, pde: str, rows: Sequence[str], run_directories: RunDirectories) -> None:
    """Draws the errors of one test sample; the solution behind, on an axis of its own."""
    for number, row in enumerate(rows):
        test, field = _predicted(row, pde, run_directories)
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
    axis.spines[["top", "right"]].set_visible(False)


def _misses(pde: str, field: np.ndarray, test: Mapping[str, Any]) -> np.ndarray:
    """Returns |u - α|, the slope's error or |u_0 - u_N| at the low end, [samples, ...time]."""
    from sciml.boundary import stencil

    ends = test["boundary"][0]
    if pde == "burgers_periodic":
        return np.abs(field[:, 0] - field[:, -1])
    high = ends.high if field.ndim > 2 else ends.high[..., -1]
    if pde not in ("heat", "wave"):
        return np.abs(field[:, -1] - high)
    weights = np.asarray(stencil(3)) * (field.shape[1] - 1)
    slope = -sum(c * field[:, -1 - j] for j, c in enumerate(weights))
    return np.abs(slope - high)


def _histogram(axis: Axes, pde: str, rows: Sequence[str], run_directories: RunDirectories) -> None:
    for row in rows:
        test, field = _predicted(row, pde, run_directories)
        values = np.log10(np.maximum(_misses(pde, field, test), FLOOR))
        axis.hist(
            values, bins=list(np.linspace(-9, 2, 45)), color=COLORS[row], alpha=0.7, label=row
        )
    axis.set_xlabel("log10 of the error at x = 1 (0 as -9)", fontsize=8)
    axis.set_title(TITLES[pde], fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _over_time(axis: Axes, pde: str, run_directories: RunDirectories) -> None:
    for row in (FNO, LAST, BOON):
        test, field = _predicted(row, pde, run_directories)
        misses = _misses(pde, field, test)
        mean = misses.reshape(-1, misses.shape[-1]).mean(0)
        axis.plot(np.maximum(mean, FLOOR), marker=".", color=COLORS[row], label=row)
    axis.set_yscale("log")
    axis.set_xlabel("frame")
    axis.set_title(f"{TITLES[pde]}: error at x = 1 (0 as 1e-9)", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _vorticity(axes: Sequence[Axes], run_directories: RunDirectories) -> None:
    panels: list[tuple[str, np.ndarray]] = []
    for row in (FNO, INPUTS, BOON):
        test, field = _predicted(row, "cavity", run_directories)
        true = test["frames"][0, ..., -1]
        if not panels:
            panels.append(("exact vorticity, last frame", true))
        panels.append((f"{row}: error", field[0, ..., -1] - true))
    for axis, (title, values) in zip(axes, panels, strict=True):
        size = np.abs(values[1:-1, 1:-1]).max()
        image = axis.imshow(values.T, origin="lower", cmap="RdBu_r", vmin=-size, vmax=size)
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
        plt.colorbar(image, ax=axis, shrink=0.7)
