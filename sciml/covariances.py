"""Covariances of fields on n points, stored by what they are made of, never as [n, n] if avoidable.

Every one is positive semidefinite. Of one field: over a batch with one covariance each, `jax.vmap`.
"""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.banded import cholesky_bands, inverse_diagonal, solve_lower, solve_upper
from sciml.linear_solve import cholesky
from sciml.linear_solve import solve_lower as solve_small
from sciml.numbers import Numbers, concrete, floating

# A TPU multiplies in bfloat16 unless told not to; conservation then holds to three digits.
EXACT = jax.lax.Precision.HIGHEST


class Diagonal(NamedTuple):
    """Independent points."""

    variance: Float[Array, " n"]


class LowRank(NamedTuple):
    """diag(variance) + F F^T: independent points and r common directions."""

    variance: Float[Array, " n"]
    factor: Float[Array, "n r"]


class Dense(NamedTuple):
    """Any symmetric matrix."""

    matrix: Float[Array, "n n"]


class BandedPrecision(NamedTuple):
    """Inverse of a symmetric positive definite matrix with bands as in `sciml.banded`."""

    bands: Float[Array, "3 n"]


class Downdated(NamedTuple):
    """prior - W W^T: what is left after an observation (W of `constraints.condition`)."""

    prior: "Covariance"
    factor: Float[Array, "n m"]


Covariance: TypeAlias = Diagonal | LowRank | Dense | BandedPrecision | Downdated
# What every function here takes: a vector stands for a diagonal, a matrix for a dense covariance.
CovarianceLike: TypeAlias = Covariance | Float[Array, "n n"] | Float[Array, " n"] | Numbers


def as_covariance(covariance: CovarianceLike) -> Covariance:
    """Returns a covariance of floats: a vector stands for a diagonal, a matrix for a dense one."""
    match covariance:
        case Downdated(prior, factor):
            return Downdated(as_covariance(prior), floating(factor))
        case Diagonal() | LowRank() | Dense() | BandedPrecision():
            return type(covariance)(*map(floating, covariance))
    numbers = floating(covariance)
    return Diagonal(numbers) if numbers.ndim == 1 else Dense(numbers)


def num_points(covariance: CovarianceLike) -> int:
    """Returns n."""
    match as_covariance(covariance):
        case Downdated(prior, _):
            return num_points(prior)
        case Diagonal(numbers) | LowRank(numbers, _) | Dense(numbers) | BandedPrecision(numbers):
            return numbers.shape[-1]


def times(covariance: CovarianceLike, x: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Returns Σ x in O(n m), for a dense covariance O(n² m)."""
    match as_covariance(covariance):
        case Diagonal(variance):
            return variance[:, None] * x
        case LowRank(variance, factor):
            return variance[:, None] * x + _through(factor, x)
        case Dense(matrix):
            return jnp.matmul(matrix, x, precision=EXACT)
        case BandedPrecision(bands):
            factor = cholesky_bands(bands)
            return solve_upper(factor, solve_lower(factor, x))
        case Downdated(prior, factor):
            return times(prior, x) - _through(factor, x)


def marginal_variance(covariance: CovarianceLike) -> Float[Array, " n"]:
    """Returns the diagonal of Σ in O(n); never negative, 0 where rounding would make it so."""
    match as_covariance(covariance):
        case Diagonal(variance):
            return variance
        case LowRank(variance, factor):
            return variance + jnp.sum(factor**2, axis=-1)
        case Dense(matrix):
            return jnp.diagonal(matrix)
        case BandedPrecision(bands):
            return inverse_diagonal(cholesky_bands(bands))
        case Downdated(prior, factor):
            return jnp.maximum(marginal_variance(prior) - jnp.sum(factor**2, axis=-1), 0)


def observed(
    covariance: CovarianceLike, precision: Float[Array, " n"] | Numbers
) -> Diagonal | LowRank | Dense | BandedPrecision:
    """Returns (Σ^{-1} + diag(precision))^{-1}: what is left when every point is observed, O(n).

    Of the kind that Σ is of; Σ^{-1} is never formed, so points may be certain.

    Args:
        covariance: Σ.
        precision: One over the variance of each point's noise, 0 or more.

    Raises:
        ValueError: For a `Downdated` one, whose term has no such form: give both observations to
            its prior.
    """
    precision = floating(precision)
    match as_covariance(covariance):
        case Diagonal(variance):
            return Diagonal(variance / (1 + precision * variance))
        case LowRank(variance, factor):
            kept = 1 / (1 + precision * variance)
            weighted = (precision * kept)[:, None] * factor
            gram = jnp.matmul(factor.T, weighted, precision=EXACT)
            root = cholesky(jnp.eye(gram.shape[0], dtype=gram.dtype) + gram)
            return LowRank(variance * kept, kept[:, None] * solve_small(root, factor.T).T)
        case Dense(matrix):
            scale = jnp.sqrt(precision)[:, None]
            scaled = scale * matrix
            identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
            root = jnp.linalg.cholesky(identity + scaled * scale.T)
            left = jax.scipy.linalg.solve_triangular(root, scaled, lower=True)
            return Dense(matrix - jnp.matmul(left.T, left, precision=EXACT))
        case BandedPrecision(bands):
            return BandedPrecision(bands.at[0].add(precision))
        case Downdated():
            raise ValueError(
                "observed: a Downdated covariance has been conditioned already; condition its "
                "prior on everything at once"
            )


def draw(
    key: PRNGKeyArray, covariance: CovarianceLike, shape: tuple[int, ...] = ()
) -> Float[Array, "*shape n"]:
    """Returns samples of mean 0 in O(n) each; a dense covariance is factored.

    A dense one may be singular, as a smooth kernel on a fine grid is: its variances are then larger
    by up to 2 n rounding errors of their own size. Of numbers that are no covariance, samples are
    NaN under `jit`.

    Raises:
        ValueError: For a `Downdated` one: it is singular after exact observations. Draw from its
            prior and pass the samples to `constraints.condition_samples`. And (numbers known) for
            one that is not positive semidefinite or not finite.
    """
    covariance = as_covariance(covariance)
    if isinstance(covariance, Downdated):
        raise ValueError(
            "draw: a Downdated covariance has no factor to draw with; draw from its prior and use "
            "constraints.condition_samples"
        )
    drawn = _draw(key, covariance, shape)
    if concrete(drawn) and not jnp.isfinite(drawn).all():
        raise ValueError(
            f"draw: this {type(covariance).__name__} covariance is not positive semidefinite, or "
            "its numbers are not finite"
        )
    return drawn


def _draw(
    key: PRNGKeyArray,
    covariance: Diagonal | LowRank | Dense | BandedPrecision,
    shape: tuple[int, ...],
) -> Float[Array, "*shape n"]:
    main, common = jax.random.split(key)
    size = (*shape, num_points(covariance))
    match covariance:
        case Diagonal(variance):
            return jax.random.normal(main, size, variance.dtype) * _root(variance, size)
        case LowRank(variance, factor):
            z = jax.random.normal(common, (*shape, factor.shape[1]), factor.dtype)
            independent = jax.random.normal(main, size, variance.dtype) * _root(variance, size)
            return independent + jnp.einsum("nr,...r->...n", factor, z, precision=EXACT)
        case Dense(matrix):
            z = jax.random.normal(main, size, matrix.dtype)
            return jnp.einsum("nk,...k->...n", _dense_root(matrix), z, precision=EXACT)
        case BandedPrecision(bands):
            z = jax.random.normal(main, size, bands.dtype).reshape(-1, size[-1])
            return solve_upper(cholesky_bands(bands), z.T).T.reshape(size)


def to_dense(covariance: CovarianceLike) -> Float[Array, "n n"]:
    """Returns Σ as a matrix, symmetric to the bit; for small n, tests and figures."""
    match as_covariance(covariance):
        case Diagonal(variance):
            return jnp.diag(variance)
        case Dense(matrix):
            full = matrix
        case other:
            dtype = jax.tree.leaves(other)[0].dtype
            full = times(other, jnp.eye(num_points(other), dtype=dtype))
    return (full + full.T) / 2


def _through(factor: Float[Array, "n r"], x: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Returns F F^T x, in the order that is never [n, n]."""
    return jnp.matmul(factor, jnp.matmul(factor.T, x, precision=EXACT), precision=EXACT)


def _dense_root(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Returns L with L L^T = Σ, but for as much on the diagonal as its rounding errors may lack."""
    deviation = _deviation(jnp.diagonal(matrix))
    unit = jnp.where(deviation == 0, 1, deviation)
    slack = 2 * matrix.shape[0] * float(jnp.finfo(matrix.dtype).eps)
    correlation = matrix / (unit[:, None] * unit[None, :])
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    return deviation[:, None] * jnp.linalg.cholesky(correlation + slack * identity)


def _root(variance: Array, shape: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(_deviation(variance), shape)


def _deviation(variance: Float[Array, " n"]) -> Float[Array, " n"]:
    """Returns the square root; its derivative at 0, a certain point, is 0 and not infinite."""
    is_certain = variance == 0
    return jnp.where(is_certain, 0, jnp.sqrt(jnp.where(is_certain, 1, variance)))
