"""The path of an optimizer in few dimensions: principal axes, projections, and what they miss.

Checkpoints are any sequence of trees, the last one being where the path ends: a list, or an
object that loads tree i when asked for item i. They are read one at a time; only a few rows and the
n x n matrix of inner products of n checkpoints are in memory. All arithmetic is NumPy's, and sums
are float64.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from landscape.filters import FLAX_RULES, FilterRules, with_filter_norms
from landscape.vectors import (
    Layout,
    PyTree,
    direction_of,
    layout_of,
    leaves_of,
    to_leaves,
)

CHUNK = 1 << 18  # entries that are float64 at a time


@runtime_checkable
class Checkpoints(Protocol):
    """What is asked of a path: how many trees, and each of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> PyTree: ...


class PathAxes(NamedTuple):
    """Principal axes of a path; theta(a, b) = theta_n + a axes[0] + b axes[1].

    Attributes:
        axes: Unit directions.
        explained: The share of the variation along each.
        coordinates: Of every checkpoint, [n, k]; the last one is at 0.
        residuals: Distance of every checkpoint from its projection, [n].
        distances: Of every checkpoint from the last, [n].
    """

    axes: tuple[PyTree, ...]
    explained: np.ndarray
    coordinates: np.ndarray
    residuals: np.ndarray
    distances: np.ndarray


class Projection(NamedTuple):
    """A path on given axes.

    Attributes:
        coordinates: Of the nearest point theta_n + sum_k c_k d_k to every checkpoint, [n, k].
        residuals: Distance of every checkpoint from that point, [n].
        explained: The share of the variation that lies along the axes.
    """

    coordinates: np.ndarray
    residuals: np.ndarray
    explained: float


def path_axes(
    checkpoints: Checkpoints,
    *,
    num_axes: int = 2,
    center: bool = True,
    norm_free: bool = False,
    rules: FilterRules = FLAX_RULES,
    frozen: str | None = None,
    rows_in_memory: int = 64,
) -> PathAxes:
    """Returns the principal axes of theta_i - theta_n.

    Source: Li et al. (2018), Sec. 7, and released code, plot_trajectory.py. The text leaves the
    rows as they are (`center=False`); the code takes their mean off first (`center=True`), over all
    rows with that of the last checkpoint, which is 0.

    Args:
        checkpoints: The path; read once, and again for every `rows_in_memory` of them, and once
            more for the axes.
        num_axes: How many.
        center: Whether shares and axes are those of the rows without their mean. Coordinates count
            from theta_n in any case.
        norm_free: Give every filter the norm it has in the last checkpoint, so that a mere growth
            of weights is no motion (networks with batch normalization have one axis of it).
        rules: Which entries form a filter, for `norm_free`.
        frozen: Regex of parameters left out, such as "bias|scale".
        rows_in_memory: How many checkpoints are held at a time.

    Raises:
        ValueError: If there are too few checkpoints, or they are of different trees.
    """
    rows = _Rows(checkpoints, frozen, rules if norm_free else None)
    if not 1 <= num_axes < len(rows):
        raise ValueError(
            f"num_axes={num_axes}: a path of {len(rows)} checkpoints has 1 to {len(rows) - 1}"
        )
    if rows_in_memory < 1:
        raise ValueError(f"rows_in_memory={rows_in_memory}: expected at least 1")
    gram = _gram(rows, rows_in_memory)
    weights, explained = _principal(gram, num_axes, center)
    axes = _combinations(rows, weights)
    coordinates = gram @ weights
    distances = np.sqrt(np.diagonal(gram))
    left = np.maximum(np.diagonal(gram) - np.sum(coordinates**2, axis=1), 0)
    return PathAxes(axes, explained, coordinates, np.sqrt(left), distances)


def projection(
    checkpoints: Checkpoints,
    axes: Sequence[PyTree],
    *,
    center: bool = True,
    frozen: str | None = None,
) -> Projection:
    """Returns a path seen on any axes, such as two random directions; they may be oblique.

    Source: Li et al. (2018), Sec. 7 and released code, projection.py, its least-squares variant;
    for axes at right angles, c_k = <theta_i - theta_n, d_k> / ||d_k||^2.

    Args:
        checkpoints: The path, read once.
        axes: Directions of the tree of the checkpoints.
        center: Whether the share is that of the rows without their mean.
        frozen: Regex of parameters left out.

    Raises:
        ValueError: If axes are of another tree, or do not span as many dimensions as there are.
    """
    rows = _Rows(checkpoints, frozen, None)
    basis = np.stack([_flat(rows.layout, axis, "axis") for axis in axes]).astype(np.float64)
    metric = basis @ basis.T
    if np.linalg.matrix_rank(metric, hermitian=True) < len(axes):
        raise ValueError(f"the {len(axes)} axes depend on one another, or one of them is 0")
    mean, inner, squares = np.zeros(basis.shape[1]), [], []
    for i in range(len(rows)):
        row = rows[i].astype(np.float64)
        inner.append(basis @ row)
        squares.append(row @ row)
        mean += row / len(rows)
    products, lengths = np.stack(inner), np.stack(squares)
    coordinates = np.linalg.solve(metric, products.T).T
    along = np.sum(coordinates * products, axis=1)  # squared length of each projection
    residuals = np.sqrt(np.maximum(lengths - along, 0))
    inside, whole = np.sum(along), np.sum(lengths)
    if center:
        at_mean = basis @ mean
        inside -= len(rows) * (at_mean @ np.linalg.solve(metric, at_mean))
        whole -= len(rows) * (mean @ mean)
    return Projection(coordinates, residuals, float(inside / whole) if whole > 0 else 0.0)


class _Rows:
    """theta_i - theta_n as vectors, each made when it is asked for."""

    def __init__(
        self, checkpoints: Checkpoints, frozen: str | None, rules: FilterRules | None
    ) -> None:
        if len(checkpoints) < 2:
            raise ValueError(f"{len(checkpoints)} checkpoints are no path: expected at least 2")
        self.checkpoints = checkpoints
        self.rules = None if rules is None else rules._replace(frozen=None)
        self.last = checkpoints[len(checkpoints) - 1]
        self.layout = layout_of(self.last, frozen=frozen)
        self.end = _flat(self.layout, self.last, "checkpoint")

    def __len__(self) -> int:
        return len(self.checkpoints)

    def __getitem__(self, index: int) -> np.ndarray:
        tree = self.checkpoints[index]
        if self.rules is not None:
            leaves_of(self.layout, tree, name=f"checkpoint {index}")
            tree = with_filter_norms(tree, self.last, self.rules)
        row = _flat(self.layout, tree, f"checkpoint {index}") - self.end
        if not np.all(np.isfinite(row)):
            raise ValueError(
                f"checkpoint {index} or the last one has parameters that are not finite"
            )
        return row


def _flat(layout: Layout, tree: PyTree, name: str) -> np.ndarray:
    leaves = zip(leaves_of(layout, tree, name=name), layout.moves, strict=True)
    chosen = [np.asarray(x, layout.dtype).reshape(-1) for x, moves in leaves if moves]
    return np.concatenate(chosen)


def _gram(rows: _Rows, block: int) -> np.ndarray:
    """Returns all inner products of rows, `block` rows and one more in memory at a time."""
    n = len(rows)
    gram = np.zeros((n, n))
    for start in range(0, n, block):
        held = np.stack([rows[i] for i in range(start, min(start + block, n))])
        for j in range(start, n):
            row = held[j - start] if j < start + block else rows[j]
            gram[start : start + len(held), j] = _inner(held, row)
    upper = np.triu(gram)
    return upper + np.triu(upper, 1).T


def _inner(held: np.ndarray, row: np.ndarray) -> np.ndarray:
    parts = [
        held[:, part].astype(np.float64) @ row[part].astype(np.float64)
        for part in _chunks(row.size, len(held))
    ]
    return np.sum(parts, axis=0)


def _chunks(size: int, rows: int) -> Iterator[slice]:
    step = max(CHUNK // rows, 1024)
    return (slice(start, start + step) for start in range(0, size, step))


def _principal(gram: np.ndarray, num_axes: int, center: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights [n, k] of the rows that add up to unit axes, and shares [k].

    Axes beyond the rank of the path are 0.
    """
    n = len(gram)
    middle = np.eye(n) - 1 / n if center else np.eye(n)
    values, vectors = np.linalg.eigh(middle @ gram @ middle)
    values, vectors = values[::-1][:num_axes], vectors[:, ::-1][:, :num_axes]
    whole = np.trace(middle @ gram @ middle)
    is_there = values > n * np.finfo(np.float64).eps * max(whole, np.finfo(np.float64).tiny)
    lengths = np.sqrt(np.where(is_there, values, 1))
    weights = middle @ vectors * np.where(is_there, 1 / lengths, 0)
    # An axis has two ends: the path begins on its positive side.
    weights = weights * np.where((gram @ weights)[0] < 0, -1, 1)
    return weights, np.where(is_there, values, 0) / whole if whole > 0 else np.zeros(num_axes)


def _combinations(rows: _Rows, weights: np.ndarray) -> tuple[PyTree, ...]:
    """Returns sum_i w_i row_i as directions, reading every checkpoint once."""
    totals = np.zeros((weights.shape[1], rows.layout.size))
    for i in range(len(rows)):
        row = rows[i]
        for total, weight in zip(totals, weights[i], strict=True):
            total += weight * row
    layout = rows.layout
    flats = [jnp.asarray(total.astype(layout.dtype)) for total in totals]
    return tuple(direction_of(layout, to_leaves(layout, flat)) for flat in flats)
