"""Figure of table unsupervised: accuracies by tuned block."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from finetune.surgical.bar_pages import bar_page
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
    bar_page(
        data,
        out_path,
        rows=tuple(CHOICES),
        columns={kind: kind for kind in COLORS},
        colors=COLORS,
        label="accuracy (%)",
        size=(7, 4),
    )
