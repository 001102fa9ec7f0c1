"""Linear constraints G u = b, and fields projected or conditioned on them.

One formula serves all: u + D (G D + S)^{-1} (b - G u) moves u along the columns of D until the
constraint holds. D = G^T is the orthogonal projection, D = C G^T conditions a Gaussian of
covariance C (S: variance of noise in b), D = K E with a kernel K and sources E at the boundary is
the refinement of BOON.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.linear_solve import damped_inverse


class LinearConstraint(NamedTuple):
    """Sums Σ_x rows[m, x] u[x] = values[m] that a field shall have.

    Attributes:
        rows: Weights G of every constraint.
        values: Right-hand sides b.
        covariance: Of noise in the values, [m, m]; None: the constraint is exact.
    """

    rows: Float[Array, "m n"]
    values: Float[Array, "*batch m"]
    covariance: Float[Array, "m m"] | None = None


def check_constraint(constraint: LinearConstraint, points: int) -> None:
    """Checks concrete constraints against the size of a field.

    Raises:
        ValueError: If rows reach outside the domain, shapes disagree, numbers are not finite, or
            the rows of exact constraints depend on one another.
    """
    rows, values = np.asarray(constraint.rows), np.asarray(constraint.values)
    if rows.ndim != 2 or rows.shape[1] != points:
        raise ValueError(
            f"constraint rows of shape {rows.shape} on a field of {points} points: a row outside "
            f"the domain; expected [number of constraints, {points}]"
        )
    if values.shape[-1:] != rows.shape[:1]:
        raise ValueError(
            f"constraint values of shape {values.shape} for {rows.shape[0]} rows: expected "
            f"[..., {rows.shape[0]}]"
        )
    if not (np.isfinite(rows).all() and np.isfinite(values).all()):
        raise ValueError("constraint rows and values must be finite numbers")
    rank = np.linalg.matrix_rank(rows.astype(np.float64))
    if constraint.covariance is None and rank < rows.shape[0]:
        raise ValueError(
            f"constraint rows of rank {rank}, but there are {rows.shape[0]}: exact constraints "
            "must not depend on one another; drop some, or give their values a covariance"
        )


def residual(constraint: LinearConstraint, u: Float[Array, "*batch n"]) -> Float[Array, "*batch m"]:
    """Returns b - G u: what is missing."""
    return constraint.values - jnp.einsum("mn,...n->...m", constraint.rows, u)


def project(
    constraint: LinearConstraint,
    u: Float[Array, "*batch n"],
    *,
    directions: Float[Array, "n m"] | None = None,
    damping: float = 0.0,
) -> Float[Array, "*batch n"]:
    """Returns u moved along `directions` until G u = b: u + D (G D + S)^{-1} (b - G u).

    A pure function, differentiable in u, rows, values and directions: the last layer of a network,
    or a part of its loss.

    Args:
        constraint: What shall hold; with a covariance S it holds up to that noise.
        u: Fields, flattened.
        directions: D; default G^T, the orthogonal projection (least change in the 2-norm).
        damping: Relative to the size of G D, guards the inverse of an ill-conditioned G D; the
            constraint then holds up to damping^2.
    """
    rows = constraint.rows
    directions = rows.T if directions is None else directions
    matrix = rows @ directions
    if constraint.covariance is not None:
        matrix = matrix + constraint.covariance
    gain = directions @ damped_inverse(matrix, damping=damping)
    return u + jnp.einsum("nm,...m->...n", gain, residual(constraint, u))


class Gaussian(NamedTuple):
    """Mean and covariance of a field; a vector stands for a diagonal covariance."""

    mean: Float[Array, "*batch n"]
    covariance: Float[Array, "n n"] | Float[Array, " n"]


def condition(constraint: LinearConstraint, prior: Gaussian) -> Gaussian:
    """Returns a Gaussian field given that the constraint holds (with noise, if it has any).

    Source: conditioning of a Gaussian, mean + C G^T (G C G^T + S)^{-1} (b - G mean).
    """
    rows = constraint.rows
    is_diagonal = prior.covariance.ndim == 1
    spread = prior.covariance[:, None] * rows.T if is_diagonal else prior.covariance @ rows.T
    mean = project(constraint, prior.mean, directions=spread)
    matrix = rows @ spread
    if constraint.covariance is not None:
        matrix = matrix + constraint.covariance
    full = jnp.diag(prior.covariance) if is_diagonal else prior.covariance
    change = spread @ damped_inverse(matrix, damping=0.0) @ spread.T
    return Gaussian(mean, full - (change + change.T) / 2)


def violation_loss(
    constraint: LinearConstraint, u: Float[Array, "*batch n"]
) -> Float[Array, "*batch"]:
    """Returns the squared 2-norm of b - G u: a soft constraint for a training loss."""
    return jnp.sum(residual(constraint, u) ** 2, axis=-1)


def concrete(*arrays: Array) -> bool:
    """Returns whether the numbers are there to be looked at, that is, not being traced."""
    return not any(isinstance(array, jax.core.Tracer) for array in arrays)


def condition_number(matrix: Float[Array, "*batch m m"]) -> Float[Array, "*batch"]:
    """Returns the ratio of the largest to the smallest singular value; inf if that is 0."""
    values = jnp.linalg.svd(matrix, compute_uv=False)
    smallest = values[..., -1]
    return jnp.where(smallest > 0, values[..., 0] / jnp.where(smallest > 0, smallest, 1), math.inf)
