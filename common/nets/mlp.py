"""Multi-layer perceptrons."""

from collections.abc import Callable, Sequence

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dense import DenseParams, dense, init_dense

MLPParams = tuple[DenseParams, ...]


def init_mlp(key: PRNGKeyArray, sizes: Sequence[int]) -> MLPParams:
    """Draws the layers between `sizes`, the inputs first and the outputs last."""
    keys = jax.random.split(key, len(sizes) - 1)
    return tuple(init_dense(k, n, m) for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True))


def mlp(
    params: MLPParams,
    x: Float[Array, "*batch c_in"],
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
) -> Float[Array, "*batch c_out"]:
    """Returns the outputs; `activation` is between the layers and not after the last."""
    for layer in params[:-1]:
        x = activation(dense(layer, x))
    return dense(params[-1], x)
