"""Numbers of a surface, for what a picture shows: convexity, minima, basins, widths, roughness.

All take the values of a line or plane as one array, axis i along direction i, in NumPy. Points that
are not done (NaN) or where the loss is infinite are part of no basin and have no curvature.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

ROUNDING = 8 * 2.0**-23  # of losses computed in float32, relative


class Persistence(NamedTuple):
    """The minima of a surface, the deepest first.

    Attributes:
        births: The value at each minimum.
        deaths: The lowest value at which its basin touches that of a deeper one; infinity of the
            deepest.
    """

    births: Float[np.ndarray, " minima"]
    deaths: Float[np.ndarray, " minima"]


def hessians(
    values: Float[np.ndarray, "n m"], axes: Sequence[np.ndarray]
) -> Float[np.ndarray, "inner_n inner_m 2 2"]:
    """Returns second derivatives by central differences, at all points that are not on the border.

    Raises:
        ValueError: If the axes are not those of the values, have less than three points, or are not
            evenly spaced.
    """
    h, k = _spacings(values, axes)
    center = values[1:-1, 1:-1]
    with np.errstate(invalid="ignore"):  # next to infinite losses
        first = (values[2:, 1:-1] - 2 * center + values[:-2, 1:-1]) / h**2
        second = (values[1:-1, 2:] - 2 * center + values[1:-1, :-2]) / k**2
        ends = values[2:, 2:] - values[2:, :-2] - values[:-2, 2:] + values[:-2, :-2]
        mixed = ends / (4 * h * k)
    rows = [np.stack([first, mixed], -1), np.stack([mixed, second], -1)]
    return np.stack(rows, -2)


def curvatures(
    values: Float[np.ndarray, "n m"], axes: Sequence[np.ndarray]
) -> tuple[Float[np.ndarray, "inner_n inner_m"], Float[np.ndarray, "inner_n inner_m"]]:
    """Returns the eigenvalues of the Hessian of the plane, smallest first; NaN beside infinity."""
    found = hessians(values, axes)
    first, mixed, second = found[..., 0, 0], found[..., 0, 1], found[..., 1, 1]
    with np.errstate(invalid="ignore"):
        middle, radius = (first + second) / 2, np.hypot(first - second, 2 * mixed) / 2
        ends = middle - radius, middle + radius
    known = np.isfinite(ends[0]) & np.isfinite(ends[1])
    return np.where(known, ends[0], np.nan), np.where(known, ends[1], np.nan)


def non_convex_share(values: Float[np.ndarray, "n m"], axes: Sequence[np.ndarray]) -> float:
    """Returns the share of points with a direction of negative curvature; NaN if none has a value.

    Curvature within the rounding of float32 losses counts as none. Where the plane is not convex
    the loss is not; the converse does not hold.
    """
    smallest, _ = curvatures(values, axes)
    known = np.isfinite(smallest)
    rounding = ROUNDING * np.abs(values[1:-1, 1:-1]) / min(_spacings(values, axes)) ** 2
    with np.errstate(invalid="ignore"):
        bent = known & (smallest < -rounding)
    return float(bent.sum() / known.sum()) if known.any() else float("nan")


def num_minima(values: Float[np.ndarray, "*grid"]) -> int:
    """Returns how many points off the border are lower than all their neighbors, diagonal ones too.

    Points beside one that is not done are none.
    """
    inner = values[(slice(1, -1),) * values.ndim]
    is_lowest = np.ones(inner.shape, bool)
    for step in itertools.product((-1, 0, 1), repeat=values.ndim):
        if any(step):
            cut = tuple(slice(1 + s, n - 1 + s) for s, n in zip(step, values.shape, strict=True))
            is_lowest &= inner < values[cut]
    return int(is_lowest.sum())


def basin_share(values: Float[np.ndarray, "*grid"], level: float) -> float:
    """Returns the share of the grid in the basin below `level` around the lowest point.

    The basin is the set of points with values below the level that hang together with it, over the
    sides of cells.
    """
    below = np.isfinite(values) & (values < level)
    if not below.any():
        return 0.0
    start = np.unravel_index(np.argmin(np.where(below, values, np.inf)), values.shape)
    inside = np.zeros(values.shape, bool)
    inside[start] = True
    while True:
        grown = inside.copy()
        for place in range(values.ndim):
            ahead, behind = (
                tuple(cut if i == place else slice(None) for i in range(values.ndim))
                for cut in (slice(1, None), slice(None, -1))
            )
            grown[ahead] |= inside[behind]
            grown[behind] |= inside[ahead]
        grown &= below
        if (grown == inside).all():
            return float(inside.mean())
        inside = grown


def width(values: Float[np.ndarray, " n"], axis: np.ndarray, level: float) -> float:
    """Returns the length of the part of a line around its lowest point where values are < level.

    Between points the line is straight; a part that reaches the end of the axis ends there.

    Raises:
        ValueError: If values and axis have different lengths.
    """
    if values.shape != axis.shape:
        raise ValueError(f"values of shape {values.shape} on an axis of {axis.shape}")
    finite = np.where(np.isnan(values), np.inf, values)
    lowest = int(np.argmin(finite))
    if not finite[lowest] < level:
        return 0.0

    def end(places: Sequence[int]) -> float:
        for here, there in itertools.pairwise(places):
            if finite[there] >= level:
                if np.isinf(finite[there]):
                    return float(axis[here])
                share = (level - finite[here]) / (finite[there] - finite[here])
                return float(axis[here] + share * (axis[there] - axis[here]))
        return float(axis[places[-1]])

    return end(range(lowest, len(axis))) - end(range(lowest, -1, -1))


def barrier(values: Float[np.ndarray, " n"], axis: np.ndarray) -> float:
    """Returns how far the loss rises above the straight line from a = 0 to a = 1.

    Source: Frankle et al. (2020); the highest of L(a) - (1 - a) L(0) - a L(1).

    Raises:
        ValueError: If 0 or 1 is no point of the axis.
    """
    ends = []
    for a in (0.0, 1.0):
        places = np.flatnonzero(np.isclose(axis, a, rtol=0, atol=1e-9))
        if len(places) != 1:
            raise ValueError(f"the axis has no point at {a:g}; the two networks are at 0 and 1")
        ends.append(values[places[0]])
    between = (axis >= 0) & (axis <= 1)
    above = values - (1 - axis) * ends[0] - axis * ends[1]
    return float(np.max(above[between]))


def persistence(values: Float[np.ndarray, "*grid"]) -> Persistence:
    """Returns where basins are born and merge as the level rises: topology free of scale and place.

    Source: Edelsbrunner and Harer (2010); sublevel sets in dimension 0, by union-find.
    Neighbors are those of `num_minima`; points that are not finite do not take part.
    """
    flat = values.reshape(-1)
    order = np.argsort(flat, kind="stable")
    order = order[np.isfinite(flat[order])]
    parent: dict[int, int] = {}
    pairs: list[tuple[float, float]] = []

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for place in order.tolist():
        parent[place] = place
        found = {root(other) for other in _neighbors(place, values.shape) if other in parent}
        deepest = min(found | {place}, key=lambda r: flat[r])
        for other in found - {deepest}:
            pairs.append((float(flat[other]), float(flat[place])))
            parent[other] = deepest
        parent[place] = deepest
    pairs += [(float(flat[r]), float("inf")) for r in parent if parent[r] == r]
    kept = sorted((birth, -death) for birth, death in pairs if death > birth)
    births, deaths = np.array([b for b, _ in kept]), np.array([-d for _, d in kept])
    return Persistence(births, deaths)


def roughness(values: Float[np.ndarray, "*grid"]) -> float:
    """Returns how deep all minima but the deepest are together, relative to the range of values.

    0 for a surface with one minimum, whatever its shape and the scale of its values.
    """
    finite = values[np.isfinite(values)]
    if not finite.size or finite.max() == finite.min():
        return 0.0
    births, deaths = persistence(values)
    depths = np.where(np.isfinite(deaths), deaths, births) - births
    return float(depths.sum() / (finite.max() - finite.min()))


def _neighbors(place: int, shape: tuple[int, ...]) -> Iterator[int]:
    at = np.unravel_index(place, shape)
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        there = [int(x) + s for x, s in zip(at, step, strict=True)]
        if any(step) and all(0 <= x < n for x, n in zip(there, shape, strict=True)):
            yield int(np.ravel_multi_index(there, shape))


def _spacings(values: np.ndarray, axes: Sequence[np.ndarray]) -> tuple[float, float]:
    """Returns the distance of neighboring points along both directions."""
    if values.shape != tuple(len(axis) for axis in axes):
        lengths = [len(axis) for axis in axes]
        raise ValueError(f"values of shape {values.shape} on axes of {lengths} points")
    for place, axis in enumerate(axes):
        steps = np.diff(axis)
        if len(axis) < 3 or not np.allclose(steps, steps[0], rtol=1e-6, atol=0):
            raise ValueError(f"axes[{place}]: expected 3 evenly spaced points or more")
    first, second = axes
    return float(first[1] - first[0]), float(second[1] - second[0])
