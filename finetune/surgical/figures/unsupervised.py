"""Figure of table unsupervised: accuracies by tuned block."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, bars, cells, heading, legend_below, page
from finetune.surgical.streams import CHOICES
from finetune.surgical.tables.unsupervised import EPISODIC, ONLINE

COLORS = {EPISODIC: "tab:blue", ONLINE: "tab:orange"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a group of bars for every choice of blocks.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)
    series = {kind: [shown[row, kind] for row in CHOICES] for kind in COLORS}
    with page(out_path, (7, 4)) as figure:
        axis = figure.subplots()
        bars(axis, list(CHOICES), series, COLORS)
        axis.set(ylabel="accuracy (%)")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
