"""Figure of table calibration: coverage before and after updates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, cells, page
from sciml.probconserv.figures.shown import COLORS
from sciml.probconserv.rows import ANP, COVERAGE, DIFFUSED, PROBCONSERV


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the coverage of the central 90 % on every conservation law, each seed as a point."""
    del run_directories
    shown = cells(data)
    places = list(dict.fromkeys(place for _, place in shown if place.endswith(COVERAGE)))
    with page(out_path, (9, 3.6), dpi=110) as figure:
        axis = figure.subplots()
        for shift, row in zip((-0.2, 0.0, 0.2), (ANP, PROBCONSERV, DIFFUSED), strict=True):
            for number, place in enumerate(places):
                values = shown[row, place].values
                label = row if number == 0 else None
                axis.plot(
                    [number + shift] * len(values), values, "o", color=COLORS[row], label=label
                )
        axis.axhline(0.9, color="black", lw=0.8)
        names = [place.removesuffix(f", {COVERAGE}") for place in places]
        axis.set_xticks(range(len(places)), names, fontsize=8)
        axis.set_ylabel("share of truths in the central 90 %")
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
