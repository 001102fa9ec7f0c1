"""Affine maps of the last axis."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class DenseParams(NamedTuple):
    """An affine map; `bias` is None for a linear one."""

    kernel: Float[Array, "c_in c_out"]
    bias: Float[Array, " c_out"] | None


def init_dense(key: PRNGKeyArray, c_in: int, c_out: int, *, has_bias: bool = True) -> DenseParams:
    """Draws kernel and bias ~ U(-c_in^-1/2, c_in^-1/2), as PyTorch does."""
    key_kernel, key_bias = jax.random.split(key)
    bound = c_in**-0.5
    kernel = jax.random.uniform(key_kernel, (c_in, c_out), minval=-bound, maxval=bound)
    if not has_bias:
        return DenseParams(kernel, None)
    return DenseParams(kernel, jax.random.uniform(key_bias, (c_out,), minval=-bound, maxval=bound))


def dense(params: DenseParams, x: Float[Array, "*batch c_in"]) -> Float[Array, "*batch c_out"]:
    """Returns x W + b in the type of `x`."""
    y = x @ params.kernel.astype(x.dtype)
    if params.bias is None:
        return y
    return y + jnp.expand_dims(params.bias.astype(x.dtype), range(y.ndim - 1))
