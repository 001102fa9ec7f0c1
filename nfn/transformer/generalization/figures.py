"""The figure of table "generalization": learning curves, and predictions against the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from nfn.tasks.figures import RunDirectories, draw_learning_curve, draw_predictions
from nfn.transformer.generalization.table import LARGEST, NFT, SIZES

COLORS = {"NFN_HNP": "#2f6db3", "NFN_NP": "#d9822b", "STATNN": "#6a6a6a", NFT: "#a3324b"}


def table_generalization(
    data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path
) -> None:
    """Draws tau against the number of training networks, and predictions of the largest size.

    Args:
        data: The table's JSON.
        run_directories: Run folders by (row, column) and seed.
        out_path: The PNG to write.
    """
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = ("NFN_HNP", "NFN_NP", NFT)
    figure, axes = plt.subplots(1, 1 + len(rows), figsize=(13, 3.6), layout="constrained")
    draw_learning_curve(axes[0], cells, COLORS, SIZES, published_at=12_000)
    for axis, row in zip(axes[1:], rows, strict=True):
        seed, directory = next(iter(run_directories[row, LARGEST].items()))
        draw_predictions(axis, directory, f"{row}, {SIZES[-1]} networks, seed {seed}", COLORS[row])
    figure.savefig(out_path, dpi=130)
    plt.close(figure)
