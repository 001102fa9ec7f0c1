"""Eigenvalues of the Hessian of any loss: the largest with their directions, and both ends.

Every function takes a loss (or a `products.GaussNewton`), parameters, and a list of batches over
which it is averaged exactly. Programs are compiled once for a loss and shapes, not for parameters.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Float, PRNGKeyArray

from common.keys import split_apart
from landscape import lanczos
from landscape.products import GaussNewton, Loss, Operator, averaged, placed, product_with
from landscape.vectors import Layout, PyTree, layout_of, moved, to_direction, to_vector

WHICH = ("largest", "smallest", "magnitude")
MAX_STEPS = 200
LEAST_STEPS = 12  # before both ends may count as found
LAG = 2  # steps over which eigenvalues must not have changed


class Eigenpairs(NamedTuple):
    """Eigenvalues with their directions.

    Attributes:
        values: Eigenvalues, the one asked for first in front.
        vectors: Unit directions.
        residuals: ||H v - lambda v||: an eigenvalue lies within so much of each value.
        num_products: How many Hessian products it took.
    """

    values: np.ndarray
    vectors: tuple[PyTree, ...]
    residuals: np.ndarray
    num_products: int


class Ends(NamedTuple):
    """Both ends of the spectrum.

    Attributes:
        smallest: The least eigenvalue.
        largest: The greatest eigenvalue.
        residuals: An eigenvalue lies within so much of each of the two.
        vectors: The sum of the two eigenvectors, where a neighbour begins.
        num_products: How many Hessian products it took.
    """

    smallest: float
    largest: float
    residuals: tuple[float, float]
    vectors: Float[Array, " n"]
    num_products: int

    @property
    def ratio(self) -> float:
        """|lambda_min / lambda_max|; near 0 where positive curvature dominates."""
        return abs(self.smallest / self.largest) if self.largest else math.inf

    @property
    def is_sign_certain(self) -> bool:
        """Whether the residual leaves no doubt about the sign of lambda_min."""
        return abs(self.smallest) > self.residuals[0]


class EndsMap(NamedTuple):
    """Both ends of the spectrum at many points; all arrays [points].

    Attributes:
        smallest: The least eigenvalue.
        largest: The greatest eigenvalue.
        ratio: |lambda_min / lambda_max|.
        is_sign_certain: Whether the sign of lambda_min is beyond doubt.
        num_products: How many Hessian products each took.
    """

    smallest: np.ndarray
    largest: np.ndarray
    ratio: np.ndarray
    is_sign_certain: np.ndarray
    num_products: np.ndarray


def eigenpairs(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    key: PRNGKeyArray,
    k: int = 5,
    which: str = "largest",
    frozen: str | None = None,
    tolerance: float = 1e-5,
    max_steps: int | None = None,
    start: PyTree | None = None,
    sizes: Sequence[float] | None = None,
) -> Eigenpairs:
    """Returns k eigenvalues of the Hessian with their directions, by Lanczos.

    An eigenvalue that is there several times may be found once only, unless the process is
    exhausted before: a single starting vector sees one direction of each eigenspace.

    Args:
        loss: loss(params, batch), or a `GaussNewton`.
        params: Any tree.
        batches: A list of batches, see `products.averaged`.
        key: Of the starting vector.
        k: How many.
        which: largest, smallest (the most negative) or magnitude.
        frozen: Regex of parameters that are left out, such as "bias|scale".
        tolerance: Estimated relative error of eigenvalues at which to stop.
        max_steps: Products at most; None: 200, or as many as there are dimensions.
        start: The direction to start from, such as an eigenvector of a point nearby.
        sizes: Weights of the batches; None: their numbers of rows.

    Raises:
        ValueError: If `which` is unknown, there are more steps or eigenvalues than dimensions, a
            regex matches nothing, or the curvature is not finite.
    """
    if which not in WHICH:
        raise ValueError(f"which={which!r}: expected one of {', '.join(WHICH)}")
    operator = averaged(loss, params, batches, frozen=frozen, sizes=sizes)
    size = operator.layout.size
    if not 1 <= k <= size:
        raise ValueError(f"k={k}: the Hessian has {size} eigenvalues")
    steps = _steps(max_steps, size, at_least=k)
    key, more = jax.random.split(key)
    first = _vector(key, size, operator) if start is None else to_vector(operator.layout, start)
    choose = lambda values: _chosen(values, which, k)
    is_done = lambda a, b: len(a) >= k + LAG and _settled(a, b, choose, tolerance, least=1e-7)
    again = lambda i: _vector(jax.random.fold_in(more, i), size, operator)
    found = lanczos.decompose(operator.apply, first, steps, is_done=is_done, again=again)
    ritz = lanczos.ritz(found.alphas, found.betas)
    chosen = _chosen(ritz.values, which, k)
    if not (is_done(found.alphas, found.betas) or len(found.alphas) == size):
        worst = np.max(ritz.errors[chosen] / np.maximum(np.abs(ritz.values[chosen]), 1e-30))
        said = "eigenpairs: %d steps leave a relative error of about %.1e; raise max_steps"
        logging.warning(said, found.num_products, worst)
    rows = lanczos.ritz_vectors(found, ritz.vectors[:, chosen])
    vectors = _directions(rows, operator.layout)
    return Eigenpairs(ritz.values[chosen], vectors, ritz.residuals[chosen], found.num_products)


def spectrum_ends(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    key: PRNGKeyArray,
    frozen: str | None = None,
    tolerance: float = 1e-2,
    max_steps: int | None = None,
    start: Float[Array, " n"] | None = None,
    sizes: Sequence[float] | None = None,
) -> Ends:
    """Returns the least and the greatest eigenvalue, from one run of Lanczos.

    Source: Li et al. (2018), Sec. 6: |lambda_min / lambda_max| measures convexity. The released
    code sums batches without dividing by their number; here they are averaged.

    Args:
        loss: loss(params, batch), or a `GaussNewton`.
        params: Any tree.
        batches: A list of batches, see `products.averaged`.
        key: Of the starting vector.
        frozen: Regex of parameters that are left out: "bias|scale" as in the released code.
        tolerance: Residual at which to stop, relative to each value; of one near 0, a hundredth of
            that relative to the larger of the two.
        max_steps: Products at most; None: 200, or as many as there are dimensions.
        start: `Ends.vectors` of a point nearby; some noise is added to it.
        sizes: Weights of the batches; None: their numbers of rows.

    Raises:
        ValueError: If there are more steps than dimensions, a regex matches nothing, or the
            curvature is not finite.
    """
    operator = averaged(loss, params, batches, frozen=frozen, sizes=sizes)
    return ends_of(operator, key=key, tolerance=tolerance, max_steps=max_steps, start=start)


def ends_of(
    operator: Operator,
    *,
    key: PRNGKeyArray,
    tolerance: float = 1e-2,
    max_steps: int | None = None,
    start: Float[Array, " n"] | None = None,
) -> Ends:
    """Returns the ends of the spectrum of any operator; arguments of `spectrum_ends`."""
    size = operator.layout.size
    first = _vector(key, size, operator)
    if start is not None:  # an exact eigenvector would see nothing else
        first = _mixed(start, first)

    ends = lambda values: np.array([0, len(values) - 1])

    def is_done(a: np.ndarray, b: np.ndarray) -> bool:
        # Neighbours of the least eigenvalue are dense: estimates by gaps would stop too early.
        is_enough = len(a) >= LEAST_STEPS
        return is_enough and _settled(
            a, b, ends, tolerance, least=tolerance / 100, by_residuals=True
        )

    found = lanczos.decompose(operator.apply, first, _steps(max_steps, size), is_done=is_done)
    ritz = lanczos.ritz(found.alphas, found.betas)
    rows = lanczos.ritz_vectors(found, ritz.vectors[:, [0, -1]])
    low, high = ritz.residuals[0], ritz.residuals[-1]
    return Ends(
        float(ritz.values[0]),
        float(ritz.values[-1]),
        (float(low), float(high)),
        rows[0] + rows[1],
        found.num_products,
    )


def ends_over(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    directions: Sequence[PyTree],
    points: Float[np.ndarray, "points k"],
    *,
    key: PRNGKeyArray,
    frozen: str | None = None,
    tolerance: float = 1e-2,
    max_steps: int | None = None,
    sizes: Sequence[float] | None = None,
) -> EndsMap:
    """Returns the ends of the spectrum at theta + sum_k c_k d_k for every point c.

    Source: Li et al. (2018), Sec. 6 and Fig. 7. Each point starts from the eigenvectors of the one
    before it, so points that follow one another should be near; order a grid back and forth.

    Args:
        loss: loss(params, batch), or a `GaussNewton`.
        params: theta.
        batches: A list of batches, see `products.averaged`.
        directions: d_1, d_2, ...
        points: Coordinates, one row a point.
        key: Of the starting vectors.
        frozen: Regex of parameters that are left out.
        tolerance: Of `spectrum_ends`.
        max_steps: Of `spectrum_ends`.
        sizes: Weights of the batches; None: their numbers of rows.

    Raises:
        ValueError: As `spectrum_ends`, and if a direction is of another tree.
    """
    options = dict(frozen=frozen, tolerance=tolerance, max_steps=max_steps, sizes=sizes)
    found = list(_walk(loss, params, batches, directions, np.asarray(points), key, options))
    return EndsMap(
        np.array([ends.smallest for ends in found]),
        np.array([ends.largest for ends in found]),
        np.array([ends.ratio for ends in found]),
        np.array([ends.is_sign_certain for ends in found]),
        np.array([ends.num_products for ends in found]),
    )


def extreme_eigenvalues(
    loss: Loss | GaussNewton,
    params: PyTree,
    batch: PyTree,
    start: Float[Array, " n"],
    *,
    num_steps: int,
    frozen: str | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " 2"]]:
    """Returns (smallest, largest, residuals) after a fixed number of steps, in one program.

    Pure: for maps over many points by `vmap`, or sharded over devices. One batch, all numbers in
    the type of `start`; `lanczos.tridiagonal` says where this is slow.

    Raises:
        ValueError: If there are more steps than dimensions, or a regex matches nothing.
    """
    layout = layout_of(params, frozen=frozen)
    product = lambda vector: product_with(loss, layout, params, batch, vector)
    alphas, betas, _ = lanczos.tridiagonal(product, start, num_steps)
    values, vectors = jnp.linalg.eigh(
        jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
    )
    # Once exhausted, T goes on with rows of 0, of which eigenvectors say nothing.
    is_row = jnp.cumprod(jnp.concatenate([jnp.ones(1), betas[:-1] > 0]))
    is_there = is_row @ vectors**2 > 1e-3
    low = jnp.argmin(jnp.where(is_there, values, jnp.inf))
    high = jnp.argmax(jnp.where(is_there, values, -jnp.inf))
    residuals = jnp.abs(betas[-1] * vectors[-1])
    return values[low], values[high], jnp.stack([residuals[low], residuals[high]])


def _walk(
    loss: Any,
    params: PyTree,
    batches: Any,
    directions: Sequence[PyTree],
    points: np.ndarray,
    key: PRNGKeyArray,
    options: dict[str, Any],
) -> Iterator[Ends]:
    start, batches = None, placed(batches)  # once for all points
    for point, point_key in zip(points, split_apart(key, len(points)), strict=True):
        here = moved(params, directions, point)
        ends = spectrum_ends(loss, here, batches, key=point_key, start=start, **options)
        start = ends.vectors
        yield ends


@partial(jax.jit, static_argnames="layout")
def _directions(rows: Float[Array, "k n"], layout: Layout) -> tuple[PyTree, ...]:
    return tuple(to_direction(layout, row) for row in rows)


@jax.jit
def _mixed(start: Array, noise: Array) -> Array:
    return start / jnp.linalg.norm(start) + 0.1 * noise / jnp.linalg.norm(noise)


def _vector(key: PRNGKeyArray, size: int, operator: Operator) -> Float[Array, " n"]:
    return jax.random.normal(key, (size,), operator.layout.dtype)


def _steps(max_steps: int | None, size: int, *, at_least: int = 1) -> int:
    if max_steps is None:
        return min(max(MAX_STEPS, 4 * at_least), size)
    lanczos.check_steps(max_steps, size)
    if max_steps < at_least:
        raise ValueError(f"max_steps={max_steps}: {at_least} eigenvalues need as many steps")
    return max_steps


def _chosen(values: np.ndarray, which: str, k: int) -> np.ndarray:
    order = {"largest": -values, "smallest": values, "magnitude": -np.abs(values)}[which]
    return np.argsort(order, kind="stable")[:k]


def _settled(
    alphas: np.ndarray,
    betas: np.ndarray,
    choose: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
    *,
    least: float,
    by_residuals: bool = False,
) -> bool:
    """Returns whether chosen eigenvalues are as exact as asked for, and no longer move.

    A small residual says that an eigenvalue is near, not which; others still to come would move
    those that are chosen. `least` is an error, relative to the largest eigenvalue, that is always
    allowed: values far below it are known to its rounding only.
    """
    now = lanczos.ritz(alphas, betas)
    chosen = choose(now.values)
    values = now.values[chosen]
    allowed = tolerance * np.abs(values) + least * np.max(np.abs(now.values))
    errors = now.residuals if by_residuals else now.errors
    if not np.all(errors[chosen] <= allowed):
        return False  # as after most steps: one decomposition is enough
    before = lanczos.ritz(alphas[:-LAG], betas[:-LAG]).values
    return bool(np.all(np.abs(values - before[choose(before)]) <= allowed))
