"""Figure of table diagnosis: profiles of blocks over those of clean images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, bars, cells, heading, legend_below, page
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
    shown = cells(data)
    series = {b: [shown[name, f"{b}, {RATIO}"] for name in SHIFTS] for b in BLOCKS}
    with page(out_path, (9, 4)) as figure:
        axis = figure.subplots()
        bars(axis, list(SHIFTS), series, COLORS)
        axis.axhline(1, color="0.7", lw=0.8)
        axis.set(yscale="log", ylabel="relative gradient norm over clean images")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
