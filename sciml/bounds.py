"""Bounds on fields, alone or beside linear constraints: the most likely field that obeys them.

min (u - mean)^T Σ^{-1} (u - mean) over lower <= u <= upper, and G u = b if there are rows: the mode
of a Gaussian that is cut off at the bounds. Of independent points with no or one row it is found
exactly, else by a fixed number of iterations; both can be differentiated.

What it says of uncertainty. A Gaussian that is cut off is no Gaussian. The mode is no mean: that is
further inside. Its covariance is not claimed; it is at most that of the Gaussian before the cut
(Brascamp and Lieb 1976: a convex set leaves no more variance in any direction), so the variances of
`constraints.condition` are an upper bound, which is what the experiments use.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciml.constraints import (
    Gaussian,
    LinearConstraint,
    check_shapes,
    condition,
    in_floats,
)
from sciml.covariances import (
    EXACT,
    Covariance,
    Diagonal,
    as_covariance,
    marginal_variance,
    num_points,
    observed,
    times,
)
from sciml.numbers import Numbers, concrete, floating

ITERATIONS = 500
STAGES = 5  # with a weight each
FIRST_WEIGHT = 4.0
RELAXATION = 1.6  # of a step, as most solvers of this kind have it


class Bounds(NamedTuple):
    """lower <= u <= upper at every point; one number for all of them, or one for each.

    `Bounds(lower=0.0)` is positivity. Integers and lists are taken as floats.
    """

    lower: Float[Array, " n"] | Numbers = -math.inf
    upper: Float[Array, " n"] | Numbers = math.inf


def outside(bounds: Bounds, u: Float[Array, "*batch n"] | Numbers) -> Float[Array, "*batch"]:
    """Returns by how much a field leaves its bounds where it does so most; 0 if nowhere."""
    u = floating(u)
    low, high = _of_points(bounds, u)
    return jnp.max(jnp.maximum(jnp.maximum(low - u, u - high), 0), axis=-1)


def most_likely(
    bounds: Bounds,
    prior: Gaussian,
    constraint: LinearConstraint | None = None,
    *,
    iterations: int = ITERATIONS,
) -> Float[Array, "*batch n"]:
    """Returns the most likely field of a Gaussian within bounds, given that the constraint holds.

    The point of the set that is nearest to the mean in the metric Σ^{-1}: its distance to every
    other point of the set is no larger than that of the mean. For Σ = I the Euclidean projection.

    Independent points (a vector or `Diagonal`) with no row or one: clip(mean + λ Σ g), where λ is
    found by bisection over the 2 n values at which a point meets a bound, O(n log n); bounds hold
    exactly, the row to rounding, and the derivative is that of the implicit function. All else: the
    alternating direction method of multipliers, O(iterations n) beyond dense matrices; rows hold
    to rounding, and bounds as far as it has converged (`outside` says how far), but exactly if
    there is no row or a single exact one.

    Args:
        bounds: Where the field may be.
        prior: Mean and covariance. Leading axes of the mean share the covariance; `jax.vmap` where
            every field has its own.
        constraint: Rows G u = b, with a covariance of noise or exact; None: bounds only.
        iterations: Of all but the exact form.

    Raises:
        ValueError: If shapes disagree, or (numbers known) a lower bound is above the upper one, or
            one exact row cannot hold within the bounds. Under `jit` what cannot hold is NaN.
    """
    if iterations < 1:
        raise ValueError(f"most_likely: iterations={iterations}, expected 1 or more")
    covariance, mean = as_covariance(prior.covariance), floating(prior.mean)
    if mean.shape[-1:] != (num_points(covariance),):
        raise ValueError(
            f"most_likely: a mean of shape {mean.shape} with a covariance of "
            f"{num_points(covariance)} points"
        )
    low, high = _of_points(bounds, mean)
    if concrete(low, high) and not np.all(np.asarray(low) <= np.asarray(high)):
        at = int(np.argmin(np.asarray(low) <= np.asarray(high)))
        raise ValueError(
            f"bounds: lower {low[at]} above upper {high[at]} at point {at}, expected lower <= upper"
        )
    if constraint is not None:
        constraint = in_floats(constraint)
        check_shapes(constraint, mean.shape[-1])
    rows = 0 if constraint is None else constraint.rows.shape[0]
    if isinstance(covariance, Diagonal) and rows <= 1:
        return _exactly(covariance.variance, mean, low, high, constraint)
    return _iterated(covariance, mean, low, high, constraint, iterations)


def _of_points(
    bounds: Bounds, u: Float[Array, "*batch n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Returns both bounds for every point.

    Raises:
        ValueError: If there are bounds of another number of points.
    """
    points = u.shape[-1]
    parts = [jnp.asarray(bound, u.dtype) for bound in bounds]
    for name, part in zip(Bounds._fields, parts, strict=True):
        if part.shape not in ((), (points,)):
            raise ValueError(
                f"bounds: {name} of shape {part.shape} for {points} points: expected one number, "
                f"or shape ({points},)"
            )
    low, high = (jnp.broadcast_to(part, (points,)) for part in parts)
    return low, high


def _exactly(
    variance: Float[Array, " n"],
    mean: Float[Array, "*batch n"],
    low: Float[Array, " n"],
    high: Float[Array, " n"],
    constraint: LinearConstraint | None,
) -> Float[Array, "*batch n"]:
    """Returns the most likely field of independent points, with one row or none."""
    if constraint is None:
        return _clip(mean, low, high)
    noise = jnp.zeros((), mean.dtype)
    if constraint.covariance is not None:
        noise = constraint.covariance[0, 0]
    values = jnp.broadcast_to(constraint.values[..., 0], mean.shape[:-1])
    one = partial(_with_row, variance=variance, row=constraint.rows[0], noise=noise)
    over = jax.vmap(lambda m, value: one(m, value=value, low=low, high=high))
    found = over(mean.reshape(-1, mean.shape[-1]), values.reshape(-1)).reshape(mean.shape)
    if concrete(found, mean) and (jnp.isnan(found) & ~jnp.isnan(mean)).any():
        raise ValueError(
            f"bounds: the row cannot be {np.asarray(values).ravel()[:3]} within them; widen the "
            "bounds, or give the constraint a covariance"
        )
    return found


def _with_row(
    mean: Float[Array, " n"],
    *,
    variance: Float[Array, " n"],
    row: Float[Array, " n"],
    noise: Float[Array, ""],
    value: Float[Array, ""],
    low: Float[Array, " n"],
    high: Float[Array, " n"],
) -> Float[Array, " n"]:
    """Returns clip(mean + λ Σ g) with g · u + noise λ = value.

    The left-hand side never falls with λ and is linear between the values of λ at which a point
    meets a bound. Which points are at a bound is found without derivatives; given that, λ is a
    formula, and so is its derivative.
    """
    still = jax.lax.stop_gradient
    pull = variance * row
    is_free, is_high = still(_active(mean, pull, row, noise, value, low, high))
    fixed = jnp.where(is_high, high, low)
    at_rest = jnp.where(is_free, mean, fixed)
    slope = jnp.sum(jnp.where(is_free, row * pull, 0)) + noise
    safe = jnp.where(slope > 0, slope, 1)

    def missing(u: Array, weight: Array) -> Array:
        return value - jnp.dot(row, u, precision=EXACT) - noise * weight

    weight = missing(at_rest, jnp.zeros_like(value)) / safe
    moved = jnp.where(is_free, mean + weight * pull, fixed)
    again = still(missing(moved, weight)) / still(safe)  # what rounding left
    moved = _clip(moved + jnp.where(is_free, still(pull) * again, 0), low, high)
    size = jnp.dot(jnp.abs(row), jnp.abs(moved)) + jnp.abs(value)
    allowed = float(jnp.finfo(mean.dtype).eps) ** 0.5 * (size + jnp.sqrt(noise))
    is_missed = jnp.abs(missing(moved, weight + again)) > allowed
    return jnp.where(is_missed, jnp.nan, moved)


def _active(
    mean: Float[Array, " n"],
    pull: Float[Array, " n"],
    row: Float[Array, " n"],
    noise: Float[Array, ""],
    value: Float[Array, ""],
    low: Float[Array, " n"],
    high: Float[Array, " n"],
) -> tuple[Bool[Array, " n"], Bool[Array, " n"]]:
    """Returns which points are between their bounds, and which of the others at the upper one."""
    moves = pull != 0
    step = jnp.where(moves, pull, 1)
    to_low, to_high = (jnp.where(moves, (b - mean) / step, jnp.inf) for b in (low, high))
    enter, leave = jnp.minimum(to_low, to_high), jnp.maximum(to_low, to_high)
    breaks = jnp.sort(jnp.where(moves, jnp.stack([enter, leave]), jnp.inf).ravel())

    def is_below(weight: Array) -> Array:
        finite = jnp.where(jnp.isfinite(weight), weight, 0)
        left = jnp.dot(row, jnp.clip(mean + finite * pull, low, high), precision=EXACT)
        reached = left + noise * finite <= value
        return jnp.where(jnp.isfinite(weight), reached, weight < 0)

    def halve(_: Array | int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        first, last = bracket
        middle = (first + last) // 2
        below, is_open = is_below(breaks[jnp.minimum(middle, breaks.size - 1)]), first < last
        up, down = is_open & below, is_open & ~below
        return jnp.where(up, middle + 1, first), jnp.where(down, middle, last)

    count, _ = jax.lax.fori_loop(
        0, breaks.size.bit_length() + 1, halve, (jnp.int32(0), jnp.int32(breaks.size))
    )
    ends = jnp.pad(breaks, 1, constant_values=(-jnp.inf, jnp.inf))
    start, stop = ends[count], ends[count + 1]
    is_late, is_early = moves & (leave <= start), moves & (enter >= stop)
    stays = jnp.clip(mean, low, high)
    is_free = jnp.where(moves, ~is_late & ~is_early, stays == mean)
    is_high = jnp.where(moves, jnp.where(pull > 0, is_late, is_early), mean > high)
    return is_free, is_high


class _Split(NamedTuple):
    """Where the iteration is, axes [n, batch]; lengths of steps are those of the last one.

    Attributes:
        within: z, a field within the bounds.
        behind: w, the sum of what u and z differed by.
        apart: u - z.
        moved: The last change of z.
    """

    within: Float[Array, "n batch"]
    behind: Float[Array, "n batch"]
    apart: Float[Array, "n batch"]
    moved: Float[Array, "n batch"]


_Answer = Callable[[Float[Array, "n batch"]], Float[Array, "n batch"]]


def _iterated(
    covariance: Covariance,
    mean: Float[Array, "*batch n"],
    low: Float[Array, " n"],
    high: Float[Array, " n"],
    constraint: LinearConstraint | None,
    iterations: int,
) -> Float[Array, "*batch n"]:
    """Returns the most likely field by the alternating direction method of multipliers.

    u is the Gaussian's answer to an observation of every point at z - w, z is u + w within the
    bounds. The noise of an observation is the point's own variance over a weight, so that no unit
    is preferred; the weight is set anew after every stage, such that u meets z as fast as z
    settles: a smooth kernel wants a thousand times the weight of independent points.
    """
    flat = mean.reshape(-1, mean.shape[-1])
    variance = jax.lax.stop_gradient(marginal_variance(covariance))
    unit = jnp.sqrt(variance / jnp.where(variance.max() > 0, variance.max(), 1))
    unit = jnp.maximum(unit, float(jnp.finfo(mean.dtype).eps))  # of points that are certain
    weight = FIRST_WEIGHT / jnp.where(variance.max() > 0, variance.max(), 1)
    zero, edges = jnp.zeros_like(flat.T), (low[:, None], high[:, None])
    split, answer = _Split(jnp.clip(flat.T, *edges), zero, zero, zero), None
    for stage in range(STAGES):
        if stage > 0:
            change = _change_of_weight(split, flat.T, unit[:, None])
            weight, split = weight * change, split._replace(behind=split.behind / change)
        answer = _answers(covariance, flat, weight / unit**2, constraint)
        split = _advanced(split, answer, edges, -(-iterations // STAGES))
    assert answer is not None
    if constraint is None:
        return split.within.T.reshape(mean.shape)
    if constraint.rows.shape[0] == 1 and constraint.covariance is None:
        inside = split.within.T.reshape(mean.shape)
        return _exactly(variance, inside, low, high, constraint)
    return answer(split.within - split.behind).T.reshape(mean.shape)


def _answers(
    covariance: Covariance,
    mean: Float[Array, "batch n"],
    precision: Float[Array, " n"],
    constraint: LinearConstraint | None,
) -> _Answer:
    """Returns how the most likely field, rows included, answers to observations of all points."""
    posterior = Gaussian(mean, observed(covariance, precision))
    if constraint is not None:
        posterior = condition(constraint, posterior)

    def answer(asked: Array) -> Array:
        pull = precision[:, None] * (asked - mean.T)
        return posterior.mean.T + times(posterior.covariance, pull)

    return answer


def _advanced(split: _Split, answer: _Answer, edges: tuple[Array, Array], length: int) -> _Split:
    """Returns where so many iterations lead."""

    def step(split: _Split, _: None) -> tuple[_Split, None]:
        u = answer(split.within - split.behind)
        over = RELAXATION * u + (1 - RELAXATION) * split.within
        within = jnp.clip(over + split.behind, *edges)
        behind = split.behind + over - within
        return _Split(within, behind, u - within, within - split.within), None

    return jax.lax.scan(step, split, None, length=length)[0]


def _change_of_weight(
    split: _Split, mean: Float[Array, "n batch"], unit: Float[Array, "n 1"]
) -> Float[Array, ""]:
    """Returns by which factor the weight of observations grows, between 1 / 10 and 10.

    The square root of how far u and z are apart over how far z moved, each relative to its size.
    """
    apart, moved, behind, reach = (
        jnp.linalg.norm(jax.lax.stop_gradient(part) / unit)
        for part in (split.apart, split.moved, split.behind, split.within - mean)
    )
    least = float(jnp.finfo(mean.dtype).tiny)
    return jnp.clip(jnp.sqrt((apart * behind + least) / (moved * reach + least)), 0.1, 10.0)


def _clip(
    u: Float[Array, "*batch n"], low: Float[Array, " n"], high: Float[Array, " n"]
) -> Float[Array, "*batch n"]:
    """Returns the field within its bounds; derivatives go to the bound where that holds."""
    high, low = jnp.broadcast_to(high, u.shape), jnp.broadcast_to(low, u.shape)
    return jnp.where(u > high, high, jnp.where(u < low, low, u))
