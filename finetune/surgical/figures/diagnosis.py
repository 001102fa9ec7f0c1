"""Figure of table diagnosis: profiles of blocks over those of clean images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from finetune.surgical.bar_pages import bar_page
from finetune.surgical.tables.diagnosis import RATIO
from finetune.surgical.tables.shifts import BLOCKS, SHIFTS

COLORS = dict(zip(BLOCKS, ("tab:blue", "tab:cyan", "tab:green", "tab:orange"), strict=True))


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a group of bars for every shift.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    bar_page(
        data,
        out_path,
        rows=tuple(SHIFTS),
        columns={block: f"{block}, {RATIO}" for block in BLOCKS},
        colors=COLORS,
        label="relative gradient norm over clean images",
        size=(9, 4),
        level=1,
    )
