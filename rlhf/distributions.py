"""Distributions of actions as functions of the numbers that a policy puts out."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LOG_2_PI_E = math.log(2 * math.pi * math.e)


class Distribution(NamedTuple):
    """A family of distributions; its `parameters` are a pytree with any leading axes.

    Attributes:
        sample: (parameters, noise) -> action; without noise, zeros, the likeliest one.
        log_prob: (parameters, action) -> number.
        entropy: parameters -> number.
        divergence: (old, new) -> KL(old || new).
        fisher: (parameters, tangent) -> Fisher information times that tangent.
    """

    sample: Callable[[Any, jax.Array], jax.Array]
    log_prob: Callable[[Any, jax.Array], jax.Array]
    entropy: Callable[[Any], jax.Array]
    divergence: Callable[[Any, Any], jax.Array]
    fisher: Callable[[Any, Any], Any]


class Gaussian(NamedTuple):
    """Independent normal variables."""

    mean: Float[Array, "*batch size"]
    log_std: Float[Array, "*batch size"]


def _gaussian_sample(p: Gaussian, noise: jax.Array) -> Float[Array, "*batch size"]:
    return p.mean + jnp.exp(p.log_std) * noise


def _gaussian_log_prob(p: Gaussian, action: jax.Array) -> Float[Array, "*batch"]:
    z = (action - p.mean) * jnp.exp(-p.log_std)
    return -jnp.sum(0.5 * z**2 + p.log_std + 0.5 * math.log(2 * math.pi), axis=-1)


def _gaussian_entropy(p: Gaussian) -> Float[Array, "*batch"]:
    return jnp.sum(p.log_std + 0.5 * LOG_2_PI_E, axis=-1)


def _gaussian_divergence(old: Gaussian, new: Gaussian) -> Float[Array, "*batch"]:
    ratio = jnp.exp(2 * (old.log_std - new.log_std))
    distance = (old.mean - new.mean) ** 2 * jnp.exp(-2 * new.log_std)
    return jnp.sum(0.5 * (ratio + distance - 1) + new.log_std - old.log_std, axis=-1)


def _gaussian_fisher(p: Gaussian, tangent: Gaussian) -> Gaussian:
    """Returns the information of a normal variable: 1/σ² of its mean, 2 of log σ."""
    return Gaussian(tangent.mean * jnp.exp(-2 * p.log_std), 2 * tangent.log_std)


def _categorical_sample(logits: jax.Array, noise: jax.Array) -> Int[Array, "*batch"]:
    return jnp.argmax(logits + noise, axis=-1)


def _categorical_log_prob(logits: jax.Array, action: jax.Array) -> Float[Array, "*batch"]:
    # By a mask: a gather is a scatter backwards, which is slow on every device.
    chosen = jax.nn.one_hot(action, logits.shape[-1], dtype=logits.dtype)
    return jnp.sum(jax.nn.log_softmax(logits) * chosen, axis=-1)


def _categorical_entropy(logits: jax.Array) -> Float[Array, "*batch"]:
    return -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), axis=-1)


def _categorical_divergence(old: jax.Array, new: jax.Array) -> Float[Array, "*batch"]:
    difference = jax.nn.log_softmax(old) - jax.nn.log_softmax(new)
    return jnp.sum(jax.nn.softmax(old) * difference, axis=-1)


def _categorical_fisher(logits: jax.Array, tangent: jax.Array) -> Float[Array, "*batch n"]:
    """Returns (diag(p) - p p^T) times the tangent, p being the probabilities."""
    p = jax.nn.softmax(logits)
    return p * (tangent - jnp.sum(p * tangent, axis=-1, keepdims=True))


GAUSSIAN = Distribution(
    sample=_gaussian_sample,
    log_prob=_gaussian_log_prob,
    entropy=_gaussian_entropy,
    divergence=_gaussian_divergence,
    fisher=_gaussian_fisher,
)

CATEGORICAL = Distribution(
    sample=_categorical_sample,
    log_prob=_categorical_log_prob,
    entropy=_categorical_entropy,
    divergence=_categorical_divergence,
    fisher=_categorical_fisher,
)
