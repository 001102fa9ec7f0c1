"""Figure of table shifts: accuracies by tuned block."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, bars, cells, heading, legend_below, page
from finetune.surgical.tables.shifts import NONE, SHIFTS, WAYS

COLORS = dict(
    zip(
        (NONE, *WAYS),
        ("0.7", "tab:blue", "tab:cyan", "tab:green", "tab:orange", "tab:red"),
        strict=True,
    )
)


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws a group of bars for every shift.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)
    series = {way: [shown[name, way] for name in SHIFTS] for way in COLORS}
    with page(out_path, (10, 4.5)) as figure:
        axis = figure.subplots()
        bars(axis, list(SHIFTS), series, COLORS)
        axis.set(ylabel="test accuracy (%)")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
