"""Figure of table clipped: every seed, with and without clipped gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.figures import RunDirectories, heading, page, rows
from sciml.boon.figures.panels import COLORS
from sciml.boon.rows import ERROR, TITLES, column
from sciml.boon.tables.clipped import PDES

ABOUT = {"fontsize": 8}


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the errors of all seeds, those of a seed joined by a line; it needs no run."""
    del run_directories
    seeds = {(cell["row"], cell["column"]): cell["values"] for cell in data["cells"]}
    names = rows(data)
    pdes = [pde for pde in PDES if (names[0], column(pde, ERROR)) in seeds]  # one in full
    with page(out_path, (4.5 * len(pdes), 4.5), dpi=120) as figure:
        axes = np.ravel(figure.subplots(1, len(pdes)))
        for axis, pde in zip(axes, pdes, strict=True):
            values = np.array([list(seeds[name, column(pde, ERROR)].values()) for name in names])
            axis.plot(values, color="#dddddd", linewidth=1, zorder=0)
            for place, (name, of_row) in enumerate(zip(names, values, strict=True)):
                axis.scatter(np.full(len(of_row), place), of_row, color=COLORS[name], s=24)
            labels = [name.replace(", ", ",\n") for name in names]
            axis.set_xticks(range(len(names)), labels, **ABOUT)
            axis.set_xlim(-0.5, len(names) - 0.5)
            axis.set_yscale("log")
            axis.set_ylabel(f"{ERROR} of a seed", **ABOUT)
            axis.set_title(TITLES[pde], fontsize=10)
        figure.suptitle(heading(data), fontsize=10)
