"""The figure of Table 1: parameters of every layer beside those of an unconstrained one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, bars, cells, page, rows

COLORS = {"NP": "#2f6db3", "HNP": "#e08a3c", "any linear map": "#b0b0b0"}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the numbers of parameters on a logarithmic scale; it needs no run."""
    del run_directories
    counts, spaces = cells(data), rows(data)
    series = {column: [counts[space, column] for space in spaces] for column in COLORS}
    with page(out_path, (9, 4)) as figure:
        axis = figure.subplots()
        bars(axis, spaces, series, COLORS, horizontal=True)
        axis.set_xscale("log")
        axis.set_xlabel("parameters per pair of channels")
        axis.set_title(data["title"], fontsize=10)
        axis.legend(fontsize=8)
