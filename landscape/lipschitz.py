"""Lipschitz constants of networks from their Jacobians at samples, above and below.

Spectral norms throughout. Above: samples whose balls of radius delta cover the support, and how
much the Jacobian varies within a ball. Below: two samples whose outputs must differ. Theorems are
the paper's; forms and constants in which they are computed are derived here.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from landscape.jacobians import Predict, by_chunks, jacobian_norms, jacobians, matrix_norms
from landscape.vectors import PyTree


class Sandwich(NamedTuple):
    """Bounds of the Lipschitz constant of a network on a support that balls cover.

    Attributes:
        lower: max_i ||J(x_i)||.
        upper: max_i (||J(x_i)|| + V_i); as sure as the V_i are.
        variations: V_i, as measured.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    variations: Float[Array, " n"]


def ball_points(
    key: PRNGKeyArray,
    inputs: Float[Array, "n ..."],
    radius: float | Float[Array, ""],
    count: int,
    *,
    support: Callable[[Array], Array] = lambda x: x,
) -> Float[Array, "n count ..."]:
    """Returns points uniform in the ball around every sample, moved into the support.

    Args:
        key: Of the points.
        inputs: Centers.
        radius: Of the balls.
        count: Points a ball.
        support: The projection to the nearest point of a convex support, such as
            `lambda x: jnp.clip(x, 0, 1)`; it leaves points in their ball.
    """
    direction, size = jax.random.split(key)
    n, dimension = len(inputs), inputs[0].size
    steps = jax.random.normal(direction, (n, count, dimension), inputs.dtype)
    steps = steps / jnp.linalg.norm(steps, axis=-1, keepdims=True)
    share = jax.random.uniform(size, (n, count, 1), inputs.dtype) ** (1 / dimension)
    moved = inputs[:, None] + (radius * share * steps).reshape(n, count, *inputs.shape[1:])
    return support(moved)


def interval_points(
    inputs: Float[Array, "n 1"],
    radius: float | Float[Array, ""],
    count: int,
    *,
    low: float = 0,
    high: float = 1,
) -> Float[Array, "n count 1"]:
    """Returns evenly spaced points of the interval around every sample, moved into [low, high]."""
    steps = jnp.linspace(-radius, radius, count, dtype=inputs.dtype)
    return jnp.clip(inputs[:, None] + steps[None, :, None], low, high)


def variations(
    predict: Predict,
    params: PyTree,
    inputs: Float[Array, "n ..."],
    points: Float[Array, "n count ..."],
    *,
    chunk: int | None = None,
) -> Float[Array, " n"]:
    """Returns V_i = max ||J(x) - J(x_i)|| over the points x of every sample.

    Source: MacDonald et al. (2023), Thm 4.3, where it is the supremum over a ball; the maximum over
    points of it is at most that.

    Args:
        predict: The network.
        params: Any tree.
        inputs: Samples.
        points: Of every sample, from `ball_points` or `interval_points`.
        chunk: How many samples at a time; None: all at once.
    """

    def of(rows: tuple[Array, Array]) -> Float[Array, " n"]:
        centers, around = rows
        n, count = around.shape[:2]
        there = jacobians(predict, params, around.reshape(n * count, *around.shape[2:]))
        here = jnp.repeat(jacobians(predict, params, centers), count, axis=0)
        return jnp.max(matrix_norms(there - here).spectral.reshape(n, count), axis=1)

    return by_chunks(of, (inputs, points), chunk)


def sandwich(
    predict: Predict,
    params: PyTree,
    inputs: Float[Array, "n ..."],
    points: Float[Array, "n count ..."],
    *,
    chunk: int | None = None,
) -> Sandwich:
    """Returns max_i ||J(x_i)|| <= Lip(f) <= max_i (||J(x_i)|| + V_i), with V_i measured.

    Source: MacDonald et al. (2023), Thm 4.3. Holds where the balls of the V_i cover a convex
    support, as `coverings` says how often they do; arguments are those of `variations`.
    """
    norms = jacobian_norms(predict, params, inputs, chunk=chunk).spectral
    varied = variations(predict, params, inputs, points, chunk=chunk)
    return Sandwich(jnp.max(norms), jnp.max(norms + varied), varied)


def errors_of_squared(costs: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns ||f(x_i) - y_i|| of samples whose cost is half its square."""
    return jnp.sqrt(2 * costs)


def errors_of_cross_entropy(
    costs: Float[Array, " n"], targets: Float[Array, "n k"]
) -> Float[Array, " n"]:
    """Returns sqrt(2 KL) >= ||p_i - t_i|| for the softmax p: Pinsker, and 2-norms below 1-norms.

    KL is the cost without the entropy of the targets, which is 0 if they are one-hot.
    """
    entropy = -jnp.sum(jax.scipy.special.xlogy(targets, targets), axis=1)
    return jnp.sqrt(2 * jnp.maximum(costs - entropy, 0))


def pair_ratios(
    inputs: Float[Array, "n ..."], targets: Float[Array, "n k"], errors: Float[Array, " n"]
) -> Float[Array, "n n"]:
    """Returns (||y_i - y_j|| - r_i - r_j) / ||x_i - x_j|| of all pairs; -inf where x_i = x_j.

    Source: MacDonald et al. (2023), Thm 5.1: no network with these errors has a Lipschitz constant
    below any of them, and some ||J|| on the segment between x_i and x_j is no smaller. So low
    losses need large Jacobians.

    Args:
        inputs: Samples.
        targets: What the network ought to put out; one-hot rows for softmax outputs.
        errors: r_i >= ||f(x_i) - y_i||, from `errors_of_squared` or `errors_of_cross_entropy`; 0
            with the outputs themselves as targets.
    """
    flat = inputs.reshape(len(inputs), -1)

    def of(row: tuple[Array, Array, Array]) -> Float[Array, " n"]:
        x, y, r = row
        distances = jnp.linalg.norm(flat - x[None], axis=1)
        apart = jnp.linalg.norm(targets - y[None], axis=1) - errors - r
        return jnp.where(distances > 0, apart / jnp.where(distances > 0, distances, 1), -jnp.inf)

    return jax.lax.map(of, (flat, targets, errors))


def segment_norms(
    predict: Predict,
    params: PyTree,
    first: Float[Array, "pairs ..."],
    second: Float[Array, "pairs ..."],
    *,
    num_points: int = 16,
    chunk: int | None = None,
) -> Float[Array, " pairs"]:
    """Returns max ||J|| over points of the segments between inputs.

    Points are those of Gauss and Legendre: where their rule integrates J along the segment exactly,
    their maximum is already no smaller than ||f(x) - f(x')|| / ||x - x'||. Kinks take more points.

    Args:
        predict: The network.
        params: Any tree.
        first: One end of every segment.
        second: The other end.
        num_points: A segment.
        chunk: How many segments at a time; None: all at once.
    """
    nodes = (1 + np.polynomial.legendre.leggauss(num_points)[0]) / 2

    def of(rows: tuple[Array, Array]) -> Float[Array, " pairs"]:
        x, y = rows
        points = jnp.stack([x + a * (y - x) for a in nodes.tolist()])  # [points, pairs, ...]
        norms = jacobian_norms(predict, params, points.reshape(-1, *x.shape[1:])).spectral
        return jnp.max(norms.reshape(num_points, -1), axis=0)

    return by_chunks(of, (first, second), chunk)
