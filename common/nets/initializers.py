"""Where weights of the image classifiers start, as those of the published ResNets did.

Numbers are those of `jax.random.normal` of the whole shape, drawn in one row: XLA:CPU takes many
times as long to compile a draw of four axes, and a deep network has one for every layer.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def variance_keeping(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns N(0, 2 / fan_in), which keeps the variance behind a ReLU; outputs on the last axis.

    Source: He et al. (2015).
    """
    return _normal(key, shape, dtype) * jnp.asarray(math.sqrt(2 / math.prod(shape[:-1])), dtype)


def gradient_keeping(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns N(0, 2 / fan_out), which keeps the variance of gradients behind a ReLU.

    Source: He et al. (2015), fan-out mode.
    """
    fan_out = math.prod(shape[:-2]) * shape[-1]
    return _normal(key, shape, dtype) * jnp.asarray(math.sqrt(2 / fan_out), dtype)


def small(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns N(0, 0.001^2), for dense layers behind convolutions: all classes begin alike."""
    return _normal(key, shape, dtype) * jnp.asarray(0.001, dtype)


# U(-fan_in^-1/2, fan_in^-1/2), where PyTorch's dense layers start.
uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
