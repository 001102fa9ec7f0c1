"""Figure of table images: ranks by block, active units and transfer against the radius."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.figures import RunDirectories, band, cells, heading, legend_below, page
from landscape.sam_rank.tables.images import (
    BLOCKS,
    KINDS,
    NEIGHBORS,
    PCA,
    POST,
    PRE,
    RANK,
    TRANSFER,
    at,
    on_for,
    rows_of,
)

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple")


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws means of both ResNets, with bands from the lowest to the highest seed.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    shown = cells(data)

    def line(axis: Any, kind: str, block: int, quantity: str, style: str, name: str) -> None:
        values = [shown[row, at(block, quantity)] for row in rows_of(kind)]
        look = {"ls": style, "marker": "o", "markersize": 3}
        band(axis, KINDS[kind].radii, values, name=name, color=COLORS[block - 1], **look)

    with page(out_path, (10, 9)) as figure:
        axes = figure.subplots(3, 2, sharex=True)
        for (ranks, units, transfer), kind in zip(axes.T, (PRE, POST), strict=True):
            for block in BLOCKS:
                line(ranks, kind, block, RANK, "-", f"block {block}")
                line(ranks, kind, block, PCA, ":", f"block {block}, PCA")
            for block in KINDS[kind].relu:
                line(units, kind, block, on_for(5), "-", f"block {block}")
            for block in TRANSFER:
                line(transfer, kind, block, NEIGHBORS, "-", f"block {block}")
            ranks.set(yscale="log", title=kind, ylabel="rank; dotted: PCA rank")
            units.set(yscale="log", ylabel=on_for(5))
            transfer.set(xlabel="radius rho", ylabel=NEIGHBORS)
        legend_below(figure)
        figure.suptitle(heading(data), fontsize=10)
