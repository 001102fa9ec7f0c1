"""Learning curves of Kendall's tau, and predictions against the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from nfn.tasks.figures import RunDirectories, draw_learning_curve, draw_predictions

COLORS = {"NFN_HNP": "#2f6db3", "NFN_NP": "#d9822b", "STATNN": "#6a6a6a"}


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
    draw_learning_curve(axes[0], cells, COLORS, sizes, published_at=12_000)
    for axis, row in zip(axes[1:], rows, strict=True):
        seed, directory = next(iter(run_directories[row, f"tau, {sizes[-1]}"].items()))
        draw_predictions(axis, directory, f"{row}, {sizes[-1]} networks, seed {seed}", COLORS[row])
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
            draw_predictions(
                axis, directory, f"{row}, {column.split(', ')[1]}, seed {seed}", COLORS[row]
            )
    figure.savefig(out_path, dpi=130)
    plt.close(figure)
