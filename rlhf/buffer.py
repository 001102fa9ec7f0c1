"""Labels that were given, in a ring of fixed size: the newest take the places of the oldest."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

PyTree = Any


class Buffer(NamedTuple):
    """Labels in arrays of fixed size, and how many there have been.

    Attributes:
        rows: Any pytree, one row of each leaf for a label.
        count: Labels added so far, those that are gone among them.
    """

    rows: PyTree
    count: Int[Array, ""]


def capacity(buffer: Buffer) -> int:
    """Returns how many labels there is room for."""
    return jax.tree.leaves(buffer.rows)[0].shape[0]


def empty(row: PyTree, size: int) -> Buffer:
    """Returns a buffer without labels.

    Args:
        row: One label, arrays or ShapeDtypeStructs.
        size: How many labels it holds.

    Raises:
        ValueError: If it holds none.
    """
    if size < 1:
        raise ValueError(f"a label buffer of {size} labels: expected room for at least 1")
    rows = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), row)
    return Buffer(rows, jnp.zeros((), jnp.int32))


def add(buffer: Buffer, rows: PyTree, is_new: Bool[Array, " n"]) -> Buffer:
    """Returns the buffer with those of `rows` that are new, in their order.

    Raises:
        ValueError: If there may be more rows than the buffer holds.
    """
    size, (number,) = capacity(buffer), is_new.shape
    if number > size:
        raise ValueError(f"{number} labels at once for a buffer of {size}: expected at most {size}")
    place = (buffer.count + jnp.cumsum(is_new.astype(jnp.int32)) - 1) % size
    place = jnp.where(is_new, place, size)  # out of range: dropped
    kept = jax.tree.map(lambda x, new: x.at[place].set(new, mode="drop"), buffer.rows, rows)
    return Buffer(kept, buffer.count + jnp.sum(is_new.astype(jnp.int32)))


def is_held(buffer: Buffer) -> Bool[Array, " size"]:
    """Returns which places of the ring hold a label."""
    return jnp.arange(capacity(buffer)) < buffer.count


def draw(
    key: Array, weights: Float[Array, " size"], count: int
) -> tuple[Int[Array, " count"], Float[Array, ""]]:
    """Draws places in proportion to `weights`, with replacement; the sum of weights besides.

    With weights of a bootstrap the mean over drawn labels is, on average, their weighted mean.
    Without any weight place 0 is drawn: multiply with the sum, or its sign.
    """
    ends = jnp.cumsum(weights)
    # Below the sum after rounding too: what is drawn has a weight.
    at = jax.random.uniform(key, (count,)) * ends[-1] * (1 - 2 * jnp.finfo(ends.dtype).eps)
    place = jnp.searchsorted(ends, at, side="right")
    return jnp.minimum(place, len(weights) - 1), ends[-1]
