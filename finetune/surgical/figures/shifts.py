"""Figure of table shifts: accuracies by tuned block."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from finetune.surgical.bar_pages import bar_page
from finetune.surgical.tables.shifts import NONE, SHIFTS, WAYS

COLORS = dict(
    zip(
        (NONE, *WAYS),
        ("0.7", "tab:blue", "tab:cyan", "tab:green", "tab:orange", "tab:red"),
        strict=True,
    )
)
LABEL, SIZE = "test accuracy (%)", (10, 4.5)


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a group of bars for every shift.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    columns = {way: way for way in COLORS}
    looks: dict[str, Any] = {"colors": COLORS, "label": LABEL, "size": SIZE}
    bar_page(data, out_path, rows=tuple(SHIFTS), columns=columns, **looks)
