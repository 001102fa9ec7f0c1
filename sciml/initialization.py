"""Random parameters of uniform distributions, all drawn at once: a draw costs seconds of compiling.

A network's `init` functions take a source of numbers in place of a key, and `draw` gives them one.
"""

import itertools
import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

Params = TypeVar("Params")
# (shape, low, high) -> an array of that shape, its entries from U[low, high).
Uniform = Callable[[tuple[int, ...], float, float], Array]


def draw(key: PRNGKeyArray, init: Callable[[Uniform], Params]) -> Params:
    """Returns `init(uniform)`; all numbers that `uniform` gives are parts of one draw, in order.

    Args:
        key: Of the draw.
        init: Called twice, the first time to count the numbers.
    """
    sizes: list[int] = []

    def counted(shape: tuple[int, ...], low: float, high: float) -> Array:
        del low, high
        sizes.append(math.prod(shape))
        return jnp.zeros(shape)

    jax.eval_shape(lambda: init(counted))
    numbers = jax.random.uniform(key, (sum(sizes),))
    starts = itertools.accumulate(sizes, initial=0)

    def cut(shape: tuple[int, ...], low: float, high: float) -> Array:
        start = next(starts)
        part = jax.lax.slice_in_dim(numbers, start, start + math.prod(shape)).reshape(shape)
        return low + (high - low) * part

    return init(cut)


def stacked(uniform: Uniform, count: int) -> Uniform:
    """Returns a source of arrays for `count` independent copies, along a new first axis."""
    return lambda shape, low, high: uniform((count, *shape), low, high)
