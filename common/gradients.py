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
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from common.errors import UserError, nearest
from common.gradient_types import Gradient, Loss, ValueAndGrad, carrying
from common.loop_fields import GRADIENT
from common.plain_gradient import (
    WISHES,
    Wishes,
    mean_of,
    ordered,
    plain,
    split_rows,
    summed,
    wishing,
)
from common.sam import sam
from common.sam_fields import of_fields, of_fields_before
from common.subtrees import join, split_by_path

__all__ = [
    "GRADIENTS",
    "Gradient",
    "Loss",
    "ValueAndGrad",
    "accumulated",
    "fields_of",
    "following",
    "gradient_names",
    "make_gradient",
    "masked",
    "ordered",
    "plain",
    "sam",
]

PyTree = Any


def make_gradient(config: ConfigDict, *, num_steps: int | None = None) -> Gradient:
    """Returns the gradient function of `config.gradient`.

    Args:
        config: Config of the experiment.
        num_steps: Gradients in the run, if they are not as many as its steps.

    Raises:
        UserError: If a name is unknown, a field is out of range, or set though no name reads it.
    """
    section, names = config.gradient, gradient_names(config.gradient.name)
    values = {**section, **{name: config.get(name) for name in OF_CONFIG}}
    values["num_steps"] = num_steps or values["num_steps"]
    fields = {name: fields_of(name) for name in names}
    for field, default in GRADIENT.items():
        is_read = field == "name" or any(field in of_name for of_name in fields.values())
        if section[field] != default and not is_read:
            readers = [name for name in GRADIENTS if field in fields_of(name)]
            raise UserError(
                f"config.gradient.{field}={section[field]!r}: only {' or '.join(readers)} reads "
                f"it, but config.gradient.name={section.name!r}"
            )
    if not names:
        return plain
    if "ordered" in names and section.m:
        raise UserError(
            f"config.gradient.m={section.m}: 'ordered' shares the batch among devices in its own "
            "way; for groups of rows with a fixed order of sums set config.deterministic=true"
        )
    gradient = plain
    for name in reversed(names):
        try:
            values_of_name = {field: values[field] for field in fields[name]}
            gradient = GRADIENTS[name](**values_of_name, base=gradient)
        except ValueError as error:
            raise UserError(f"config.gradient.{error} ({name})") from error

    def chosen(loss: Loss) -> ValueAndGrad:
        value_and_grad = gradient(loss)

        def chosen_value_and_grad(*arguments: Any) -> tuple[Any, PyTree]:
            if (wishes := WISHES.get()) is not None:
                wishes.is_taken |= wishes.gradient == section.name
            return value_and_grad(*arguments)

        return chosen_value_and_grad

    return carrying(gradient, chosen)


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
    parameters = inspect.signature(GRADIENTS[name]).parameters
    return [field for field in parameters if field not in ("base", "batch_before")]


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

    def part(params: PyTree) -> PyTree:
        return split_by_path(params, paths, field="paths")[0]

    return carrying(base, gradient, part)


def accumulated(parts: int, *, base: Gradient = plain) -> Gradient:
    """Returns the mean gradient over equal slices of the batch, one slice in memory at a time.

    Equals `base` up to rounding for a loss that is a mean over the batch. Slice i has rows i,
    i + parts, ..., so that all devices work on each, and sees fold_in(key, i), and entries of the
    batch without axes whole. Narrow floats are summed in float32.

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
            slices = split_rows(batch, parts, "parts", strided=True)

            def one(index: jax.Array) -> tuple[Any, PyTree]:
                rows = jax.tree.map(lambda x: x[index], slices)
                return value_and_grad(params, data, rows, jax.random.fold_in(key, index))

            total, like = summed(one, jnp.arange(parts))
            return jax.tree.map(lambda x, y: mean_of(x, parts, y.dtype), total, like)

        return accumulated_value_and_grad

    return carrying(base, gradient)


# By the name in `config.gradient`; their arguments are fields of that section, or of the config.
GRADIENTS: dict[str, Callable[..., Gradient]] = {
    "sam": of_fields,
    "sam_before": of_fields_before,
    "masked": masked,
    "accumulated": accumulated,
    "ordered": ordered,
}


OF_CONFIG = ("logical_shards", "num_steps", "optimizer")


@contextlib.contextmanager
def following(config: ConfigDict) -> Iterator[None]:
    """Makes a step that is traced inside follow `config.deterministic`, and checks what it takes.

    Raises:
        UserError: If `config.deterministic` or `config.gradient` asks for what no gradient of the
            step has followed.
    """
    name = config.gradient.name
    wishes = Wishes(config.logical_shards if config.deterministic else 0, name)
    with wishing(wishes):
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
