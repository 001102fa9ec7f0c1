"""The figure of the ablations: accuracy by what is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, cells, page, rows
from nfn.tasks.figures import draw_accuracies

CHANCE = "Chance"


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the accuracies on training and test networks; it needs no run."""
    del run_directories
    shown = [row for row in rows(data) if row != CHANCE]
    with page(out_path, (9, 3.4)) as figure:
        axis = figure.subplots()
        draw_accuracies(axis, data, shown, ("train %", "test %"), published="")
        chance = cells(data)[CHANCE, "test %"].mean
        axis.axvline(chance, color="gray", linestyle=":", label="chance")
        axis.legend(fontsize=8, loc="upper right")
