"""Figure of table methods: accuracies of every way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from finetune.surgical.bar_pages import bar_page
from finetune.surgical.tables.methods import NAMES, SHOWN

COLORS = dict(zip(SHOWN, ("tab:blue", "tab:orange"), strict=True))


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a group of horizontal bars for every way.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    bar_page(
        data,
        out_path,
        rows=tuple(NAMES.values()),
        columns={name: name for name in SHOWN},
        colors=COLORS,
        label="test accuracy (%)",
        size=(7, 6),
        horizontal=True,
    )
