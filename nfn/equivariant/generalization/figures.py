"""Learning curves of Kendall's tau, and predictions against the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from common import runs

COLORS = {"NFN_HNP": "#2f6db3", "NFN_NP": "#d9822b", "STATNN": "#6a6a6a"}
RunDirectories = Mapping[tuple[str, str], Mapping[int, Path]]


def table_2(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws tau against the number of training networks, and predictions of the largest size.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = list(dict.fromkeys(row for row, _ in cells))
    sizes = sorted(int(c.split(", ")[1]) for r, c in cells if r == rows[0] and c.startswith("tau"))
    figure, axes = plt.subplots(1, 1 + len(rows), figsize=(13, 3.6), layout="constrained")
    _learning_curve(axes[0], cells, rows, sizes)
    for axis, row in zip(axes[1:], rows, strict=True):
        seed, directory = next(iter(run_directories[row, f"tau, {sizes[-1]}"].items()))
        _scatter(axis, directory, f"{row}, {sizes[-1]} networks, seed {seed}", COLORS[row])
    figure.savefig(out_path, dpi=130)
    plt.close(figure)


def table_19(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws predictions against the truth for every row and depth.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = [c for r, c in cells if r == rows[0] and c.startswith("tau")]
    figure, axes = plt.subplots(
        len(columns), len(rows), figsize=(10, 6.4), layout="constrained", squeeze=False
    )
    for line, column in zip(axes, columns, strict=True):
        for axis, row in zip(line, rows, strict=True):
            seed, directory = next(iter(run_directories[row, column].items()))
            _scatter(axis, directory, f"{row}, {column.split(', ')[1]}, seed {seed}", COLORS[row])
    figure.savefig(out_path, dpi=130)
    plt.close(figure)


def _learning_curve(
    axis: Axes, cells: Mapping[tuple[str, str], Any], rows: list[str], sizes: list[int]
) -> None:
    for row in rows:
        values = [list(cells[row, f"tau, {size}"]["values"].values()) for size in sizes]
        mean = [np.mean(v) for v in values]
        spread = [np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values]
        axis.errorbar(sizes, mean, yerr=spread, marker="o", capsize=3, color=COLORS[row], label=row)
        paper = cells[row, f"tau, {sizes[-1]}"]["paper"]
        axis.scatter([12_000], [paper["value"]], marker="_", s=180, color=COLORS[row])
    axis.annotate("paper:\nCIFAR-10-GS", (12_000, 0.9), ha="center", va="top", fontsize=7)
    axis.set_xscale("log")
    axis.set_xlabel("training networks")
    axis.set_ylabel("Kendall's tau on test networks")
    axis.set_title("mean and standard deviation of the seeds", fontsize=9)
    axis.legend(fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _scatter(axis: Axes, directory: Path, title: str, color: str) -> None:
    run = runs.load(directory)
    test, predict = run.data["test"], run.experiment.predict
    assert predict is not None
    predictions = np.asarray(jax.jit(predict)(run.state, run.data, test["params"]))
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axis.scatter(np.asarray(test["accuracy"]), predictions, s=5, color=color, alpha=0.5)
    axis.set_xlim(0, 0.9)
    axis.set_ylim(0, 0.9)
    axis.set_xlabel("test accuracy")
    axis.set_ylabel("predicted")
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
