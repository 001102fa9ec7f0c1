"""Figure of table published: accuracies by tuned block."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories
from finetune.surgical.bar_pages import bar_page
from finetune.surgical.figures.shifts import COLORS, LABEL, SIZE
from finetune.surgical.tables.published import SHIFTS, STATISTICS

WITH_STATISTICS = {**COLORS, STATISTICS: "0.4"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a group of bars for every shift.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    columns = {way: way for way in WITH_STATISTICS}
    looks: dict[str, Any] = {"colors": WITH_STATISTICS, "label": LABEL, "size": SIZE}
    bar_page(data, out_path, rows=tuple(SHIFTS), columns=columns, **looks)
