"""Where weights of the image classifiers start, as those of the published ResNets did.

Numbers are those of `jax.random.normal` of the whole shape, drawn in one row: XLA:CPU takes many
times as long to compile a draw of four axes, and a deep network has one for every layer.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp


def variance_keeping(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns N(0, 2 / fan_in), which keeps the variance behind a ReLU; outputs on the last axis.

    Source: He et al. (2015).
    """
    return _normal(key, shape, dtype) * jnp.asarray(math.sqrt(2 / math.prod(shape[:-1])), dtype)


def small(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns N(0, 0.001^2), for dense layers behind convolutions: all classes begin alike."""
    return _normal(key, shape, dtype) * jnp.asarray(0.001, dtype)


def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
