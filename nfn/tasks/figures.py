"""Drawings of the tasks, for the figures of any paper: edited images, learning curves, tau."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from common import runs
from nfn.siren import render

RunDirectories = Mapping[tuple[str, str], Mapping[int, Path]]
EXAMPLES = (0, 7)  # test networks shown for every edit


def draw_editing(
    data: Mapping[str, Any],
    run_directories: RunDirectories,
    out_path: Path,
    *,
    edits: Sequence[str],
    rows: Sequence[str],
    colors: Mapping[str, str],
    published: str = "",
    height: float = 12,
) -> None:
    """Draws what every row shows for some test images, and the errors with their deviations.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
        edits: The columns.
        rows: Rows whose images are shown.
        colors: Color of every row that gets bars, in their order.
        published: What the published values are of, if there are any.
        height: Of the figure, in inches.
    """
    figure = plt.figure(figsize=(9, height), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=(height - 3.2, 3.4))
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    _images(top, rows, edits, run_directories)
    _errors(bottom.subplots(), data, edits, colors, published)
    figure.savefig(out_path, dpi=130)
    plt.close(figure)


def draw_learning_curve(
    axis: Axes,
    cells: Mapping[tuple[str, str], Any],
    colors: Mapping[str, str],
    sizes: Sequence[int],
    *,
    published_at: int,
) -> None:
    """Draws tau against the number of training networks, with the published values beside it."""
    for row, color in colors.items():
        values = [list(cells[row, f"tau, {size}"]["values"].values()) for size in sizes]
        mean = [np.mean(v) for v in values]
        spread = [np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values]
        axis.errorbar(sizes, mean, yerr=spread, marker="o", capsize=3, color=color, label=row)
        paper = cells[row, f"tau, {sizes[-1]}"]["paper"]
        if paper:
            axis.scatter([published_at], [paper["value"]], marker="_", s=180, color=color)
    axis.annotate("paper:\nCIFAR-10-GS", (published_at, 0.9), ha="center", va="top", fontsize=7)
    axis.set_xscale("log")
    axis.set_xlabel("training networks")
    axis.set_ylabel("Kendall's tau on test networks")
    axis.set_title("mean and standard deviation of the seeds", fontsize=9)
    axis.legend(fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def draw_predictions(axis: Axes, directory: Path, title: str, color: str) -> None:
    """Draws the predicted against the true accuracies of the test networks of one run."""
    run = runs.load(directory, allow_changed_code=True)
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


def _images(
    figure: SubFigure, rows: Sequence[str], edits: Sequence[str], run_directories: RunDirectories
) -> None:
    pictures = {edit: _pictures(edit, rows, run_directories) for edit in edits}
    shown = [row for row in rows if any(row in pictures[edit] for edit in edits)]
    labels = ("input", "target", *shown)
    grid = figure.subplots(len(labels), len(edits) * len(EXAMPLES))
    for place, edit in enumerate(edits):
        for line, label in zip(grid, labels, strict=True):
            for i, axis in enumerate(line[place * len(EXAMPLES) :][: len(EXAMPLES)]):
                axis.set_xticks([])
                axis.set_yticks([])
                if label in pictures[edit]:
                    axis.imshow(pictures[edit][label][i], cmap="gray", vmin=0, vmax=1)
                else:
                    axis.spines[:].set_visible(False)
                if label == "input" and i == 0:
                    axis.set_title(edit, fontsize=10, loc="left")
    for line, label in zip(grid, labels, strict=True):
        text = label.replace(", ", ",\n")
        line[0].set_ylabel(text, rotation=0, ha="right", va="center")
    figure.suptitle("Test images: the SIREN, the target, and what the edited weights show")


def _pictures(
    edit: str, rows: Sequence[str], run_directories: RunDirectories
) -> dict[str, np.ndarray]:
    """Returns pixels in [0, 1] of the examples by label, from the first seed of every row."""
    pictures: dict[str, np.ndarray] = {}
    for row in rows:
        folders = run_directories.get((row, edit))
        if not folders:
            continue
        run = runs.load(next(iter(folders.values())), allow_changed_code=True)
        section, test, chosen = run.config.data, run.data["test"], np.array(EXAMPLES)
        weights = jax.tree.map(lambda leaf, rows=chosen: leaf[rows], test["params"])
        shape = (len(EXAMPLES), section.size, section.size, -1)
        target = np.asarray(test["target"][chosen]).reshape(shape)
        pictures["target"] = np.clip(target / 2 + 0.5, 0, 1).squeeze(-1)
        pictures["input"] = render(weights, section.size, omega=section.omega)
        pictures[row] = render(run.predict(weights), section.size, omega=section.omega)
    return pictures


def _errors(
    axis: Axes,
    data: Mapping[str, Any],
    edits: Sequence[str],
    colors: Mapping[str, str],
    published: str,
) -> None:
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    width, places = 0.84 / len(colors), np.arange(len(edits))
    for i, (row, color) in enumerate(colors.items()):
        known = [cells.get((row, edit), {"values": {}, "paper": None}) for edit in edits]
        values = [list(cell["values"].values()) for cell in known]
        means = [np.mean(v) if v else np.nan for v in values]
        spread = [np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values]
        x = places + (i - (len(colors) - 1) / 2) * width
        axis.bar(x, means, width, yerr=spread, capsize=2, color=color, label=row)
        marks = [(a, c["paper"]["value"]) for a, c in zip(x, known, strict=True) if c["paper"]]
        label = f"paper ({published})" if row == "NFN_NP" else None
        if marks:
            axis.scatter(
                *zip(*marks, strict=True), marker="_", s=90, color="black", zorder=3, label=label
            )
    axis.set_yscale("log")
    axis.set_xticks(places, list(edits))
    axis.set_ylabel("mean square error")
    axis.set_title(
        f"{data['title']} (preset {data['preset']}, mean and standard deviation, "
        f"n = {len(data['seeds'])})",
        fontsize=9,
    )
    axis.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axis.spines[["top", "right"]].set_visible(False)
