"""Drawings of the tasks, for the figures of any paper: images, edits, learning curves, tau."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from common.figures import (
    RunDirectories,
    Shown,
    bars,
    cells,
    curve,
    first_run,
    heading,
    page,
    picture,
    stacked,
)
from nfn.siren import render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

EXAMPLES = (0, 7)  # test networks shown for every edit
TRAIN_COLOR, TEST_COLOR = "#b9cbe0", "#2f6db3"
PUBLISHED_NETWORKS = 12_000  # for training, in the published tables of Kendall's tau


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
        published: What the legend calls published values, if there are any.
        height: Of the figure, in inches.
    """
    measured = cells(data)
    errors = {row: [measured.get((row, edit), Shown()) for edit in edits] for row in colors}
    with page(out_path, (9, height)) as figure:
        top, bottom = stacked(figure, (height - 3.2, 3.4))
        _edited_images(top, rows, edits, run_directories)
        axis = bottom.subplots()
        bars(axis, edits, errors, colors, width=0.84, published=published)
        axis.set_yscale("log")
        axis.set_ylabel("mean square error")
        axis.set_title(f"{heading(data)}: mean and standard deviation", fontsize=9)
        axis.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))


def draw_ranking(
    data: Mapping[str, Any],
    run_directories: RunDirectories,
    out_path: Path,
    *,
    colors: Mapping[str, str],
    sizes: Sequence[int],
    rows: Sequence[str],
) -> None:
    """Draws tau against the number of training networks, and predictions with the most of them.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
        colors: Color of every row of the learning curves.
        sizes: Numbers of training networks.
        rows: Rows whose predictions are shown.
    """
    measured = cells(data)
    with page(out_path, (13, 3.6)) as figure:
        first, *others = figure.subplots(1, 1 + len(rows))
        for row, color in colors.items():
            shown = [measured[row, f"tau, {size}"] for size in sizes]
            curve(first, sizes, shown, name=row, color=color)
            if shown[-1].published is not None:
                place = ([PUBLISHED_NETWORKS], [shown[-1].published])
                first.scatter(*place, marker="_", s=180, color=color)
        place = (PUBLISHED_NETWORKS, 0.9)
        first.annotate("paper:\nCIFAR-10-GS", place, ha="center", va="top", fontsize=7)
        first.set_xscale("log")
        first.set_xlabel("training networks")
        first.set_ylabel("Kendall's tau on test networks")
        first.set_title("mean and standard deviation of the seeds", fontsize=9)
        first.legend(fontsize=8)
        for axis, row in zip(others, rows, strict=True):
            what, cell = f"{sizes[-1]} networks", (row, f"tau, {sizes[-1]}")
            draw_predictions(axis, run_directories, cell, what, colors[row])


def draw_predictions(
    axis: "Axes", run_directories: RunDirectories, cell: tuple[str, str], what: str, color: str
) -> None:
    """Draws the predicted against the true accuracies of the test networks of a cell's run."""
    run = first_run(run_directories, *cell)
    test = run.data["test"]
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axis.scatter(
        np.asarray(test["accuracy"]), run.predict(test["params"]), s=5, color=color, alpha=0.5
    )
    axis.set_xlim(0, 0.9)
    axis.set_ylim(0, 0.9)
    axis.set_xlabel("test accuracy")
    axis.set_ylabel("predicted")
    axis.set_title(f"{cell[0]}, {what}, seed {run.seed}", fontsize=9)


def draw_accuracies(
    axis: "Axes",
    data: Mapping[str, Any],
    rows: Sequence[str],
    columns: tuple[str, str],
    *,
    published: str,
) -> None:
    """Draws accuracies on training and test networks as horizontal bars, in percent.

    Args:
        axis: Where.
        data: The table's JSON.
        rows: Rows to show.
        columns: Those of the training and of the test accuracy.
        published: What the legend calls published values.
    """
    measured = cells(data)
    spread = f"(mean and standard deviation, n = {len(data['seeds'])})"
    bars(
        axis,
        rows,
        {column: [measured[row, column] for row in rows] for column in columns},
        dict(zip(columns, (TRAIN_COLOR, TEST_COLOR), strict=True)),
        horizontal=True,
        labels={column: f"{column.removesuffix(' %')} {spread}" for column in columns},
        published=published,
    )
    axis.set_xlim(0, 155)  # room for the legend
    axis.set_xticks(range(0, 101, 20))
    axis.set_xlabel("accuracy / %")
    axis.set_title(f"{data['title']} (preset {data['preset']})", fontsize=10)
    axis.legend(fontsize=8, loc="upper right")


def draw_pictures(
    figure: "Figure | SubFigure", title: str, lines: Sequence[tuple[str, np.ndarray]]
) -> None:
    """Draws a line of images in [0, 1] for every (label, images), the label to the left."""
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(lines), max(len(images) for _, images in lines), squeeze=False)
    for line, (label, images) in zip(axes, lines, strict=True):
        for axis, image in zip(line, images, strict=True):
            picture(axis, image)
        _label(line[0], label, fontsize=7)


def _label(axis: "Axes", label: str, **look: Any) -> None:
    axis.set_ylabel(label.replace(", ", ",\n"), rotation=0, ha="right", va="center", **look)


def _edited_images(
    figure: "SubFigure", rows: Sequence[str], edits: Sequence[str], run_directories: RunDirectories
) -> None:
    pictures = {edit: _pictures(edit, rows, run_directories) for edit in edits}
    shown = [row for row in rows if any(row in pictures[edit] for edit in edits)]
    labels = ("input", "target", *shown)
    grid = figure.subplots(len(labels), len(edits) * len(EXAMPLES))
    for line, label in zip(grid, labels, strict=True):
        _label(line[0], label)
        for axis, (edit, i) in zip(line, product(edits, range(len(EXAMPLES))), strict=True):
            if label in pictures[edit]:
                picture(axis, pictures[edit][label][i])
            else:
                axis.spines[:].set_visible(False)
                axis.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
            if label == "input" and i == 0:
                axis.set_title(edit, fontsize=10, loc="left")
    figure.suptitle("Test images: the SIREN, the target, and what the edited weights show")


def _pictures(
    edit: str, rows: Sequence[str], run_directories: RunDirectories
) -> dict[str, np.ndarray]:
    """Returns pixels in [0, 1] of the examples by label, from the first seed of every row."""
    pictures: dict[str, np.ndarray] = {}
    for row in rows:
        if not run_directories.get((row, edit)):
            continue
        run = first_run(run_directories, row, edit)
        section, test, chosen = run.config.data, run.data["test"], np.array(EXAMPLES)
        weights = jax.tree.map(lambda leaf, rows=chosen: leaf[rows], test["params"])
        shape = (len(EXAMPLES), section.size, section.size, -1)
        target = np.asarray(test["target"][chosen]).reshape(shape)
        pictures["target"] = np.clip(target / 2 + 0.5, 0, 1).squeeze(-1)
        pictures["input"] = render(weights, section.size, omega=section.omega)
        pictures[row] = render(run.predict(weights), section.size, omega=section.omega)
    return pictures
