"""Figure of the contrastive towers: rank against radius and depth, and retrieval against rank."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.figures import RunDirectories, Shown, cells, curve, heading, page, rows
from landscape.sam_rank.contrastive.published import PLACES
from landscape.sam_rank.tables.contrastive import (
    ADAM,
    BEFORE,
    HEADS,
    RETRIEVAL,
    SIGNS,
    inside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")
KINDS = {f"{ADAM}, rho": "o", f"{ADAM}, bottleneck": "s", f"{SIGNS}, rho": "^"}
Found = dict[tuple[str, str], Shown]


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws means with standard deviations over seeds.

    Args:
        data: The table's JSON.
        run_directories: Not used: everything is in the table.
        out_path: The PNG to write.
    """
    del run_directories
    found = cells(data)
    sam = [row for row in rows(data) if row.startswith(f"{ADAM}, rho")]
    with page(out_path, (15, 4.2)) as figure:
        ends, depth, retrieval = figure.subplots(1, 3)
        radii = [float(row.rpartition(" ")[2]) for row in sam]
        for color, end in zip(COLORS, (*HEADS, *BEFORE), strict=False):
            curve(ends, radii, [found[row, f"{end}, rank"] for row in sam], name=end, color=color)
        ends.set(xlabel="radius rho", ylabel="rank", ylim=(0, None))
        _by_depth(depth, found, sam[0], sam[-1])
        _by_rank(retrieval, found, rows(data))
        for axis in (ends, depth, retrieval):
            axis.legend(fontsize=7)
        figure.suptitle(heading(data), fontsize=10)


def _by_depth(axis: "Axes", found: Found, plain: str, last: str) -> None:
    """Draws which share of the plain rank every place of every layer keeps."""
    prefix = f"{PLACES[-1]}, rank in layer "
    layers = [int(name.removeprefix(prefix)) for row, name in found if name.startswith(prefix)]
    layers = sorted(set(layers))
    for color, name in zip(COLORS, PLACES, strict=True):
        at = [inside(name, layer) for layer in layers]
        kept = [found[last, x].mean / found[plain, x].mean for x in at]
        axis.plot(layers, kept, marker="o", markersize=3, color=color, label=name)
    axis.set(xlabel="layer", ylabel=f"rank: {last.rpartition(', ')[2]} / rho = 0", xticks=layers)


def _by_rank(axis: "Axes", found: Found, names: list[str]) -> None:
    """Draws a point for every row; bottlenecks and radii are told apart by their marks."""
    for color, (kind, mark) in zip(COLORS, KINDS.items(), strict=False):
        chosen = [name for name in names if name.startswith(kind)]
        x, y = ([found[row, at] for row in chosen] for at in (f"{HEADS[0]}, rank", RETRIEVAL))
        axis.errorbar(
            [cell.mean for cell in x],
            [cell.mean for cell in y],
            xerr=[cell.spread for cell in x],
            yerr=[cell.spread for cell in y],
            fmt=mark,
            capsize=2,
            color=color,
            label=kind,
        )
        for row, a, b in zip(chosen, x, y, strict=True):
            axis.annotate(row.rpartition(" ")[2], (a.mean, b.mean), fontsize=7)
    axis.set(xlabel=f"rank, {HEADS[0]}", ylabel="retrieval, percent of 128")
