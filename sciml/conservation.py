"""Conservation laws as linear constraints: the mass of a profile, of its cells, and its shape.

u_t + div F(u) = 0 in integral form prescribes ∫ u dx at every time from initial and boundary data.
A quadrature rule makes that one row of weights for each time slice; `constraints.condition` then
gives mean and covariance of a prediction that conserves. One slice at a time: `jax.vmap` over the
slices, each with its own abscissae, mass and covariance.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.banded import cholesky_bands, solve_lower, solve_upper
from sciml.boundary import axis_length
from sciml.constraints import Gaussian, LinearConstraint, concrete
from sciml.covariances import BandedPrecision, Diagonal, as_covariance

# Least variance of a second difference, relative to the one of independent points: reached only
# by correlations above 0.998, where the differences would be called certain.
VARIANCE_FLOOR = 1e-3


def trapezoid_weights(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns g with Σ g_j u_j ≈ ∫ u from the first to the last point; exact for linear u.

    Source: ProbConserv; nothing is extrapolated beyond the points.

    Raises:
        ValueError: If the abscissae are not increasing.
    """
    check_increasing(x)
    gaps = jnp.diff(x)
    return (jnp.pad(gaps, (0, 1)) + jnp.pad(gaps, (1, 0))) / 2


def right_riemann_weights(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns the rule that takes every interval's value at its right end; the first point has 0.

    Source: ProbConserv, an ablation.

    Raises:
        ValueError: If the abscissae are not increasing.
    """
    check_increasing(x)
    return jnp.pad(jnp.diff(x), (1, 0))


def mass_constraint(
    x: Float[Array, " n"],
    mass: Float[Array, "*batch"],
    *,
    rule: str = "trapezoid",
    sigma: Float[Array, ""] | float = 0.0,
) -> LinearConstraint:
    """Returns the one row of a time slice: its integral is `mass`.

    Args:
        x: Abscissae of the slice.
        mass: Integral b(t), in the unit of the field times that of x.
        rule: trapezoid or right on any increasing abscissae; uniform: the same weight for each, x
            being equidistant cell centers or a periodic grid without its last end.
        sigma: Standard deviation of noise in the mass; 0: exact.

    Raises:
        ValueError: If the abscissae are not increasing, or not equidistant for the uniform rule,
            the rule is unknown, or sigma is negative.
    """
    if rule == "trapezoid":
        weights = trapezoid_weights(x)
    elif rule == "right":
        weights = right_riemann_weights(x)
    elif rule == "uniform":
        if concrete(x):
            axis_length(np.asarray(x))
        weights = jnp.full_like(x, (x[-1] - x[0]) / (x.size - 1))
    else:
        raise ValueError(f"rule={rule!r}: expected trapezoid, right or uniform")
    return LinearConstraint(weights[None, :], mass[..., None], _noise(sigma, 1, x.dtype))


def cell_constraint(
    x: Float[Array, " n"],
    edges_index: Sequence[int],
    cell_masses: Float[Array, "*batch cells"],
    *,
    sigma: Float[Array, ""] | float = 0.0,
) -> LinearConstraint:
    """Returns one row for every cell of a time slice: local conservation, as of finite volumes.

    Neighbours share the point between them, each with the trapezoid of its own side; the rows do
    not depend on one another and add up to the row of the whole slice.

    Args:
        x: Abscissae of the slice.
        edges_index: Positions in x of the cells' ends, from 0 to n - 1: one more than cells.
        cell_masses: Integral over every cell.
        sigma: Standard deviation of independent noise in each of them; 0: exact.

    Raises:
        ValueError: If the abscissae or edges are not increasing, the edges do not span the slice,
            the number of masses is not that of cells, or sigma is negative.
    """
    check_increasing(x)
    edges = np.asarray(edges_index)
    spans = edges.size >= 2 and edges[0] == 0 and edges[-1] == x.size - 1
    if not spans or np.any(np.diff(edges) < 1):
        raise ValueError(
            f"edges_index={tuple(edges_index)}: expected increasing positions from 0 to "
            f"{x.size - 1}, the last of the abscissae"
        )
    cells = edges.size - 1
    if cell_masses.shape[-1] != cells:
        raise ValueError(
            f"cell_masses of shape {cell_masses.shape} for {cells} cells: expected [..., {cells}]"
        )
    interval = np.arange(x.size - 1)[None, :]
    inside = (interval >= edges[:-1, None]) & (interval < edges[1:, None])  # [cells, n - 1]
    gaps = jnp.where(inside, jnp.broadcast_to(jnp.diff(x), inside.shape), 0)
    rows = (jnp.pad(gaps, ((0, 0), (0, 1))) + jnp.pad(gaps, ((0, 0), (1, 0)))) / 2
    return LinearConstraint(rows, cell_masses, _noise(sigma, cells, x.dtype))


def difference_rows(points: int, *, dtype: Any = None) -> Float[Array, "m n"]:
    """Returns the second differences u_{i-1} - 2 u_i + u_{i+1} as rows, [n - 2, n].

    Raises:
        ValueError: If there are fewer than 3 points.
    """
    if points < 3:
        raise ValueError(f"second differences of {points} points: expected 3 or more")
    eye = jnp.eye(points, dtype=dtype)
    return eye[:-2] - 2 * eye[1:-1] + eye[2:]


def difference_variance(
    variance: Float[Array, " n"], *, correlation: float = 0.9
) -> Float[Array, " m"]:
    """Returns the variance of every second difference if neighbours correlate as correlation^|i-j|.

    Source: ProbConserv, artificial diffusion: v_i = σ²_{i-1} + 4σ²_i + σ²_{i+1} - 4ασ_{i-1}σ_i
    + 2α²σ_{i-1}σ_{i+1} - 4ασ_iσ_{i+1}. Not below VARIANCE_FLOOR (σ²_{i-1} + 4σ²_i + σ²_{i+1}): with
    α = 1 and equal σ it would be 0, and a straight line certain.

    Raises:
        ValueError: If the correlation is not in [0, 1], or there are fewer than 3 points.
    """
    if not 0 <= correlation <= 1:
        raise ValueError(f"correlation={correlation}: expected a number from 0 to 1")
    if variance.size < 3:
        raise ValueError(f"second differences of {variance.size} points: expected 3 or more")
    sigma = jnp.sqrt(variance)
    left, here, right = sigma[:-2], sigma[1:-1], sigma[2:]
    alone = left**2 + 4 * here**2 + right**2
    mixed = 2 * correlation**2 * left * right - 4 * correlation * here * (left + right)
    return jnp.maximum(alone + mixed, VARIANCE_FLOOR * alone)


def smoothness(variance: Float[Array, " n"], *, correlation: float = 0.9) -> LinearConstraint:
    """Returns "second differences are 0 up to noise" as dense rows; to combine it with others.

    `shape_correction` conditions on it in O(n).
    """
    noise = difference_variance(variance, correlation=correlation)
    rows = difference_rows(variance.size, dtype=variance.dtype)
    return LinearConstraint(rows, jnp.zeros_like(noise), jnp.diag(noise))


def shape_correction(prior: Gaussian, *, correlation: float = 0.9) -> Gaussian:
    """Returns the prior given that its second differences are about 0: artificial diffusion, O(n).

    Damps kinks and oscillations; a straight line is unchanged. Condition the result on a mass
    afterwards: its covariance is the inverse of a matrix of five diagonals.

    Source: ProbConserv, "w/diff": Σ_1 = (Σ^{-1} + G^T diag(1/v) G)^{-1}, v of
    `difference_variance`; μ_1 = Σ_1 Σ^{-1} μ, written as μ - Σ_1 G^T diag(1/v) G μ, whose rounding
    errors are those of the change only.

    Args:
        prior: With independent points (a vector or `Diagonal`) of positive variance.
        correlation: Of neighbouring points, α.

    Raises:
        ValueError: If the covariance is not diagonal or (numbers known) a variance not positive.
    """
    covariance = as_covariance(prior.covariance)
    if not isinstance(covariance, Diagonal):
        kind = type(covariance).__name__
        raise ValueError(f"shape_correction of a {kind} covariance: expected a Diagonal one")
    variance = covariance.variance
    if concrete(variance) and not np.all(np.asarray(variance) > 0):
        raise ValueError(f"shape_correction: variance {np.min(variance)}, expected all above 0")

    weight = 1 / difference_variance(variance, correlation=correlation)  # of every difference
    before, after = jnp.pad(weight, (0, 2)), jnp.pad(weight, (2, 0))
    main = 1 / variance + before + 4 * jnp.pad(weight, (1, 1)) + after
    first = -2 * (before + jnp.pad(weight, (1, 1)))  # points i, i + 1 share differences i, i - 1
    bands = jnp.stack([main, first, before])

    flat = prior.mean.reshape(-1, variance.size).T
    kinks = weight[:, None] * (flat[:-2] - 2 * flat[1:-1] + flat[2:])
    pad = [jnp.pad(kinks, (side, (0, 0))) for side in ((0, 2), (1, 1), (2, 0))]
    factor = cholesky_bands(bands)
    change = solve_upper(factor, solve_lower(factor, pad[0] - 2 * pad[1] + pad[2]))
    return Gaussian((flat - change).T.reshape(prior.mean.shape), BandedPrecision(bands))


def check_increasing(x: Float[Array, " n"]) -> None:
    """Checks concrete abscissae.

    Raises:
        ValueError: If there are fewer than 2, or one is not above the one before it.
    """
    if x.size < 2:
        raise ValueError(f"abscissae: {x.size} points, expected 2 or more")
    if concrete(x) and not np.all(np.diff(np.asarray(x)) > 0):
        least = np.min(np.diff(np.asarray(x)))
        raise ValueError(f"abscissae with a step of {least}: expected them to increase")


def _noise(sigma: Any, rows: int, dtype: Any) -> Float[Array, "m m"] | None:
    known = not isinstance(sigma, Array) or concrete(sigma)
    if known and not float(sigma) >= 0:
        raise ValueError(f"sigma={float(sigma)}: expected a standard deviation of 0 or more")
    if known and float(sigma) == 0:
        return None
    return jnp.asarray(sigma, dtype) ** 2 * jnp.eye(rows, dtype=dtype)
