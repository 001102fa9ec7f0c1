"""Drawings of surfaces: contours, reliefs, lines with two scales, paths of optimizers.

Each draws into an axis or a part of a page (`common.figures.page`). The first direction runs to the
right, the second upward.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from landscape.grids import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure, SubFigure

LEVELS = np.arange(0.1, 10, 0.5)  # Li et al. (2018), released code, plot_2D.py
FILLED = "viridis"  # colors between contours
LOSS_COLOR, ACCURACY_COLOR = "tab:blue", "tab:red"


def contours(
    axis: "Axes",
    surface: Surface,
    *,
    name: str = "loss",
    levels: Sequence[float] | np.ndarray = LEVELS,
    labels: bool = True,
    **look: Any,
) -> "QuadContourSet":
    """Draws lines of equal value, with the value on them.

    Raises:
        ValueError: If the surface is no plane, or has no values of this name.
    """
    x, y, z = _plane(surface, name)
    look = {"cmap": "summer", "linewidths": 0.8, **look}
    drawn = axis.contour(x, y, z, levels=levels, **look)
    if labels:
        axis.clabel(drawn, fontsize=6, fmt="%.4g")
    return drawn


def filled_contours(
    axis: "Axes",
    surface: Surface,
    *,
    name: str = "loss",
    low: float = 0.1,
    high: float = 10.0,
    num_levels: int = 25,
    log: bool = True,
) -> "QuadContourSet":
    """Draws values as colors between `low` and `high`, which are the ends of the scale.

    Raises:
        ValueError: If the surface is no plane, or has no values of this name.
    """
    from matplotlib import colors

    x, y, z = _plane(surface, name)
    scale = np.geomspace(low, high, num_levels) if log else np.linspace(low, high, num_levels)
    norm = colors.LogNorm(low, high) if log else colors.Normalize(low, high)
    clipped = np.clip(z, low, high)
    return axis.contourf(x, y, clipped, levels=scale, norm=norm, cmap=FILLED, extend="neither")


def levels_of(values: Float[np.ndarray, "n m"], count: int = 12) -> Float[np.ndarray, " levels"]:
    """Returns levels of contours for any loss: they rise ever faster above its lowest point.

    The highest is that above nine tenths of the points.

    Raises:
        ValueError: If fewer than two values are finite, or all are the same.
    """
    known = values[np.isfinite(values)]
    low, high = (known.min(), np.quantile(known, 0.9)) if known.size else (0.0, 0.0)
    if not high > low:
        raise ValueError("the surface is flat: there are no contours")
    return low + np.geomspace(1e-3 * (high - low), high - low, count)


def plane(
    figure: "Figure",
    surface: Surface,
    *,
    name: str = "loss",
    title: str = "",
    facts: Mapping[str, str] | None = None,
    steps: Float[np.ndarray, "steps 2"] | None = None,
) -> "Axes":
    """Draws a plane of any loss: colors, contours, the point it goes through; below, what it shows.

    Args:
        figure: A page of its own.
        surface: The plane.
        name: Of the values.
        title: Above it.
        facts: What one has to know to read it, each a line: the data, the directions, what is done
            with statistics of batch normalization.
        steps: Path of an optimizer on the plane.

    Raises:
        ValueError: If the surface is no plane, is flat, or has no values of this name.
    """
    from matplotlib import colors

    x, y, z = _plane(surface, name)
    levels = levels_of(plane_values(surface, name))
    axis = figure.subplots()
    norm = colors.BoundaryNorm(levels, 256, extend="both")
    drawn = axis.contourf(x, y, z, levels=levels, norm=norm, cmap=FILLED, extend="both")
    figure.colorbar(drawn, ax=axis, format="%.3g", label=name)
    contours(axis, surface, name=name, levels=levels, cmap=None, colors="white", linewidths=0.5)
    if steps is not None:
        path(axis, steps, color="black")
    axis.plot(0, 0, "r+", markersize=8)
    axis.set_title(title, fontsize=9)
    lines = "\n".join(f"{what}: {fact}" for what, fact in (facts or {}).items())
    figure.supxlabel(lines, fontsize=7, x=0.02, ha="left")
    return axis


def relief(
    part: "Figure | SubFigure",
    surface: Surface,
    *,
    name: str = "loss",
    ceiling: float = 10.0,
    log: bool = False,
    place: Any = 111,
) -> "Axes":
    """Draws a surface in three dimensions, cut off at `ceiling`; `log` shows log(z + 0.1).

    Raises:
        ValueError: If the surface is no plane, or has no values of this name.
    """
    x, y, z = _plane(surface, name)
    axis: Any = part.add_subplot(place, projection="3d")
    height = np.minimum(z, ceiling)
    height = np.log(height + 0.1) if log else height
    axis.plot_surface(x, y, height, cmap="coolwarm", rstride=1, cstride=1, linewidth=0)
    axis.set_zlabel(f"log({name} + 0.1)" if log else name)
    return axis


def line(
    axis: "Axes",
    surfaces: Mapping[str, Surface],
    *,
    highest_loss: float = 5.0,
    styles: Sequence[str] = ("-", "--", ":", "-."),
) -> "Axes":
    """Draws loss on the left scale and accuracy in percent on the right one, along one direction.

    Args:
        axis: Where to draw.
        surfaces: Lines by name, such as "train" and "test": solid, dashed, and so on.
        highest_loss: The end of the left scale.
        styles: Of the lines.

    Returns:
        The axis on the right.

    Raises:
        ValueError: If a surface is no line.
    """
    right: Axes = axis.twinx()  # type: ignore[assignment]
    for style, (title, surface) in zip(styles, surfaces.items(), strict=False):
        if len(surface.axes) != 1:
            raise ValueError(f"{title}: a surface of {len(surface.axes)} directions, no line")
        look = {"linestyle": style, "lw": 1.2}
        loss = np.where(np.isinf(surface.values["loss"]), 1e30, surface.values["loss"])
        axis.plot(surface.axes[0], loss, color=LOSS_COLOR, label=title, **look)
        if "accuracy" in surface.values:
            right.plot(surface.axes[0], surface.values["accuracy"], color=ACCURACY_COLOR, **look)
    axis.set_ylim(0, highest_loss)
    axis.set_ylabel("loss", color=LOSS_COLOR)
    right.set_ylim(0, 100)
    right.set_ylabel("accuracy in %", color=ACCURACY_COLOR)
    right.spines["right"].set_visible(True)
    return right


def path(
    axis: "Axes",
    coordinates: Float[np.ndarray, "steps 2"],
    *,
    drops: Sequence[int] = (),
    color: str = "tab:blue",
) -> None:
    """Draws the path of an optimizer over contours; `drops` are where its step size drops."""
    x, y = coordinates.T
    axis.plot(x, y, marker=".", color=color, lw=1, markersize=3)
    axis.plot(x[list(drops)], y[list(drops)], ".", color="tab:red", markersize=8)
    axis.plot(x[-1:], y[-1:], "*", color="black", markersize=8)


def _plane(surface: Surface, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns coordinates and values as matplotlib has them: rows along the second direction."""
    values = plane_values(surface, name)
    x, y = np.meshgrid(*surface.axes, indexing="xy")
    return x, y, np.where(np.isinf(values), 1e30, values).T


def plane_values(surface: Surface, name: str) -> np.ndarray:
    """Returns the values of this name over a plane.

    Raises:
        ValueError: If the surface is no plane, or has no values of this name.
    """
    if len(surface.axes) != 2:
        raise ValueError(f"a surface of {len(surface.axes)} directions: expected a plane")
    if name not in surface.values:
        raise ValueError(f"no values {name!r}: the surface has {', '.join(surface.values)}")
    return surface.values[name]
