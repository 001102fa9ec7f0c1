"""Sums over whole data sets inside one compiled program, one slice in memory at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

PyTree = Any
SumCount = tuple[jax.Array, jax.Array]


def sums_over(
    function: Callable[[PyTree], dict[str, jax.Array]], rows: PyTree, *, chunk: int
) -> dict[str, SumCount]:
    """Returns (sum, count) over all rows of every value that `function` gives per row.

    Args:
        function: Maps a slice of `rows` (leaves [chunk, ...]) to values of shape [chunk].
        rows: Arrays with the same leading axis.
        chunk: Rows in memory at a time; the last slice is filled up with row 0, which counts
            nothing there.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    chunk = min(chunk, count)
    num_chunks = -(-count // chunk)
    index = jnp.arange(num_chunks * chunk)
    is_real = (index < count).reshape(num_chunks, chunk)
    index = jnp.where(index < count, index, 0).reshape(num_chunks, chunk)

    def one(chosen: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        values = function(jax.tree.map(lambda x: x[chosen[0]], rows))
        return {name: jnp.sum(jnp.where(chosen[1], v, 0)) for name, v in values.items()}

    sums = jax.lax.map(one, (index, is_real))
    return {name: (jnp.sum(v), jnp.float32(count)) for name, v in sums.items()}


def classification_values(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> dict[str, Float[Array, " batch"]]:
    """Returns accuracy in percent and cross-entropy in nats of every row."""
    log_p = jax.nn.log_softmax(logits)
    loss = -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    return {"accuracy": 100.0 * (jnp.argmax(logits, -1) == labels), "loss": loss}
