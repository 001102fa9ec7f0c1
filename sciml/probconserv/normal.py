"""Gaussians with diagonal covariance: draws, log density and divergence."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Normal(NamedTuple):
    """Independent Gaussians: mean and standard deviation."""

    mean: Float[Array, "*shape"]
    scale: Float[Array, "*shape"]


def sample(normal: Normal, key: PRNGKeyArray) -> Float[Array, "*shape"]:
    """Returns mean + scale times noise: differentiable in both."""
    noise = jax.random.normal(key, normal.mean.shape, normal.mean.dtype)
    return normal.mean + normal.scale * noise


def log_density(normal: Normal, values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the log density of each value under its own Gaussian."""
    standard = (values - normal.mean) / normal.scale
    return -(standard**2) / 2 - jnp.log(normal.scale) - math.log(2 * math.pi) / 2


def kl_divergence(q: Normal, p: Normal) -> Float[Array, "*batch"]:
    """Returns KL(q ‖ p) of Gaussians with diagonal covariance, summed over the last axis."""
    ratio = q.scale / p.scale
    shift = (q.mean - p.mean) / p.scale
    return jnp.sum((ratio**2 - 1 + shift**2) / 2 - jnp.log(ratio), axis=-1)
