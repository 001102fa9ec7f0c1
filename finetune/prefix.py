"""A network in two parts: what frozen leaves alone compute, and the rest, which is tuned.

    cut = cut_below(apply, params, mask, inputs)
    cached = cut.activations(frozen, inputs)             # once for all epochs
    outputs = cut.rest(tuned, cached)                    # equal to apply(params, inputs)

The cut is read from the program of `apply`: an operation that depends on no tuned leaf is of the
first part. No stages need to be named; branches that bypass the tuned block are cut as well.
Examples must not see one another (batch normalization by running statistics), and be the same in
every epoch (no augmentation).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from common.subtrees import join
from finetune.blocks import check_mask
from finetune.programs import Constant, Operation, Program, program, run

PyTree = Any
# Of these the operands are kept instead, where they are smaller or kept anyhow.
_CHEAP = frozenset(
    {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "convert_element_type"}
    | {"iota", "copy", "slice", "pad", "rev", "concatenate", "add", "sub", "mul", "div", "max"}
    | {"min", "neg", "select_n", "custom_jvp_call", "rsqrt", "sqrt", "square", "integer_pow"}
    | {"exp", "tanh", "logistic", "stop_gradient"}
)


class Activations(NamedTuple):
    """What the rest of the network needs of the frozen part.

    Attributes:
        rows: Arrays with the examples along their first axis.
        shared: Arrays that are the same for all examples, frozen leaves among them.
    """

    rows: tuple[Any, ...]
    shared: tuple[Any, ...]


class Cut(NamedTuple):
    """A network in two parts.

    Attributes:
        activations: (frozen, inputs) -> Activations.
        rest: (tuned, Activations) -> outputs.
        size: Bytes of the rows of one example.
        operations: How many operations the two parts have.
    """

    activations: Callable[[PyTree, PyTree], Activations]
    rest: Callable[[PyTree, Activations], PyTree]
    size: int
    operations: tuple[int, int]


def cut_below(
    apply: Callable[[PyTree, PyTree], PyTree], params: PyTree, mask: PyTree, inputs: PyTree
) -> Cut:
    """Returns `apply` in two parts, of which the second has all that depends on tuned leaves.

    Both parts are pure, and take as many examples at a time as there are in `inputs`, whose values
    are not looked at. Their outputs are those of `apply`, to rounding.

    Args:
        apply: (params, inputs) -> outputs.
        params: Its parameters, or their shapes.
        mask: True where a leaf is tuned.
        inputs: A batch, arrays with the examples along their first axis, or their shapes.

    Raises:
        ValueError: If the mask freezes everything or is of another tree, or if what is to be kept
            is not one entry for each example.
    """
    check_mask(mask, params)
    traced = program(apply, params, inputs)
    flags = jax.tree.leaves(mask)
    leaves, of_inputs = traced.inputs[: len(flags)], traced.inputs[len(flags) :]
    tuned = {n for n, flag in zip(leaves, flags, strict=True) if flag}
    late = _reached(traced, tuned)
    kept, again = _frontier(traced, late, {*traced.inputs})
    by_example = _reached(traced, set(of_inputs))
    rows = tuple(n for n in sorted(kept) if n in by_example)
    shared = tuple(n for n in sorted(kept) if n not in by_example)
    count = jax.tree.leaves(inputs)[0].shape[0]
    for n in rows:
        if traced.shapes[n].shape[:1] != (count,):
            raise ValueError(
                f"cut_below: an array {traced.shapes[n].shape} of {count} examples cannot be kept "
                "by example; expected a network whose examples do not see one another "
                "(batch normalization by running statistics)"
            )
    early = _needed(traced, set(kept), late)
    rest = tuple(o for i, o in enumerate(traced.operations) if i in again or _is_late(o, late))
    frozen_leaves = tuple(n for n in leaves if n not in tuned)
    tuned_leaves = tuple(n for n in leaves if n in tuned)

    def activations(frozen: PyTree, inputs: PyTree) -> Activations:
        values = dict(zip(frozen_leaves, jax.tree.leaves(frozen), strict=True))
        values.update(zip(of_inputs, jax.tree.leaves(inputs), strict=True))
        run(early, values)
        return Activations(tuple(values[n] for n in rows), tuple(values[n] for n in shared))

    def rest_of(tuned: PyTree, kept: Activations) -> PyTree:
        values = dict(zip(tuned_leaves, jax.tree.leaves(tuned), strict=True))
        values.update(zip((*rows, *shared), (*kept.rows, *kept.shared), strict=True))
        run(rest, values)
        outputs = [x.value if isinstance(x, Constant) else values[x] for x in traced.outputs]
        return jax.tree.unflatten(traced.returned, outputs)

    size = sum(_bytes(traced, n) for n in rows) // count
    return Cut(activations, rest_of, size, (len(early), len(rest)))


def cached_activations(cut: Cut, frozen: PyTree, inputs: PyTree, chunk: int) -> Activations:
    """Returns the activations of any number of examples, computed `chunk` at a time.

    `chunk` is the number of examples that the network was cut with. Not for use within `jit`.
    """
    compute, count = jax.jit(cut.activations), len(jax.tree.leaves(inputs)[0])
    parts: list[Activations] = []
    for start in range(0, count, chunk):
        index = np.minimum(np.arange(start, start + chunk), count - 1)
        parts.append(compute(frozen, jax.tree.map(lambda x, i=index: x[i], inputs)))
    rows = zip(*(part.rows for part in parts), strict=True)
    return Activations(
        tuple(jax.numpy.concatenate(arrays)[:count] for arrays in rows), parts[0].shared
    )


def joined(apply: Callable[[PyTree, PyTree], PyTree]) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
    """Returns (tuned, frozen, inputs) -> outputs, without a cut."""
    return lambda tuned, frozen, inputs: apply(join(tuned, frozen), inputs)


def _reached(traced: Program, sources: set[int]) -> set[int]:
    """Returns the values that depend on some of `sources`, these included."""
    found = set(sources)
    for operation in traced.operations:
        if _is_late(operation, found):
            found.update(operation.outputs)
    return found


def _is_late(operation: Operation, late: set[int]) -> bool:
    return any(not isinstance(x, Constant) and x in late for x in operation.inputs)


def _frontier(
    traced: Program, late: set[int], given: set[int]
) -> tuple[frozenset[int], frozenset[int]]:
    """Returns the values that are kept, and the numbers of operations that are done again.

    What the second part needs of the first is kept, unless it is cheap and its operands take less
    space than it does, not counting those that are kept anyhow.
    """
    maker = {n: i for i, o in enumerate(traced.operations) for n in o.outputs}
    kept = {
        x
        for o in traced.operations
        if _is_late(o, late)
        for x in o.inputs
        if not isinstance(x, Constant) and x not in late
    }
    kept |= {x for x in traced.outputs if not isinstance(x, Constant) and x not in late}
    again: set[int] = set()
    is_changed = True
    while is_changed:
        is_changed = False
        for n in sorted(kept - given, reverse=True):
            operation = traced.operations[maker[n]]
            operands = {x for x in operation.inputs if not isinstance(x, Constant)}
            cost = sum(_bytes(traced, x) for x in operands - kept)
            if operation.primitive.name in _CHEAP and cost < _bytes(traced, n):
                kept = (kept - {n}) | operands
                again.add(maker[n])
                is_changed = True
    return frozenset(kept), frozenset(again)


def _needed(traced: Program, wanted: set[int], late: set[int]) -> tuple[Operation, ...]:
    """Returns the operations of the first part that `wanted` values come from."""
    found: list[Operation] = []
    for operation in reversed(traced.operations):
        if wanted & set(operation.outputs) and not _is_late(operation, late):
            found.append(operation)
            wanted |= {x for x in operation.inputs if not isinstance(x, Constant)}
    return tuple(reversed(found))


def _bytes(traced: Program, number: int) -> int:
    shape = traced.shapes[number]
    return int(np.prod(shape.shape, dtype=np.int64)) * shape.dtype.itemsize
