"""Running mean and variance, from as many chunks as there are, on as many devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf.devices import mean_over


class Moments(NamedTuple):
    """What is known of a distribution: `count` values seen, their mean, their variance."""

    count: Float[Array, ""]
    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]


def no_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Returns the moments of nothing yet, by which `standardize` leaves all as it is."""
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def moments_of(
    x: Float[Array, "*batch_shape"], ndim: int = 0, *, axis: str | None = None
) -> Moments:
    """Returns the moments of an array over all axes but the last `ndim`, on all devices."""
    axes = tuple(range(x.ndim - ndim))
    count = 1
    for i in axes:
        count *= x.shape[i]
    devices = 1 if axis is None else jax.lax.axis_size(axis)
    mean = mean_over(axis, jnp.mean(x, axes))
    centered = x - jnp.expand_dims(mean, axes)
    return Moments(jnp.float32(count * devices), mean, mean_over(axis, jnp.mean(centered**2, axes)))


def merged(a: Moments, b: Moments) -> Moments:
    """Returns the moments of both sets of values together.

    Source: Chan, Golub and LeVeque (1979), the pairwise update of mean and sum of squares.
    """
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1)
    distance = b.mean - a.mean
    variance = (1 - share) * a.variance + share * b.variance
    return Moments(count, a.mean + share * distance, variance + share * (1 - share) * distance**2)


def standardize(
    moments: Moments, x: Float[Array, "*batch_shape"], *, limit: float = jnp.inf
) -> Float[Array, "*batch_shape"]:
    """Returns values minus the mean over the standard deviation, clipped to ±`limit`."""
    batch = range(x.ndim - moments.mean.ndim)
    mean, variance = (jnp.expand_dims(m, batch) for m in (moments.mean, moments.variance))
    return jnp.clip((x - mean) * jax.lax.rsqrt(variance + 1e-8), -limit, limit)
