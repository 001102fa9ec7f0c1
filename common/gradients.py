"""Gradient functions, one of which every step takes: the place for another one.

A *loss* is (params, data, batch, key) -> (scalar, metrics). A *gradient function* turns a loss
into (params, data, batch, key) -> ((value, metrics), grads), as `jax.value_and_grad(loss,
has_aux=True)` does; `sam`, `masked`, `accumulated` and `ordered` wrap one another freely. None in
place of a gradient stands for a parameter that is not trained: the step leaves it as it is.

`config.gradient` chooses one by its name in `GRADIENTS`, or several, the outermost first:
"sam+accumulated" is SAM whose two gradients are each taken over parts of the batch. A new one is a
function `name(its fields, *, base=plain)` here, a line in `GRADIENTS`, and its fields with their
defaults in `common.loop_fields.GRADIENT`.

While the loop traces the step of a deterministic run (`following`), `plain` is `ordered`, and so is
everything that wraps it.
"""

import contextlib
import contextvars
import inspect
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from common import precision
from common.errors import UserError, nearest
from common.loop_fields import GRADIENT
from common.sharding import path_name
from common.subtrees import is_gap, join, split_by_path

PyTree = Any
Loss = Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[jax.Array, Any]]
ValueAndGrad = Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[Any, PyTree]]
Gradient = Callable[[Loss], ValueAndGrad]


class _Wishes:
    """What a config asks of the step that is traced, and which of it a gradient has followed."""

    def __init__(self, logical_shards: int, gradient: str) -> None:
        self.logical_shards, self.gradient = logical_shards, gradient  # 0: in any order
        self.is_ordered, self.is_taken = not logical_shards, gradient == "plain"


_WISHES: contextvars.ContextVar[_Wishes | None] = contextvars.ContextVar("wishes", default=None)


def make_gradient(config: ConfigDict) -> Gradient:
    """Returns the gradient function of `config.gradient`.

    Raises:
        UserError: If a name is unknown, a field is out of range, or set though no name reads it.
    """
    section, names = config.gradient, gradient_names(config.gradient.name)
    values = {**section, "logical_shards": config.logical_shards}
    fields = {name: fields_of(name) for name in names}
    for field, default in GRADIENT.items():
        is_read = field == "name" or any(field in of_name for of_name in fields.values())
        if section[field] != default and not is_read:
            readers = [name for name in GRADIENTS if field in fields_of(name)]
            raise UserError(
                f"config.gradient.{field}={section[field]!r}: only {' and '.join(readers)} reads "
                f"it, but config.gradient.name={section.name!r}"
            )
    if not names:
        return plain
    gradient = plain
    for name in reversed(names):
        try:
            gradient = GRADIENTS[name](*(values[field] for field in fields[name]), base=gradient)
        except ValueError as error:
            raise UserError(f"config.gradient.{error} ({name})") from error

    def chosen(loss: Loss) -> ValueAndGrad:
        value_and_grad = gradient(loss)

        def chosen_value_and_grad(*arguments: Any) -> tuple[Any, PyTree]:
            if (wishes := _WISHES.get()) is not None:
                wishes.is_taken |= wishes.gradient == section.name
            return value_and_grad(*arguments)

        return chosen_value_and_grad

    return chosen


def gradient_names(name: str) -> list[str]:
    """Returns what `config.gradient.name` is made of, the outermost first; [] for "plain".

    Raises:
        UserError: If one of them is unknown or there twice.
    """
    names = [] if name == "plain" else name.split("+")
    for one in names:
        if one not in GRADIENTS or names.count(one) > 1:
            problem = (
                "is there twice" if one in GRADIENTS else f"is unknown{nearest(one, GRADIENTS)}"
            )
            raise UserError(
                f"config.gradient.name={name!r}: {one!r} {problem}; expected plain, or some of "
                f"{', '.join(GRADIENTS)}, joined by +, the outermost first"
            )
    return names


def fields_of(name: str) -> list[str]:
    """Returns the fields of the config that a gradient reads: its arguments."""
    return [field for field in inspect.signature(GRADIENTS[name]).parameters if field != "base"]


def plain(loss: Loss) -> ValueAndGrad:
    """Returns the gradient function of training; of a deterministic run that of `ordered`."""
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def plain_value_and_grad(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[Any, PyTree]:
        wishes = _WISHES.get()
        if wishes is None or not wishes.logical_shards:
            return value_and_grad(params, data, batch, key)
        return ordered(wishes.logical_shards)(loss)(params, data, batch, key)

    return plain_value_and_grad


def sam(rho: float, *, base: Gradient = plain) -> Gradient:
    """Returns the gradient at the worst point in a ball of radius `rho` (L2, all parameters).

    Source: Foret et al. (2021), Eq. 2-3. Value and metrics are those of the unperturbed
    parameters, from the first of the two passes. rho = 0 is `base`.

    Raises:
        ValueError: If `rho` is negative or not finite.
    """
    if not 0 <= rho < math.inf:
        raise ValueError(f"rho={rho}: expected a finite radius of at least 0")

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

            ascent = jax.tree.map(climb, grads, params, is_leaf=is_gap)
            # Both passes see the same noise (dropout masks), on purpose.
            _, grads = value_and_grad(ascent, data, batch, jax.random.clone(key))
            return value, grads

        return sam_value_and_grad

    return gradient


def masked(paths: str, *, base: Gradient = plain) -> Gradient:
    """Returns gradients of the parameters whose path matches the regex `paths`, None elsewhere.

    Paths look like "params/block_0/kernel". The frozen part is not differentiated at all, and
    `gradient_step` does not change it.

    Raises:
        ValueError: If it is empty or no regular expression.
        UserError: While traced, if nothing matches.
    """
    if not paths:
        raise ValueError("paths='': expected a regular expression on paths, such as 'head|bias'")
    try:
        re.compile(paths)
    except re.error as error:
        raise ValueError(f"paths={paths!r}: no regular expression: {error}") from error

    def gradient(loss: Loss) -> ValueAndGrad:
        def masked_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            chosen, frozen = split_by_path(params, paths, field="paths")

            def partial_loss(chosen: PyTree, *rest: Any) -> tuple[jax.Array, Any]:
                return loss(join(chosen, frozen), *rest)

            return base(partial_loss)(chosen, data, batch, key)

        return masked_value_and_grad

    return gradient


def accumulated(parts: int, *, base: Gradient = plain) -> Gradient:
    """Returns the mean gradient over equal slices of the batch, one slice in memory at a time.

    Equals `base` up to rounding for a loss that is a mean over the batch. Slice i sees
    fold_in(key, i), and entries of the batch without axes whole. Narrow floats are summed in
    float32.

    Raises:
        UserError: While traced, if the rows do not divide or entries differ in their number.
        ValueError: If there is not at least one part.
    """
    if parts < 1:
        raise ValueError(f"parts={parts}: expected at least 1")

    def gradient(loss: Loss) -> ValueAndGrad:
        value_and_grad = base(loss)

        def accumulated_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            slices = _split_rows(batch, parts, "parts")

            def one(index: jax.Array) -> tuple[Any, PyTree]:
                rows = jax.tree.map(lambda x: x[index], slices)
                return value_and_grad(params, data, rows, jax.random.fold_in(key, index))

            def add(total: PyTree, index: jax.Array) -> tuple[PyTree, None]:
                return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, one(index)), None

            like = jax.eval_shape(one, jnp.int32(0))
            start = jax.tree.map(lambda x: jnp.zeros(x.shape, precision.wide(x.dtype)), like)
            total, _ = jax.lax.scan(add, start, jnp.arange(parts))
            return jax.tree.map(lambda x, y: _mean(x, parts, y.dtype), total, like)

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
            with _wishing(None):  # a shard is not divided once more
                return jax.lax.map(lambda x: value_and_grad(params, data, *x), (shards, keys))

        def ordered_value_and_grad(
            params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
        ) -> tuple[Any, PyTree]:
            if (wishes := _WISHES.get()) is not None:
                wishes.is_ordered = True
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


# By the name in `config.gradient`; their arguments are fields of that section (`logical_shards`:
# of the config).
GRADIENTS: dict[str, Callable[..., Gradient]] = {
    "sam": sam,
    "masked": masked,
    "accumulated": accumulated,
    "ordered": ordered,
}


@contextlib.contextmanager
def following(config: ConfigDict) -> Iterator[None]:
    """Makes a step that is traced inside follow `config.deterministic`, and checks what it takes.

    Raises:
        UserError: If `config.deterministic` or `config.gradient` asks for what no gradient of the
            step has followed.
    """
    name = config.gradient.name
    wishes = _Wishes(config.logical_shards if config.deterministic else 0, name)
    with _wishing(wishes):
        yield
    if not wishes.is_taken:
        raise UserError(
            f"config.gradient.name={name!r}: the step takes no gradient of config.gradient, so "
            "that it would change nothing; make the step with `common.supervised.training`, or "
            "with gradient_step(..., gradient=make_gradient(config)), or leave it at 'plain'"
        )
    if not wishes.is_ordered:
        raise UserError(
            "config.deterministic=True: the step takes no gradient of common.gradients, so that "
            "the order of its sums is not fixed; make it with `gradient_step`, or its gradient "
            "with `common.gradients.ordered`, or set config.deterministic=False"
        )


@contextlib.contextmanager
def _wishing(wishes: _Wishes | None) -> Iterator[None]:
    token = _WISHES.set(wishes)
    try:
        yield
    finally:
        _WISHES.reset(token)


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
