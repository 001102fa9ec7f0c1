"""Affine maps of the last axis whose results are those of the committed runs, to the last bit."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def affine(
    kernel: Float[Array, "c_in c_out"],
    bias: Float[Array, " c_out"] | None,
    x: Float[Array, "*batch c_in"],
) -> Float[Array, "*batch c_out"]:
    """Returns x W + b, or x W.

    `common.nets.dense` is the same with a bias of more axes: XLA sums the gradient of that in
    another order, and networks trained so are other ones than those of the committed tables.
    """
    y = x @ kernel
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)
