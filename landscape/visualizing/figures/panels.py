"""Panels that both figures have: contours of many planes on one scale of colors."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.config import load_config
from landscape import figures
from landscape.grids import Surface
from landscape.visualizing.measures import Trained, trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LOWEST, HIGHEST = 0.01, 1_000  # loss at the ends of the scale, the same in every panel
LEVELS = np.geomspace(LOWEST, HIGHEST, 21)


def networks(
    data: Mapping[str, Any], variant: str, overrides: Mapping[str, Any] | None = None
) -> Trained:
    """Returns the networks of a row at the first seed of a table, from the cache as a rule.

    Args:
        data: The table's JSON.
        variant: Argument of its config file after the preset.
        overrides: Fields of its config that are others.
    """
    fields = {name: str(value) for name, value in (overrides or {}).items()}
    spec = f"{Path(data['config'])}:{data['preset']},{variant}"
    return trained(load_config(spec, {**fields, "seed": str(data["seeds"][0])}))


def contours(axis: "Axes", plane: Surface, *, title: str) -> None:
    """Draws the loss over a plane, filled, on a logarithmic scale that all panels share."""
    figures.filled_contours(axis, plane, low=LOWEST, high=HIGHEST, num_levels=len(LEVELS))
    look = {"cmap": None, "colors": "white", "linewidths": 0.4}
    figures.contours(axis, plane, levels=LEVELS[2:-1:2], labels=False, **look)
    axis.plot(0, 0, "r+", markersize=5)
    axis.set_title(title, fontsize=8)
    axis.set_aspect("equal")
    axis.tick_params(labelsize=7)


def scale(figure: "Figure | SubFigure", axes: Any) -> None:
    """Draws the scale of colors that all panels share."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    colors = ScalarMappable(LogNorm(LOWEST, HIGHEST), figures.FILLED)
    figure.colorbar(colors, ax=axes, label="training loss", shrink=0.8)
