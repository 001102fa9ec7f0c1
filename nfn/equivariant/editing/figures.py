"""The figure of Table 6: edited test images of every row, and the errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from common import runs
from nfn.equivariant.editing.table import DO_NOTHING, IMAGE_COLUMNS, MOVING_COLUMNS, ROWS
from nfn.siren import render

EDITS = (*IMAGE_COLUMNS, *MOVING_COLUMNS)
EXAMPLES = (0, 7)  # test networks shown for every edit
COLORS = {
    DO_NOTHING: "#d9d9d9",
    "MLP": "#b8a8c8",
    "MLP_Aug": "#8f7aa8",
    "NFN_PT": "#e08a3c",
    "NFN_HNP": "#6aa56e",
    "NFN_NP": "#2f6db3",
    "NFN_NP, canonical": "#173a63",
}


def table_6(
    data: Mapping[str, Any],
    run_directories: Mapping[tuple[str, str], Mapping[int, Path]],
    out_path: Path,
) -> None:
    """Draws what every row shows for some test images, and the errors with their deviations.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    figure = plt.figure(figsize=(9, 12), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=(9, 3.4))
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    labels = ("input", "target", *ROWS)
    grid = top.subplots(len(labels), len(EDITS) * len(EXAMPLES))
    for place, edit in enumerate(EDITS):
        pictures = _pictures(edit, run_directories)
        for row, label in zip(grid, labels, strict=True):
            for i, axis in enumerate(row[place * len(EXAMPLES) :][: len(EXAMPLES)]):
                axis.set_xticks([])
                axis.set_yticks([])
                if label in pictures:
                    axis.imshow(pictures[label][i], cmap="gray", vmin=0, vmax=1)
                if label == "input" and i == 0:
                    axis.set_title(edit, fontsize=10, loc="left")
    for row, label in zip(grid, labels, strict=True):
        row[0].set_ylabel(label.replace(", ", ",\n"), rotation=0, ha="right", va="center")
    top.suptitle("Test images: the SIREN, the target, and what the edited weights show")
    _bars(bottom.subplots(), data)
    figure.savefig(out_path, dpi=130)
    plt.close(figure)


def _pictures(
    edit: str, run_directories: Mapping[tuple[str, str], Mapping[int, Path]]
) -> dict[str, np.ndarray]:
    """Returns pixels in [0, 1] of the examples by label, from the first seed of every row."""
    pictures: dict[str, np.ndarray] = {}
    for row in ROWS:
        folders = run_directories.get((row, edit))
        if not folders:
            continue
        run = runs.load(next(iter(folders.values())))
        section, test, chosen = run.config.data, run.data["test"], np.array(EXAMPLES)
        weights = jax.tree.map(lambda leaf, rows=chosen: leaf[rows], test["params"])
        shape = (len(EXAMPLES), section.size, section.size, -1)
        target = np.asarray(test["target"][chosen]).reshape(shape)
        pictures["target"] = np.clip(target / 2 + 0.5, 0, 1).squeeze(-1)
        pictures["input"] = render(weights, section.size, omega=section.omega)
        pictures[row] = render(run.predict(weights), section.size, omega=section.omega)
    return pictures


def _bars(axis: Axes, data: Mapping[str, Any]) -> None:
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    width, places = 0.12, np.arange(len(EDITS))
    for i, (row, color) in enumerate(COLORS.items()):
        values = [list(cells[row, edit]["values"].values()) for edit in EDITS]
        means = [np.mean(v) if v else np.nan for v in values]
        spread = [np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in values]
        x = places + (i - 3) * width
        axis.bar(x, means, width, yerr=spread, capsize=2, color=color, label=row)
        published = [cells[row, edit]["paper"] for edit in EDITS]
        known = [(a, p["value"]) for a, p in zip(x, published, strict=True) if p]
        label = "paper (MNIST, CIFAR-10)" if row == "NFN_NP" else None
        if known:
            axis.scatter(
                *zip(*known, strict=True), marker="_", s=90, color="black", zorder=3, label=label
            )
    axis.set_yscale("log")
    axis.set_xticks(places, EDITS)
    axis.set_ylabel("mean square error")
    axis.set_title(
        f"{data['title']} (preset {data['preset']}, mean and standard deviation, "
        f"n = {len(data['seeds'])})",
        fontsize=9,
    )
    axis.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axis.spines[["top", "right"]].set_visible(False)
