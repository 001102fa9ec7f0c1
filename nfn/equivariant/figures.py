"""Figures of the paper's tables that need no run; those of an experiment are in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

COLORS = {"NP": "#2f6db3", "HNP": "#e08a3c", "any linear map": "#b0b0b0"}


def table_1(
    data: Mapping[str, Any],
    run_directories: Mapping[tuple[str, str], Mapping[int, Path]],
    out_path: Path,
) -> None:
    """Draws the number of parameters of every layer beside that of an unconstrained one.

    Args:
        data: The table's JSON.
        run_directories: Not used.
        out_path: The PNG to write.
    """
    del run_directories
    counts = {
        (cell["row"], cell["column"]): next(iter(cell["values"].values()))
        for cell in data["cells"]
        if cell["values"]
    }
    rows = list(dict.fromkeys(row for row, _ in counts))
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    places = np.arange(len(rows))
    for offset, (column, color) in zip((-0.27, 0, 0.27), COLORS.items(), strict=True):
        values = [counts[row, column] for row in rows]
        axis.barh(places + offset, values, 0.26, color=color, label=column)
    axis.set_xscale("log")
    axis.set_yticks(places, rows)
    axis.invert_yaxis()
    axis.set_xlabel("parameters per pair of channels")
    axis.set_title(data["title"], fontsize=10)
    axis.legend(fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out_path, dpi=130)
    plt.close(figure)
