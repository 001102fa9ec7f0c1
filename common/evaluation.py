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

    Every slice is spread over all devices of the mesh, if their number divides it.

    Args:
        function: Maps a slice of `rows` (leaves [chunk, ...]) to values of shape [chunk].
        rows: Arrays with the same leading axis.
        chunk: Rows in memory at a time; the last slice is filled up with row 0, which counts
            nothing there.
    """
    values, count = _values(function, rows, chunk)
    is_real = jnp.arange(jax.tree.leaves(values)[0].size) < count

    def total(value: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(is_real, value.reshape(-1), 0))

    return {name: (total(value), jnp.float32(count)) for name, value in values.items()}


def values_over(
    function: Callable[[PyTree], dict[str, jax.Array]], rows: PyTree, *, chunk: int
) -> dict[str, jax.Array]:
    """Returns what `function` gives per row, numbers or arrays; the arguments of `sums_over`."""
    values, count = _values(function, rows, chunk)
    return {name: value.reshape(-1, *value.shape[2:])[:count] for name, value in values.items()}


def _values(
    function: Callable[[PyTree], dict[str, jax.Array]], rows: PyTree, chunk: int
) -> tuple[dict[str, jax.Array], int]:
    """Returns values [slices, chunk, ...], the last slice filled up, and the number of rows."""
    rows = jax.tree.map(jnp.asarray, rows)
    count = jax.tree.leaves(rows)[0].shape[0]
    chunk = min(chunk, count)
    num_chunks = -(-count // chunk)
    index = jnp.arange(num_chunks * chunk)
    index = jnp.where(index < count, index, 0).reshape(num_chunks, chunk)

    def one(chosen: jax.Array) -> dict[str, jax.Array]:
        return function(jax.tree.map(lambda x: _over_devices(x[chosen]), rows))

    return jax.lax.map(one, index), count


def _over_devices(rows: jax.Array) -> jax.Array:
    """Splits the leading axis over all devices of the mesh under which this is traced."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or rows.shape[0] % mesh.size:
        return rows
    return jax.lax.with_sharding_constraint(rows, jax.P(tuple(mesh.axis_names)))


def classification_values(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> dict[str, Float[Array, " batch"]]:
    """Returns accuracy in percent and cross-entropy in nats of every row."""
    log_p = jax.nn.log_softmax(logits)
    loss = -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    return {"accuracy": 100.0 * (jnp.argmax(logits, -1) == labels), "loss": loss}
