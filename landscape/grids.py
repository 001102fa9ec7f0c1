"""Grids of lines and planes, and surfaces: numbers at every point of a grid.

Axis i of every array belongs to direction i, for lines, planes and more: `values["loss"][i, j]` is
the loss at theta + axes[0][i] d + axes[1][j] e. Other libraries often have it the other way round.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.files import nonfinite


class Surface(NamedTuple):
    """What was measured over a line or a plane.

    Attributes:
        axes: The coordinates along every direction, increasing.
        values: Arrays of one float64 a point, by name: [len(axes[0]), len(axes[1])] of a plane.
            NaN is "not done"; a value that was computed and is no number is infinity.
    """

    axes: tuple[np.ndarray, ...]
    values: dict[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along every direction."""
        return tuple(len(axis) for axis in self.axes)


def axis(low: float, high: float, points: int) -> np.ndarray:
    """Returns evenly spaced coordinates; 0 is exactly 0 if it is one of them.

    Raises:
        ValueError: If there are less than two points, or low is not below high.
    """
    if points < 2 or not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(
            f"axis({low}, {high}, points={points}): expected low < high and at least 2 points"
        )
    coordinates = np.linspace(low, high, points)
    rounding = 1e-9 * (high - low) / (points - 1)
    return np.where(np.abs(coordinates) < rounding, 0.0, coordinates)


def points_of(axes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns all points of a grid as rows [points, directions], the last axis the fastest.

    Raises:
        ValueError: If an axis is not one of finite, increasing numbers.
    """
    if not axes:
        raise ValueError("axes is empty: expected coordinates for every direction")
    for place, coordinates in enumerate(axes):
        coordinates = np.asarray(coordinates, float)
        is_line = coordinates.ndim == 1 and coordinates.size and np.isfinite(coordinates).all()
        if not is_line or (np.diff(coordinates) <= 0).any():
            raise ValueError(f"axes[{place}]: expected finite, increasing coordinates")
    columns = np.meshgrid(*(np.asarray(a, float) for a in axes), indexing="ij")
    return np.stack([column.reshape(-1) for column in columns], axis=1)


def joined(axes: Sequence[np.ndarray], parts: Sequence[dict[str, np.ndarray]]) -> Surface:
    """Returns the surface that parts, one behind the other as in `points_of`, are together."""
    shape = tuple(len(coordinates) for coordinates in axes)
    whole = {name: np.concatenate([found[name] for found in parts]) for name in parts[0]}
    values = {name: value.astype(float).reshape(shape) for name, value in whole.items()}
    return Surface(tuple(np.asarray(coordinates, float) for coordinates in axes), values)


def transposed(surface: Surface) -> Surface:
    """Returns the same plane with its directions in the other order."""
    values = {name: value.T for name, value in surface.values.items()}
    return Surface(surface.axes[::-1], values)


def to_json(surface: Surface) -> dict[str, Any]:
    """Returns a surface as plain lists; `from_json` gives it back bit for bit."""
    plain = {
        "axes": [coordinates.tolist() for coordinates in surface.axes],
        "values": {name: value.tolist() for name, value in surface.values.items()},
    }
    return nonfinite.to_json(plain)


def from_json(plain: Mapping[str, Any]) -> Surface:
    """Returns the surface that `to_json` was given."""
    found = nonfinite.from_json(dict(plain))
    values = {name: np.asarray(value, float) for name, value in found["values"].items()}
    return Surface(tuple(np.asarray(a, float) for a in found["axes"]), values)
