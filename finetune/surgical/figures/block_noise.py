"""Figure of table block_noise: a matrix of accuracies, noise by tuned block."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.figures import RunDirectories, cells, heading, page
from finetune.surgical.tables.block_noise import row_of
from finetune.surgical.tables.shifts import BLOCKS, NONE, WAYS


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws means over seeds; the diagonal is the block with the noise.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown, columns = cells(data), (*WAYS, NONE)
    means = np.asarray([[shown[row_of(b), way].mean for way in columns] for b in BLOCKS])
    with page(out_path, (6, 4)) as figure:
        axis = figure.subplots()
        axis.imshow(means, cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        axis.set_yticks(range(len(BLOCKS)), [row_of(block) for block in BLOCKS])
        for row, values in enumerate(means):
            for column, value in enumerate(values):
                color = "k" if value > means.mean() else "w"
                axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=color)
        figure.suptitle(heading(data), fontsize=10)
