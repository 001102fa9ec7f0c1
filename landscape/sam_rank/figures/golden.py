"""Figure of table golden: our ranks, units and losses over the authors' recorded ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, cells, heading, legend_below, page
from landscape.sam_rank.figures.two_layer import COLORS
from landscape.sam_rank.tables.two_layer import ACTIVE, RANK, TEST, series


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws every run as a point, and the diagonal of equal numbers.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)
    with page(out_path, (10, 3.6)) as figure:
        for axis, column in zip(figure.subplots(1, 3), (RANK, ACTIVE, TEST), strict=True):
            for color, (name, rows) in zip(COLORS, series().items(), strict=True):
                runs = [shown[row, column] for row in rows.values()]
                known = [one.published for one in runs]
                axis.scatter(known, [one.mean for one in runs], s=16, color=color, label=name)
            ends = axis.get_xlim()
            axis.plot(ends, ends, color="black", lw=0.6, zorder=0)
            axis.set(xlabel=f"{column}, recorded", ylabel=f"{column}, ours")
            if column == TEST:
                axis.set(xscale="log", yscale="log")
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
