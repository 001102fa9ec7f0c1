"""Linear constraints G u = b, and fields projected or conditioned on them.

One formula serves all: u + D (G D + S)^{-1} (b - G u) moves u along the columns of D until the
constraint holds. D = G^T is the orthogonal projection, D = C G^T conditions a Gaussian of
covariance C (S: variance of noise in b), D = K E with a kernel K and sources E at the boundary is
the refinement of BOON.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml.covariances import (
    EXACT,
    CovarianceLike,
    Downdated,
    as_covariance,
    num_points,
    times,
)
from sciml.linear_solve import (
    check_definite,
    check_regular,
    cholesky,
    damped_inverse,
    solve_lower,
)
from sciml.numbers import Numbers, concrete, floating


class LinearConstraint(NamedTuple):
    """Sums Σ_x rows[m, x] u[x] = values[m] that a field shall have.

    Integers and lists are taken as floats by the functions here.

    Attributes:
        rows: Weights G of every constraint.
        values: Right-hand sides b.
        covariance: Of noise in the values, [m, m]; None: the constraint is exact.
    """

    rows: Float[Array, "m n"]
    values: Float[Array, "*batch m"]
    covariance: Float[Array, "m m"] | None = None


def check_shapes(constraint: LinearConstraint, points: int) -> None:
    """Checks the shapes of constraints, traced ones too, against the size of a field.

    Raises:
        ValueError: Naming both shapes.
    """
    rows, values = constraint.rows.shape, constraint.values.shape
    if len(rows) != 2 or rows[1] != points:
        raise ValueError(
            f"constraint rows of shape {rows} on a field of {points} points: a row outside "
            f"the domain; expected [number of constraints, {points}]"
        )
    if values[-1:] != rows[:1]:
        raise ValueError(
            f"constraint values of shape {values} for {rows[0]} rows: expected [..., {rows[0]}]"
        )


def residual(
    constraint: LinearConstraint, u: Float[Array, "*batch n"] | Numbers
) -> Float[Array, "*batch m"]:
    """Returns b - G u: what is missing. The values b are broadcast to the batch of u."""
    constraint, u = in_floats(constraint), floating(u)
    found = _apply(constraint.rows, u)
    return jnp.broadcast_to(constraint.values, found.shape) - found


def project(
    constraint: LinearConstraint,
    u: Float[Array, "*batch n"] | Numbers,
    *,
    directions: Float[Array, "n m"] | None = None,
    damping: float = 0.0,
) -> Float[Array, "*batch n"]:
    """Returns u moved along `directions` until G u = b: u + D (G D + S)^{-1} (b - G u).

    A pure function, differentiable in u, rows, values and directions: the last layer of a network,
    or a part of its loss. Without damping what rounding left of b - G u is corrected once more.
    Rows may follow from others if their values do too. What cannot be satisfied is NaN under `jit`.

    Args:
        constraint: What shall hold; with a covariance S it holds up to that noise.
        u: Fields, flattened.
        directions: D; default G^T, the orthogonal projection (least change in the 2-norm).
        damping: Relative to the size of G D, guards the inverse of an ill-conditioned G D; the
            constraint then holds up to damping^2.

    Raises:
        ValueError: If shapes disagree, or (numbers known, no damping) the constraints contradict
            each other or the directions do not reach them all.
    """
    constraint, u = in_floats(constraint), floating(u)
    check_shapes(constraint, u.shape[-1])
    if directions is None and not damping:
        spread = constraint.rows.T
        root = cholesky(_system(constraint, spread), slack=_slack(constraint))
        return _satisfied(_reach(constraint, u, spread, _solver(root)), u)
    directions = constraint.rows.T if directions is None else floating(directions)
    matrix = _system(constraint, directions)
    if not damping and concrete(matrix):
        check_regular(matrix, slack=_slack(constraint))
    inverse = damped_inverse(matrix, damping=damping)

    def solve(missing: Array) -> Array:
        return _apply(inverse, missing)

    if damping:
        return u + _apply(directions, solve(residual(constraint, u)))
    return _reach(constraint, u, directions, solve)


class Gaussian(NamedTuple):
    """Mean and covariance of a field; of an array, a vector stands for a diagonal covariance.

    Leading axes of the mean share the one covariance; `jax.vmap` where every field has its own.
    """

    mean: Float[Array, "*batch n"]
    covariance: CovarianceLike


def condition(constraint: LinearConstraint, prior: Gaussian) -> Gaussian:
    """Returns a Gaussian field given that the constraint holds (with noise, if it has any).

    mean + Σ G^T A^{-1} (b - G mean) and Σ - W W^T with A = G Σ G^T + S and W = Σ G^T A^{-1/2}.
    O(n m² + m³) beyond the product Σ G^T; the covariance is `Downdated`, never a matrix [n, n].
    Differentiable in everything. An exact constraint holds to rounding. Under `jit`, exact rows
    that follow from others may be there if their values do too; what cannot be satisfied is NaN.

    Source: Hansen et al. (2023), the update of mean and covariance. Σ^{-1}-distances to fields that
    satisfy an exact constraint never grow.

    Raises:
        ValueError: If shapes disagree, or (numbers known) A is singular: exact constraints that
            depend on one another, or on what the prior says is certain.
    """
    constraint, covariance = in_floats(constraint), as_covariance(prior.covariance)
    check_shapes(constraint, num_points(covariance))
    spread, root = _spread_and_root(constraint, times(covariance, constraint.rows.T))
    mean = _reach(constraint, floating(prior.mean), spread, _solver(root))
    factor = solve_lower(root, spread.T).T
    return Gaussian(mean, Downdated(covariance, factor))


def condition_samples(
    constraint: LinearConstraint,
    prior: Gaussian,
    samples: Float[Array, "*batch n"] | Numbers,
    *,
    noise: Float[Array, "*batch m"] | None = None,
) -> Float[Array, "*batch n"]:
    """Returns samples of the prior moved to samples of `condition(constraint, prior)`.

    Source: Matheron's rule (Wilson et al. 2020).

    y + Σ G^T A^{-1} (b - noise - G y): each satisfies an exact constraint to rounding, and the
    singular covariance that they have is never factored.

    Args:
        constraint: What shall hold.
        prior: Where the samples are from; only its covariance is used.
        samples: prior.mean + `covariances.draw(key, covariance, shape)`.
        noise: Of a constraint with a covariance S: samples of N(0, S), one for each y.

    Raises:
        ValueError: As `condition`, and if noise is given without a covariance or the reverse.
    """
    if (noise is None) != (constraint.covariance is None):
        raise ValueError(
            f"condition_samples: noise is {'missing' if noise is None else 'given'}, expected it "
            "if and only if the constraint has a covariance"
        )
    constraint, covariance = in_floats(constraint), as_covariance(prior.covariance)
    check_shapes(constraint, num_points(covariance))
    spread, root = _spread_and_root(constraint, times(covariance, constraint.rows.T))
    if noise is not None:
        values = jnp.broadcast_to(constraint.values, noise.shape) - noise
        constraint = constraint._replace(values=values)
    return _reach(constraint, floating(samples), spread, _solver(root))


def violation_loss(
    constraint: LinearConstraint, u: Float[Array, "*batch n"] | Numbers
) -> Float[Array, "*batch"]:
    """Returns the squared 2-norm of b - G u: a soft constraint for a training loss."""
    return jnp.sum(residual(constraint, u) ** 2, axis=-1)


def condition_number(matrix: Float[Array, "*batch m m"]) -> Float[Array, "*batch"]:
    """Returns the ratio of the largest to the smallest singular value; inf if that is 0."""
    values = jnp.linalg.svd(matrix, compute_uv=False)
    smallest = values[..., -1]
    return jnp.where(smallest > 0, values[..., 0] / jnp.where(smallest > 0, smallest, 1), math.inf)


def in_floats(constraint: LinearConstraint) -> LinearConstraint:
    """Returns the constraint with integers and lists as floats."""
    noise = constraint.covariance
    noise = None if noise is None else floating(noise)
    return LinearConstraint(floating(constraint.rows), floating(constraint.values), noise)


def _apply(
    matrix: Float[Array, "out in"], x: Float[Array, "*batch in"]
) -> Float[Array, "*batch out"]:
    return jnp.einsum("oi,...i->...o", matrix, x, precision=EXACT)


def _system(constraint: LinearConstraint, directions: Float[Array, "n m"]) -> Float[Array, "m m"]:
    matrix = jnp.matmul(constraint.rows, directions, precision=EXACT)
    return matrix if constraint.covariance is None else matrix + constraint.covariance


def _reach(
    constraint: LinearConstraint,
    u: Float[Array, "*batch n"],
    directions: Float[Array, "n m"],
    solve: Callable[[Array], Array],
) -> Float[Array, "*batch n"]:
    """Returns u + D w, (G D + S) w = b - G u, with one step of iterative refinement.

    The second residual is of the field itself, so its rounding errors are corrected as well. A
    field that then still misses half of the digits is NaN: the constraints contradict each other.
    """

    def left_of(moved: Array, weights: Array) -> Array:
        left = residual(constraint, moved)
        if constraint.covariance is None:
            return left
        return left - _apply(constraint.covariance, weights)

    weights = solve(residual(constraint, u))
    moved = u + _apply(directions, weights)
    more = solve(left_of(moved, weights))
    moved = moved + _apply(directions, more)
    terms = jnp.abs(constraint.values)
    if constraint.covariance is not None:
        terms = terms + jnp.broadcast_to(_deviation(constraint.covariance), terms.shape)
    found = _apply(jnp.abs(constraint.rows), jnp.abs(moved))
    allowed = float(jnp.finfo(moved.dtype).eps) ** 0.5 * (
        found + jnp.broadcast_to(terms, found.shape)
    )
    misses = jnp.any(jnp.abs(left_of(moved, weights + more)) > allowed, axis=-1, keepdims=True)
    return jnp.where(misses, jnp.nan, moved)


def _satisfied(moved: Float[Array, "*batch n"], u: Float[Array, "*batch n"]) -> Array:
    """Returns the field, checked if it is concrete: NaN that u had not is what `_reach` made."""
    if concrete(moved, u) and (jnp.isnan(moved) & ~jnp.isnan(u)).any():
        raise ValueError(
            "project: the constraints cannot all hold: rows that depend on one another, or are 0, "
            "have values that contradict each other; drop some, or give them a covariance"
        )
    return moved


def _deviation(covariance: Float[Array, "m m"]) -> Float[Array, " m"]:
    return jnp.sqrt(jax.lax.stop_gradient(jnp.diagonal(covariance)))


def _spread_and_root(
    constraint: LinearConstraint, spread: Float[Array, "n m"]
) -> tuple[Float[Array, "n m"], Float[Array, "m m"]]:
    """Returns Σ G^T and the lower Cholesky factor of A = G Σ G^T + S, given the former."""
    matrix, slack = _system(constraint, spread), _slack(constraint)
    if concrete(matrix):
        check_definite(matrix, slack=slack)
    return spread, cholesky(matrix, slack=slack)


def _slack(constraint: LinearConstraint) -> float:
    """Returns the size of rounding errors in G D, sums over all points, relative to its entries."""
    count, points = constraint.rows.shape
    return float(jnp.finfo(constraint.rows.dtype).eps) * (count + 2 * points**0.5)


def _solver(root: Float[Array, "m m"]) -> Callable[[Array], Array]:
    def solve(missing: Array) -> Array:
        flat = missing.reshape(-1, missing.shape[-1]).T
        return solve_lower(root, solve_lower(root, flat), transpose=True).T.reshape(missing.shape)

    return solve
