"""Conservation laws as linear constraints: the mass of a profile, of its cells, and its shape.

u_t + div F(u) = 0 in integral form prescribes ∫ u dx at every time from initial and boundary data.
A quadrature rule makes that one row of weights for each time slice; `constraints.condition` then
gives mean and covariance of a prediction that conserves. One slice at a time: `jax.vmap` over the
slices, each with its own abscissae, mass and covariance. Abscissae, masses and variances may be
integers, lists and Python's numbers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.banded import cholesky_bands, solve_lower, solve_upper
from sciml.boundary import axis_length, uneven
from sciml.constraints import Gaussian, LinearConstraint
from sciml.covariances import BandedPrecision, Diagonal, as_covariance
from sciml.numbers import Numbers, concrete, floating

# Least variance of a second difference, relative to the one of independent points: reached only
# by correlations above 0.998, where the differences would be called certain.
VARIANCE_FLOOR = 1e-3


def trapezoid_weights(x: Float[Array, " n"] | Numbers) -> Float[Array, " n"]:
    """Returns g with Σ g_j u_j ≈ ∫ u from the first to the last point; exact for linear u.

    Source: Hansen et al. (2023), the rule of the released code. Nothing is extrapolated.

    Raises:
        ValueError: If the abscissae are not increasing.
    """
    x = check_increasing(x)
    gaps = jnp.diff(x)
    return (jnp.pad(gaps, (0, 1)) + jnp.pad(gaps, (1, 0))) / 2


def right_riemann_weights(x: Float[Array, " n"] | Numbers) -> Float[Array, " n"]:
    """Returns the rule that takes every interval's value at its right end; the first point has 0.

    Source: Hansen et al. (2023), an ablation of the released code.

    Raises:
        ValueError: If the abscissae are not increasing.
    """
    x = check_increasing(x)
    return jnp.pad(jnp.diff(x), (1, 0))


def mass_constraint(
    x: Float[Array, " n"] | Numbers,
    mass: Float[Array, "*batch"] | Numbers,
    *,
    rule: str = "trapezoid",
    sigma: Float[Array, ""] | float = 0.0,
) -> LinearConstraint:
    """Returns the one row of a time slice: its integral is `mass`.

    Source: Hansen et al. (2023), the conservation law in integral form, G u = b.

    Args:
        x: Abscissae of the slice.
        mass: Integral b(t), in the unit of the field times that of x.
        rule: trapezoid or right on any increasing abscissae; uniform: the same weight for each, x
            being equidistant cell centers or a periodic grid without its last end.
        sigma: Standard deviation of noise in the mass; 0: exact, infinite: nothing is known.

    Raises:
        ValueError: If the abscissae are not increasing, or not equidistant for the uniform rule,
            the rule is unknown, or sigma is negative.
    """
    x, mass = floating(x), floating(mass)
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
    x: Float[Array, " n"] | Numbers,
    edges_index: Sequence[int],
    cell_masses: Float[Array, "*batch cells"] | Numbers,
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
    x, cell_masses = check_increasing(x), floating(cell_masses)
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


def difference_rows(
    points: int, *, x: Float[Array, " n"] | Numbers | None = None, dtype: Any = None
) -> Float[Array, "m n"]:
    """Returns the second differences of neighbours as rows, [n - 2, n]; 0 for straight lines in x.

    Args:
        points: n.
        x: Abscissae; None: equidistant ones, u_{i-1} - 2 u_i + u_{i+1}. Others: the two neighbours
            in proportion to the gap on the other side, their weights summing up to 2.
        dtype: Of the rows.

    Raises:
        ValueError: If there are fewer than 3 points, or x has another number of them or does not
            increase.
    """
    before, after = _neighbour_weights(points, x, dtype)
    eye = jnp.eye(points, dtype=dtype)
    return before[:, None] * eye[:-2] - 2 * eye[1:-1] + after[:, None] * eye[2:]


def difference_variance(
    variance: Float[Array, " n"] | Numbers,
    *,
    correlation: float = 0.9,
    x: Float[Array, " n"] | Numbers | None = None,
) -> Float[Array, " m"]:
    """Returns the variance of every second difference if neighbours correlate as correlation^|i-j|.

    Source: Hansen et al. (2023), artificial diffusion. v_i = σ²_{i-1} + 4σ²_i + σ²_{i+1} -
    4ασ_{i-1}σ_i + 2α²σ_{i-1}σ_{i+1} - 4ασ_iσ_{i+1}, where σ_{i-1} and σ_{i+1} carry the weights
    that their points have in `difference_rows`. Not below VARIANCE_FLOOR (σ²_{i-1} + 4σ²_i +
    σ²_{i+1}): with α = 1 and equal σ it would be 0, and a straight line certain.

    Raises:
        ValueError: If the correlation is not in [0, 1], or as `difference_rows`.
    """
    variance = floating(variance)
    before, after = _neighbour_weights(variance.size, x, variance.dtype)
    return _difference_variance(variance, before, after, correlation)


def _difference_variance(
    variance: Float[Array, " n"],
    before: Float[Array, " m"],
    after: Float[Array, " m"],
    correlation: float,
) -> Float[Array, " m"]:
    if not 0 <= correlation <= 1:
        raise ValueError(f"correlation={correlation}: expected a number from 0 to 1")
    sigma = jnp.sqrt(variance)
    left, here, right = before * sigma[:-2], sigma[1:-1], after * sigma[2:]
    alone = left**2 + 4 * here**2 + right**2
    mixed = 2 * correlation**2 * left * right - 4 * correlation * here * (left + right)
    return jnp.maximum(alone + mixed, VARIANCE_FLOOR * alone)


def _neighbour_weights(
    points: int, x: Float[Array, " n"] | Numbers | None, dtype: Any
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Returns the weights of the neighbours before and after a point in a second difference.

    Exactly 1 for abscissae that are equidistant up to rounding errors of theirs.
    """
    if points < 3:
        raise ValueError(f"second differences of {points} points: expected 3 or more")
    if x is None:
        ones = jnp.ones(points - 2, dtype)
        return ones, ones
    x = check_increasing(x)
    if x.shape != (points,):
        raise ValueError(f"abscissae of shape {x.shape} for {points} points: expected ({points},)")
    gaps = jnp.diff(x)
    weights = [2 * gap / (gaps[:-1] + gaps[1:]) for gap in (gaps[1:], gaps[:-1])]
    # The value of 1, the derivative of the weight.
    unit = [w + jax.lax.stop_gradient(1 - w) for w in weights]
    before, after = (
        jnp.where(uneven(gaps, x), w, one).astype(dtype or x.dtype)
        for w, one in zip(weights, unit, strict=True)
    )
    return before, after


def smoothness(
    variance: Float[Array, " n"] | Numbers,
    *,
    correlation: float = 0.9,
    x: Float[Array, " n"] | Numbers | None = None,
) -> LinearConstraint:
    """Returns "second differences are 0 up to noise" as dense rows; to combine it with others.

    `shape_correction` conditions on it in O(n), and says what the arguments are.
    """
    variance = floating(variance)
    noise = difference_variance(variance, correlation=correlation, x=x)
    rows = difference_rows(variance.size, x=x, dtype=variance.dtype)
    return LinearConstraint(rows, jnp.zeros_like(noise), jnp.diag(noise))


def shape_correction(
    prior: Gaussian,
    *,
    correlation: float = 0.9,
    x: Float[Array, " n"] | Numbers | None = None,
) -> Gaussian:
    """Returns the prior given that its second differences are about 0: artificial diffusion, O(n).

    Damps kinks and oscillations; a straight line in x is unchanged. Condition the result on a mass
    afterwards: its covariance is the inverse of a matrix of five diagonals.

    Source: Hansen et al. (2023), artificial diffusion, "w/diff". Σ_1 = (Σ^{-1} + G^T diag(1/v)
    G)^{-1}, v of `difference_variance`; μ_1 = Σ_1 Σ^{-1} μ, written as μ - Σ_1 G^T diag(1/v) G μ,
    whose rounding errors are those of the change only. The paper's slices are equidistant.

    Args:
        prior: With independent points (a vector or `Diagonal`) of positive variance.
        correlation: Of neighbouring points, α.
        x: Abscissae, see `difference_rows`; None: equidistant.

    Raises:
        ValueError: If the covariance is not diagonal or (numbers known) a variance not positive, or
            as `difference_rows`.
    """
    covariance = as_covariance(prior.covariance)
    if not isinstance(covariance, Diagonal):
        kind = type(covariance).__name__
        raise ValueError(f"shape_correction of a {kind} covariance: expected a Diagonal one")
    variance, mean = covariance.variance, floating(prior.mean)
    if concrete(variance) and not np.all(np.asarray(variance) > 0):
        raise ValueError(f"shape_correction: variance {np.min(variance)}, expected all above 0")

    left, right = _neighbour_weights(variance.size, x, variance.dtype)
    weight = 1 / _difference_variance(variance, left, right, correlation)  # of every difference
    before, here, after = (jnp.pad(weight * c, side) for c, side in _shifts(left**2, 4, right**2))
    main = 1 / variance + before + here + after
    # Points i, i + 1 share differences i, i - 1; points i, i + 2 only i.
    first = -2 * (jnp.pad(weight * left, (0, 2)) + jnp.pad(weight * right, (1, 1)))
    bands = jnp.stack([main, first, jnp.pad(weight * left * right, (0, 2))])

    flat = mean.reshape(-1, variance.size).T
    left, right = left[:, None], right[:, None]
    kinks = weight[:, None] * (left * flat[:-2] - 2 * flat[1:-1] + right * flat[2:])
    parts = [jnp.pad(kinks * c, (side, (0, 0))) for c, side in _shifts(left, 2, right)]
    factor = cholesky_bands(bands)
    change = solve_upper(factor, solve_lower(factor, parts[0] - parts[1] + parts[2]))
    return Gaussian((flat - change).T.reshape(mean.shape), BandedPrecision(bands))


def _shifts(*factors: Any) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Returns the factors of a difference's three points and where they stand among all points."""
    return zip(factors, ((0, 2), (1, 1), (2, 0)), strict=True)


def check_increasing(x: Float[Array, " n"] | Numbers) -> Float[Array, " n"]:
    """Returns abscissae as floats, checked if they are concrete.

    Raises:
        ValueError: If there are fewer than 2, or one is not above the one before it.
    """
    x = floating(x)
    if x.size < 2:
        raise ValueError(f"abscissae: {x.size} points, expected 2 or more")
    if concrete(x) and not np.all(np.diff(np.asarray(x)) > 0):
        least = np.min(np.diff(np.asarray(x)))
        raise ValueError(f"abscissae with a step of {least}: expected them to increase")
    return x


def _noise(sigma: Any, rows: int, dtype: Any) -> Float[Array, "m m"] | None:
    known = concrete(sigma)
    if known and not float(sigma) >= 0:
        raise ValueError(f"sigma={float(sigma)}: expected a standard deviation of 0 or more")
    if known and float(sigma) == 0:
        return None
    # The square of a larger one overflows; it hides no less than this one does.
    bound = float(jnp.finfo(dtype).max) ** 0.5 / 2
    sigma = jnp.minimum(jnp.asarray(sigma, dtype), bound)
    return sigma**2 * jnp.eye(rows, dtype=dtype)
