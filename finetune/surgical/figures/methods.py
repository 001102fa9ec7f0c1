"""Figure of table methods: accuracies of every way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, bars, cells, heading, legend_below, page
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
    shown, ways = cells(data), list(NAMES.values())
    series = {name: [shown[way, name] for way in ways] for name in SHOWN}
    with page(out_path, (7, 6)) as figure:
        axis = figure.subplots()
        bars(axis, ways, series, COLORS, horizontal=True)
        axis.set(xlabel="test accuracy (%)")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
