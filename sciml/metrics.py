"""Errors of predicted fields and of their variances, one number for each sample."""

import math

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from sciml.numbers import Numbers, floating


def relative_l2(
    predicted: Float[Array, " batch *grid"], true: Float[Array, " batch *grid"]
) -> Float[Array, " batch"]:
    """Returns ||predicted - true|| / ||true|| over all grid points and times.

    Source: Li et al. (2021) and Saad et al. (2023), the error of all tables.
    """
    axes = tuple(range(1, true.ndim))
    return jnp.sqrt(jnp.sum((predicted - true) ** 2, axis=axes) / jnp.sum(true**2, axis=axes))


def gaussian_log_likelihood(
    mean: Float[Array, " batch *grid"],
    variance: Float[Array, " batch *grid"],
    true: Float[Array, " batch *grid"],
) -> Float[Array, " batch"]:
    """Returns the log density of N(mean, variance) at the truth, its mean over all grid points.

    Of marginals: correlations do not enter. Variances must be positive; those of the released code
    are clamped at 1e-8.

    Source: Hansen et al. (2023), the LL of the tables.
    """
    log_density = -((true - mean) ** 2 / variance + jnp.log(2 * math.pi * variance)) / 2
    return jnp.mean(log_density, axis=tuple(range(1, true.ndim)))


def crps_gaussian(
    mean: Float[Array, " batch *grid"],
    variance: Float[Array, " batch *grid"],
    true: Float[Array, " batch *grid"],
) -> Float[Array, " batch"]:
    """Returns the continuous ranked probability score of N(mean, variance), mean over grid points.

    In the unit of the field, lower is better; |true - mean| where the variance is 0.

    Source: Gneiting and Raftery (2007), Eq. 21, with the sign of an error.
    """
    is_certain = variance <= 0
    sigma = jnp.sqrt(jnp.where(is_certain, 1, variance))
    error = true - mean
    z = error / sigma
    score = error * (2 * ndtr(z) - 1) + sigma * (2 * norm.pdf(z) - 1 / math.sqrt(math.pi))
    score = jnp.where(is_certain, jnp.abs(error), score)
    return jnp.mean(score, axis=tuple(range(1, true.ndim)))


def coverage(
    mean: Float[Array, " batch *grid"] | Numbers,
    variance: Float[Array, " batch *grid"],
    true: Float[Array, " batch *grid"],
    *,
    level: float = 0.9,
) -> Float[Array, " batch"]:
    """Returns the share of grid points inside the central interval of that probability.

    Calibrated marginals give `level`.

    Raises:
        ValueError: If the level is not strictly between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"coverage: level={level}, expected a probability between 0 and 1")
    mean = floating(mean)
    width = ndtri(jnp.asarray((1 + level) / 2, mean.dtype)) * jnp.sqrt(variance)
    inside = jnp.abs(true - mean) <= width
    return jnp.mean(inside.astype(mean.dtype), axis=tuple(range(1, true.ndim)))
