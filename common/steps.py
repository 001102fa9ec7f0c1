"""Gradient steps: one step builder, and gradient functions that fit into it interchangeably.

A *loss* is (params, data, batch, key) -> (scalar, metrics). A *gradient function* turns a loss
into (params, data, batch, key) -> ((value, metrics), grads), as `jax.value_and_grad(loss,
has_aux=True)` does; `sam`, `masked`, `accumulated` and `ordered` wrap one another freely. None in
place of a gradient stands for a parameter that is not trained: the step leaves it as it is.

While the loop traces the step of a deterministic run (`fixed_order`), `plain` is `ordered`, and so
is everything that wraps it.
"""

import contextlib
import contextvars
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from common import precision
from common.errors import UserError
from common.sharding import path_name

PyTree = Any
Loss = Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
ValueAndGrad = Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[Any, PyTree]]
Gradient = Callable[[Loss], ValueAndGrad]


class _Order:
    """The order that the step being traced asks for, and whether a gradient has followed it."""

    def __init__(self, logical_shards: int) -> None:
        self.logical_shards, self.is_followed = logical_shards, False


_ORDER: contextvars.ContextVar[_Order | None] = contextvars.ContextVar("order", default=None)


class TrainState(NamedTuple):
    """Parameters and optimizer state of a plain gradient step."""

    params: PyTree
    opt_state: PyTree


def init_train_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state of a fresh run."""
    return TrainState(params, optimizer.init(params))


def plain(loss: Loss) -> ValueAndGrad:
    """Returns the gradient function of training; inside `fixed_order` that of `ordered`."""
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def plain_value_and_grad(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[Any, PyTree]:
        order = _ORDER.get()
        chosen = value_and_grad if order is None else ordered(order.logical_shards)(loss)
        return chosen(params, data, batch, key)

    return plain_value_and_grad


@contextlib.contextmanager
def fixed_order(logical_shards: int) -> Iterator[None]:
    """Makes `plain` gradients that are traced inside `ordered(logical_shards)`.

    Raises:
        UserError: If no gradient of this module was traced: the order of the sums is unknown.
    """
    order = _Order(logical_shards)
    with _ordering(order):
        yield
    if not order.is_followed:
        raise UserError(
            "config.deterministic=True: the step takes no gradient of common.steps, so that the "
            "order of its sums is not fixed; make it with `gradient_step`, or its gradient with "
            "`common.steps.ordered`, or set config.deterministic=False"
        )


@contextlib.contextmanager
def _ordering(order: _Order | None) -> Iterator[None]:
    token = _ORDER.set(order)
    try:
        yield
    finally:
        _ORDER.reset(token)


def gradient_step(
    loss: Loss, optimizer: optax.GradientTransformation, *, gradient: Gradient = plain
) -> Callable[[TrainState, PyTree, PyTree, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the step of an Experiment: one update of `optimizer` along `gradient(loss)`.

    Parameters without a gradient (`masked`) keep their bits, whatever the optimizer would do to
    them: decay, momentum, noise. Metrics are those of the loss, plus "loss" and "grad_norm".
    """
    value_and_grad = gradient(loss)

    def step(
        state: TrainState, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        (value, metrics), grads = value_and_grad(state.params, data, batch, key)
        frozen = _at_gaps(grads, state.params)
        whole = join(grads, jax.tree.map(jnp.zeros_like, frozen))
        updates, opt_state = optimizer.update(whole, state.opt_state, state.params)
        params = join(frozen, optax.apply_updates(state.params, updates))
        metrics = {**metrics, "loss": value, "grad_norm": precision.norm(grads)}
        return TrainState(params, opt_state), metrics

    return step


def sam(rho: float, *, base: Gradient = plain) -> Gradient:
    """Returns the gradient at the worst point in a ball of radius `rho` (L2, all parameters).

    Source: Foret et al. (2021), Eq. 2-3. Value and metrics are those of the unperturbed
    parameters, from the first of the two passes. rho = 0 is `base`.
    """

    def gradient(loss: Loss) -> ValueAndGrad:
        value_and_grad = base(loss)

        def sam_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            value, grads = value_and_grad(params, data, batch, key)
            # A zero gradient has no ascent direction: stay, instead of dividing by zero.
            norm = jnp.maximum(precision.norm(grads), jnp.finfo(jnp.float32).tiny)

            def climb(g: Any, p: Any) -> Any:
                return p if g is None else (p + rho / norm * g).astype(p.dtype)

            ascent = jax.tree.map(climb, grads, params, is_leaf=_is_gap)
            # Both passes see the same noise (dropout masks), on purpose.
            _, grads = value_and_grad(ascent, data, batch, jax.random.clone(key))
            return value, grads

        return sam_value_and_grad

    return gradient


def masked(pattern: str, *, base: Gradient = plain) -> Gradient:
    """Returns gradients of the parameters whose path matches `pattern`, None elsewhere.

    Paths look like "params/block_0/kernel". The frozen part is not differentiated at all, and
    `gradient_step` does not change it.

    Raises:
        UserError: While traced, if nothing matches.
    """

    def gradient(loss: Loss) -> ValueAndGrad:
        def masked_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            chosen, frozen = split_by_path(params, pattern)

            def partial_loss(chosen: PyTree, *rest: Any) -> tuple[jax.Array, Any]:
                return loss(join(chosen, frozen), *rest)

            return base(partial_loss)(chosen, data, batch, key)

        return masked_value_and_grad

    return gradient


def accumulated(microbatches: int, *, base: Gradient = plain) -> Gradient:
    """Returns the mean gradient over equal slices of the batch, one slice in memory at a time.

    Equals `base` up to rounding for a loss that is a mean over the batch. Slice i sees
    fold_in(key, i), and entries of the batch without axes whole. Narrow floats are summed in
    float32.

    Raises:
        UserError: While traced, if the rows do not divide or entries differ in their number.
    """

    def gradient(loss: Loss) -> ValueAndGrad:
        value_and_grad = base(loss)

        def accumulated_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            slices = _split_rows(batch, microbatches, "microbatches")

            def one(index: jax.Array) -> tuple[Any, PyTree]:
                rows = jax.tree.map(lambda x: x[index], slices)
                return value_and_grad(params, data, rows, jax.random.fold_in(key, index))

            def add(total: PyTree, index: jax.Array) -> tuple[PyTree, None]:
                return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, one(index)), None

            like = jax.eval_shape(one, jnp.int32(0))
            start = jax.tree.map(lambda x: jnp.zeros(x.shape, precision.wide(x.dtype)), like)
            total, _ = jax.lax.scan(add, start, jnp.arange(microbatches))
            return jax.tree.map(lambda x, y: _mean(x, microbatches, y.dtype), total, like)

        return accumulated_value_and_grad

    return gradient


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

        def local(params: PyTree, data: PyTree, shards: PyTree, keys: jax.Array) -> PyTree:
            with _ordering(None):  # a shard is not divided once more
                return jax.lax.map(lambda x: value_and_grad(params, data, *x), (shards, keys))

        def ordered_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            if (order := _ORDER.get()) is not None:
                order.is_followed = True
            shards = _split_rows(batch, logical_shards, "logical_shards")
            fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
            keys = fold(key, jnp.arange(logical_shards))
            results = _over_devices(local, logical_shards)(params, data, shards, keys)

            def total(parts: jax.Array) -> jax.Array:
                first, *others = parts.astype(precision.wide(parts.dtype))
                for part in others:
                    first = first + part
                return _mean(first, logical_shards, parts.dtype)

            return jax.tree.map(total, results)

        return ordered_value_and_grad

    return gradient


def _over_devices(local: Callable[..., PyTree], logical_shards: int) -> Callable[..., PyTree]:
    """Splits the leading shard axis of the last two arguments over all devices of the mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return local
    if logical_shards % mesh.size:
        raise UserError(
            f"config.logical_shards={logical_shards}: expected a multiple of the number of "
            f"devices, {mesh.size} (deterministic=True)"
        )
    axes = tuple(mesh.axis_names)

    def gathered(*arguments: PyTree) -> PyTree:
        return jax.lax.all_gather(local(*arguments), axes, tiled=True)

    split, whole = PartitionSpec(axes), PartitionSpec()
    return jax.shard_map(
        gathered, in_specs=(whole, whole, split, split), out_specs=whole, check_vma=False
    )


def split_by_path(params: PyTree, pattern: str) -> tuple[PyTree, PyTree]:
    """Returns (matching, others), both of the shape of `params` with None at the gaps.

    Raises:
        UserError: If nothing matches.
    """

    def keep(matching: bool) -> PyTree:
        def one(path: tuple[Any, ...], leaf: Any) -> Any:
            found = re.search(pattern, path_name("params", path)) is not None
            return leaf if found == matching else None

        return jax.tree_util.tree_map_with_path(one, params)

    chosen = keep(True)
    if not jax.tree.leaves(chosen):
        names = [path_name("params", p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise UserError(
            f"pattern {pattern!r} matches no parameter; paths are {', '.join(names[:6])}"
        )
    return chosen, keep(False)


def join(first: PyTree, second: PyTree) -> PyTree:
    """Returns the tree whose gaps (None) in one argument are filled from the other."""
    return jax.tree.map(lambda a, b: b if a is None else a, first, second, is_leaf=_is_gap)


def _is_gap(leaf: Any) -> bool:
    return leaf is None


def _at_gaps(tree: PyTree, other: PyTree) -> PyTree:
    """Returns the leaves of `other` where `tree` has None, and None elsewhere."""
    return jax.tree.map(lambda a, b: b if a is None else None, tree, other, is_leaf=_is_gap)


def _mean(total: jax.Array, count: int, dtype: Any) -> jax.Array:
    """Returns total / count, of narrow floats in the type they had."""
    mean = total / count
    return mean if precision.wide(dtype) == dtype else mean.astype(dtype)


def _split_rows(batch: PyTree, parts: int, knob: str) -> PyTree:
    """Returns the batch in `parts` equal slices [parts, rows, ...]; scalars are in each of them."""
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
        return rows.reshape(parts, rows.shape[0] // parts, *rows.shape[1:])

    return jax.tree.map(one, batch)
