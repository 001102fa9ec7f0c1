"""Random parameters from uniform laws, all drawn at once: every draw costs seconds of compiling."""

import math
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

PyTree = Any


class Uniform(NamedTuple):
    """The law U[low, high) of an array's entries."""

    shape: tuple[int, ...]
    low: float
    high: float


def draw(key: PRNGKeyArray, laws: PyTree) -> PyTree:
    """Returns arrays with the laws in the leaves of a pytree."""
    leaves, tree = jax.tree.flatten(laws, is_leaf=lambda x: isinstance(x, Uniform))
    sizes = [math.prod(law.shape) for law in leaves]
    numbers = jax.random.uniform(key, (sum(sizes),))
    arrays, start = [], 0
    for law, size in zip(leaves, sizes, strict=True):
        part = jax.lax.slice_in_dim(numbers, start, start + size).reshape(law.shape)
        arrays.append(law.low + (law.high - law.low) * part)
        start += size
    return jax.tree.unflatten(tree, arrays)


def stacked(laws: PyTree, count: int) -> PyTree:
    """Returns the laws of `count` independent copies along a new first axis."""
    return jax.tree.map(
        lambda law: law._replace(shape=(count, *law.shape)),
        laws,
        is_leaf=lambda x: isinstance(x, Uniform),
    )
