"""What image classifiers end with: maps averaged over squares, and a dense layer."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.initializers import uniform_fan_in


def pooled(x: Float[Array, "batch h w c"], size: int) -> Float[Array, "batch d"]:
    """Returns means over squares of `size` pixels, as many as fit, or of all where none does."""
    window = (min(size, x.shape[1]), min(size, x.shape[2]))
    if window == x.shape[1:3]:
        return jnp.mean(x, axis=(1, 2))
    return nn.avg_pool(x, window, strides=window).reshape(len(x), -1)


def classified(
    x: Float[Array, "batch d"], num_classes: int | None
) -> Float[Array, "batch outputs"]:
    """Returns logits by a dense layer of the module at hand; with two classes these are (0, z)."""
    if num_classes is None:
        return x
    outputs = 1 if num_classes == 2 else num_classes
    logits = nn.Dense(outputs, kernel_init=uniform_fan_in, name="head")(x)
    if num_classes == 2:
        return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    return logits
