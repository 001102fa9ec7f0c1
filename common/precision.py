"""Sums over many entries of narrow floats, taken in float32.

In half precision they overflow (the largest float16 is 65,504) or stall (256 + 1 = 256 in
bfloat16).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any


def wide(dtype: Any) -> Any:
    """Returns float32 for a narrower type of floats, any other type as it is."""
    is_narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if is_narrow else dtype


def widened(tree: PyTree) -> PyTree:
    """Returns a tree of arrays with the floats narrower than float32 as float32."""
    return jax.tree.map(lambda x: x if wide(x.dtype) == x.dtype else x.astype(jnp.float32), tree)


def norm(tree: PyTree) -> jax.Array:
    """Returns the L2 norm over all entries of a tree, whatever their type."""
    return optax.tree.norm(widened(tree))
