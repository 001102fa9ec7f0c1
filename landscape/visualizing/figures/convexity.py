"""Figure of table convexity: maps of the spectrum on contours, and what ten planes come to."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.figures import RunDirectories, cells, heading, page, rows, stacked
from landscape import figures
from landscape.grids import Surface
from landscape.visualizing.convexity import spectrum_map
from landscape.visualizing.figures.panels import LEVELS, networks
from landscape.visualizing.measures import planes
from landscape.visualizing.tables.convexity import OF_TEN, SPECTRUM, of_ten
from landscape.visualizing.tables.depth import VARIANTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIGHEST = 0.5  # of |lambda_min / lambda_max|, as in the released code


def draw(data: Mapping[str, Any], run_directories: RunDirectories, out_path: Path) -> None:
    """Draws the map of every network of the first seed, and the range of ten planes of all seeds.

    Args:
        data: The table's JSON.
        run_directories: Not used: maps and surfaces are in the cache, as the cells left them.
        out_path: The PNG to write.
    """
    del run_directories
    names, shown = rows(data), cells(data)
    with page(out_path, (11, 7), dpi=120) as figure:
        top, bottom = stacked(figure, (1.5, 1))
        axes = top.subplots(1, len(names))
        for axis, row in zip(axes, names, strict=True):
            found = networks(data, VARIANTS[row], SPECTRUM)
            colors = _map(axis, spectrum_map(found, found.run.state))
            picture = planes(found, found.run.state)[0]
            look = {"cmap": None, "colors": "white", "linewidths": 0.6}
            figures.contours(axis, picture, levels=LEVELS[2:-1:2], labels=False, **look)
            axis.set_title(row, fontsize=9)
        top.colorbar(colors, ax=axes, label="|λmin / λmax|", shrink=0.8)
        top.suptitle(heading(data), fontsize=10)
        for axis, what in zip(bottom.subplots(1, len(OF_TEN)), OF_TEN, strict=True):
            for place, row in enumerate(names):
                numbers = {s: shown[row, of_ten(s, what)] for s in ("least", "mean", "most")}
                for seed in range(len(data["seeds"])):
                    low, mean, high = (shown.values[seed] for shown in numbers.values())
                    x = place + 0.15 * (seed - 1)
                    axis.plot([x, x], [low, high], color="#2f6db3", lw=3, alpha=0.4)
                    axis.plot(x, mean, "o", color="#2f6db3", markersize=4)
            axis.set_xticks(range(len(names)), [row.replace(", ", ",\n") for row in names])
            axis.tick_params(labelsize=8)
            axis.set_title(f"{what}: least, mean and most of ten planes, by seed", fontsize=8)


def _map(axis: "Axes", found: Surface) -> Any:
    """Draws the ratio at the points of a map, as squares around them."""
    ratio = np.clip(found.values["ratio"], 0, HIGHEST).T
    look: dict[str, Any] = {"cmap": figures.FILLED, "vmin": 0, "vmax": HIGHEST}
    axis.set_aspect("equal")
    axis.tick_params(labelsize=7)
    return axis.pcolormesh(*found.axes, ratio, shading="nearest", **look)
