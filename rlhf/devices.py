"""Means over everything that all devices hold, where environments are split over a mesh axis."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

PyTree = Any


def mean_over(axis: str | None, tree: PyTree) -> PyTree:
    """Returns means over the devices of a mesh axis, in one collective; the tree itself for None.

    Inside `jax.shard_map`, whose devices hold equally many environments each.
    """
    if axis is None:
        return tree
    flat, as_tree = ravel_pytree(tree)
    return as_tree(jax.lax.pmean(flat, axis))


def standardized(x: jax.Array, axis: str | None, *, epsilon: float = 1e-8) -> jax.Array:
    """Returns numbers with mean 0 and variance 1 over all devices."""
    mean, square = mean_over(axis, (jnp.mean(x), jnp.mean(x**2)))
    return (x - mean) * jax.lax.rsqrt(jnp.maximum(square - mean**2, 0) + epsilon)


def environment_indices(num_envs: int, axis: str | None) -> jax.Array:
    """Returns the numbers of the environments of this device among those of all devices."""
    first = 0 if axis is None else jax.lax.axis_index(axis) * num_envs
    return first + jnp.arange(num_envs)
