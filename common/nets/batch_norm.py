"""Batch normalization with few passes over memory: one-pass moments, then one multiply-add."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from common.precision import wide

PyTree = Any


class BatchNorm(nn.Module):
    """Normalizes every channel, the last axis, over all other axes; then scales and shifts it.

    Variables and values are those of `flax.linen.BatchNorm`, to rounding: parameters "scale" and
    "bias"; running "mean" and "var" (biased, as everywhere in Flax) in the collection
    "batch_stats". The mean of squares minus the square of the mean loses as many digits as the mean
    is larger than the deviation, twice over: no matter behind a layer without a large bias.

    Attributes:
        momentum: Of the running statistics: share of the old ones that stays (PyTorch's 0.1 is 0.9
            here).
        epsilon: Added to the variance.
        scale_init: Of "scale"; "bias" starts at 0.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch channels"], *, train: bool = False
    ) -> Float[Array, "*batch channels"]:
        """Returns `x` normalized by its own moments if `train`, else by the running ones."""
        channels, dtype = x.shape[-1:], wide(x.dtype)
        scale = self.param("scale", self.scale_init, channels, jnp.float32)
        shift = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var = moments(x.astype(dtype))
            if not self.is_initializing():
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * var
        out = normalized(x.astype(dtype), mean, var, scale, shift, epsilon=self.epsilon)
        return out.astype(x.dtype)


def normalized(
    x: Float[Array, "*batch channels"],
    mean: Float[Array, " channels"],
    var: Float[Array, " channels"],
    scale: Float[Array, " channels"],
    shift: Float[Array, " channels"],
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*batch channels"]:
    """Returns (x - mean) / sqrt(var + epsilon) * scale + shift, as one multiply-add."""
    factor = scale * lax.rsqrt(var + epsilon)
    offset = shift - mean * factor
    ones = (1,) * (x.ndim - 1)
    return x * factor.reshape(*ones, -1) + offset.reshape(*ones, -1)


def moments(
    x: Float[Array, "*batch channels"],
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Returns mean and biased variance of every channel, reading `x` in one sweep."""
    axes = tuple(range(x.ndim - 1))
    mean, of_squares = jnp.mean(x, axes), jnp.mean(lax.square(x), axes)
    return mean, jnp.maximum(of_squares - lax.square(mean), 0)  # rounding may leave less than 0


def check_statistics(model_state: PyTree) -> None:
    """Refuses running variances that are no variances, as damaged or converted files have them.

    Raises:
        ValueError: Naming the first one that has an entry <= 0 or not finite.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(model_state):
        values = np.asarray(leaf)
        wrong = values[~((values > 0) & np.isfinite(values))]
        if path[-1].key == "var" and wrong.size:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"{name}: a running variance is {wrong[0]:g}; expected all > 0 and finite"
            )
