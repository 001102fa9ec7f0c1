"""The plain gradient of a loss, whole or in slices that are summed in a fixed order.

While the loop traces the step of a deterministic run (`common.gradients.following`), `plain` is
`ordered`, and so is everything that wraps it. `in_order` is for what steps compute of rows besides.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from common import precision
from common.errors import UserError
from common.gradient_types import Gradient, Loss, ValueAndGrad, carrying
from common.keys import bits_of, with_bits
from common.sharding import path_name

PyTree = Any


class Wishes:
    """What a config asks of the step that is traced, and which of it a gradient has followed."""

    def __init__(self, logical_shards: int, gradient: str) -> None:
        self.logical_shards, self.gradient = logical_shards, gradient  # 0: in any order
        self.is_ordered, self.is_taken = not logical_shards, gradient == "plain"


WISHES: contextvars.ContextVar[Wishes | None] = contextvars.ContextVar("wishes", default=None)


def plain(loss: Loss) -> ValueAndGrad:
    """Returns the gradient function of training; of a deterministic run that of `ordered`."""
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def plain_value_and_grad(
        params: PyTree, data: PyTree, batch: PyTree, key: Any
    ) -> tuple[Any, PyTree]:
        wishes = WISHES.get()
        if wishes is None or not wishes.logical_shards:
            return value_and_grad(params, data, batch, key)
        return ordered(wishes.logical_shards)(loss)(params, data, batch, key)

    return plain_value_and_grad


def ordered(logical_shards: int, *, base: Gradient = plain) -> Gradient:
    """Returns the mean gradient over a fixed number of batch shards, summed in a fixed order.

    Each device computes its share of the shards one by one; all gradients are gathered and added
    from first to last, so that the bits do not depend on the number of devices, which must divide
    `logical_shards`. Costs `logical_shards` copies of the gradient in memory. Shard i sees
    fold_in(key, i), and entries of the batch without axes whole. Data must be replicated.

    Raises:
        UserError: While traced, as `accumulated`, or if the devices do not divide the shards.
    """

    def gradient(loss: Loss) -> ValueAndGrad:
        value_and_grad = base(loss)

        def one(params: PyTree, data: PyTree, shard: PyTree, key: jax.Array) -> PyTree:
            with wishing(None):  # a shard is not divided once more
                return value_and_grad(params, data, shard, key)

        def ordered_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            if (wishes := WISHES.get()) is not None:
                wishes.is_ordered = True
            shards = split_rows(batch, logical_shards, "logical_shards")
            fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
            keys = fold(key, jnp.arange(logical_shards))
            results = over_devices(one, logical_shards)(params, data, shards, keys)

            def total(parts: jax.Array) -> jax.Array:
                first, *others = parts.astype(precision.wide(parts.dtype))
                for part in others:
                    first = first + part
                return mean_of(first, logical_shards, parts.dtype)

            return jax.tree.map(total, results)

        return ordered_value_and_grad

    return carrying(base, gradient)


@contextlib.contextmanager
def wishing(wishes: Wishes | None) -> Iterator[None]:
    """What is traced inside meets these wishes."""
    token = WISHES.set(wishes)
    try:
        yield
    finally:
        WISHES.reset(token)


def summed(function: Callable[[Any], PyTree], xs: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the sum of function(x) over the leading axis of `xs`, and shapes and types of one.

    One x at a time; narrow floats are summed in float32.
    """
    like = jax.eval_shape(function, jax.tree.map(lambda x: x[0], xs))

    def add(total: PyTree, x: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(lambda t, y: t + y.astype(t.dtype), total, function(x)), None

    start = jax.tree.map(lambda x: jnp.zeros(x.shape, precision.wide(x.dtype)), like)
    return jax.lax.scan(add, start, xs)[0], like


def in_order(function: Callable[[PyTree, PyTree, jax.Array], PyTree]) -> Callable[..., PyTree]:
    """Returns (whole, rows) -> results of all rows, on every device; for what has no gradient.

    Of a deterministic run each device computes its share of `config.logical_shards` parts of the
    rows one by one, in programs of one shape, and gets the results of all: what is computed of them
    then is the same on any number of devices. Otherwise all rows are one part.

    Args:
        function: (whole, rows, number of the first row) -> arrays with a leading axis of rows.
    """

    def of_all(whole: PyTree, rows: PyTree) -> PyTree:
        wishes = WISHES.get()
        if wishes is None or not wishes.logical_shards:
            return function(whole, rows, jnp.zeros((), jnp.int32))
        wishes.is_ordered, parts = True, wishes.logical_shards
        shards = split_rows(rows, parts, "config.logical_shards")
        size = jax.tree.leaves(shards)[0].shape[1]

        def one(whole: PyTree, _: PyTree, shard: PyTree, first: jax.Array) -> PyTree:
            with wishing(None):
                return function(whole, shard, first)

        results = over_devices(one, parts)(whole, (), shards, size * jnp.arange(parts))
        return jax.tree.map(lambda x: x.reshape(parts * size, *x.shape[2:]), results)

    return of_all


def over_devices(one: Callable[..., PyTree], logical_shards: int) -> Callable[..., PyTree]:
    """Returns (params, data, shards, keys) -> results of all shards, on every device.

    Args:
        one: Of one shard and its key. Each device computes its share one by one.
        logical_shards: How many there are: the leading axis of the last two arguments.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return lambda params, data, *rows: jax.lax.map(lambda x: one(params, data, *x), rows)
    if logical_shards % mesh.size:
        raise UserError(
            f"config.logical_shards={logical_shards}: expected a multiple of the number of "
            f"devices, {mesh.size} (deterministic=True)"
        )
    axes, share = tuple(mesh.axis_names), logical_shards // mesh.size

    def gathered(params: PyTree, data: PyTree, *rows: PyTree) -> PyTree:
        # One program of a shard, whatever the share of a device is. Of a single one, in arrays of
        # one, the compiler would see that nothing in the loop changes, take it apart, fuse it with
        # what is around it, and round otherwise. So nobody knows where it starts, and arrays are
        # those of all shards.
        start = share * jax.lax.axis_index(axes)
        bits = jax.tree.map(bits_of, rows)  # what looks for keys used twice knows no indices

        def result(number: jax.Array) -> PyTree:
            shard = jax.tree.map(lambda x, like: with_bits(x[number], like), bits, rows)
            return one(params, data, *shard)

        def put(number: jax.Array, results: PyTree) -> PyTree:
            return jax.tree.map(lambda all_, x: all_.at[number].set(x), results, result(number))

        def mine(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, start, share)

        like = jax.eval_shape(result, start)
        blank = jax.tree.map(lambda x: jnp.zeros((logical_shards, *x.shape), x.dtype), like)
        results = jax.lax.fori_loop(start, start + share, put, blank)
        return jax.lax.all_gather(jax.tree.map(mine, results), axes, tiled=True)

    whole = PartitionSpec()
    return jax.shard_map(gathered, in_specs=whole, out_specs=whole, check_vma=False)


def mean_of(total: jax.Array, count: int, dtype: Any) -> jax.Array:
    """Returns total / count, of narrow floats in the type they had."""
    mean = total / count
    return mean if precision.wide(dtype) == dtype else mean.astype(dtype)


def split_rows(batch: PyTree, parts: int, knob: str, *, strided: bool = False) -> PyTree:
    """Returns the batch in `parts` equal slices [parts, rows, ...]; scalars are in each of them.

    Args:
        batch: Entries have the same number of rows, or no axes.
        parts: Number of slices.
        knob: What an error calls that number.
        strided: Slice i has rows i, i + parts, ...: of a batch that is split over devices each has
            its share of every slice. Else a slice is of rows that follow each other.
    """
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    counts = {path_name("batch", path): rows.shape[0] for path, rows in leaves if rows.ndim}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise UserError(
            f"{knob}={parts} slices all entries of a batch that have axes, but their rows differ "
            f"in number: {text}; pass what belongs to no row in data()"
        )
    for count in set(counts.values()):
        if count % parts:
            raise UserError(
                f"a batch of {count} rows does not divide into {knob}={parts}; "
                "change config.batch_size"
            )

    def one(rows: jax.Array) -> jax.Array:
        if not rows.ndim:
            return jnp.broadcast_to(rows, (parts,))
        count, shape = rows.shape[0] // parts, rows.shape[1:]
        if strided:
            return jnp.moveaxis(rows.reshape(count, parts, *shape), 1, 0)
        return rows.reshape(parts, count, *shape)

    return jax.tree.map(one, batch)
