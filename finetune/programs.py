"""A function as the list of its operations: when each argument is used, and what depends on what.

Functions inside (`jit`) are opened, so that a network compiled by its owner is seen through;
operations with derivatives of their own (`custom_jvp`) and loops stay whole.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from common.nets.convolution import conv_general_dilated

PyTree = Any
_OPENED = ("jit", "pjit", "closed_call", "core_call")


class Constant(NamedTuple):
    """An operand that is a number or an array, known when the function was traced."""

    value: Any


class Operation(NamedTuple):
    """outputs = primitive(inputs).

    Attributes:
        primitive: Of JAX.
        params: Of the primitive.
        inputs: Numbers of values, or constants.
        outputs: Numbers of the values that it makes.
    """

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[int | Constant, ...]
    outputs: tuple[int, ...]


class Program(NamedTuple):
    """What a function does with arguments of certain shapes.

    Attributes:
        operations: In order.
        inputs: Numbers of the leaves of the arguments.
        outputs: Numbers of the leaves of what is returned, or constants.
        shapes: Shape and type of every value, by number.
        returned: The structure of what is returned.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int | Constant, ...]
    shapes: tuple[Any, ...]
    returned: Any


def program(function: Callable[..., Any], *arguments: PyTree) -> Program:
    """Returns what `function` does with arguments of these shapes, without running it."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    shapes: list[Any] = []
    operations: list[Operation] = []

    def value(variable: Any) -> int:
        shapes.append(variable.aval)
        return len(shapes) - 1

    def walk(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        known: dict[Any, Any] = dict(zip(jaxpr.invars, inputs, strict=True))
        known |= {v: Constant(x) for v, x in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> Any:
            return Constant(atom.val) if hasattr(atom, "val") else known[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            if equation.primitive.name in _OPENED and "jaxpr" in equation.params:
                inner = equation.params["jaxpr"]
                results = walk(inner.jaxpr, inner.consts, operands)
            else:
                results = [value(v) for v in equation.outvars]
                operations.append(
                    Operation(equation.primitive, equation.params, tuple(operands), tuple(results))
                )
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    inputs = tuple(value(v) for v in closed.jaxpr.invars)
    outputs = walk(closed.jaxpr, closed.consts, inputs)
    return Program(
        tuple(operations), inputs, tuple(outputs), tuple(shapes), jax.tree.structure(shape)
    )


def run(operations: Iterable[Operation], values: dict[int, Any]) -> None:
    """Runs operations, adding what they make to `values`. Valid while traced."""
    for operation in operations:
        operands = [x.value if isinstance(x, Constant) else values[x] for x in operation.inputs]
        options = operation.primitive.get_bind_params(operation.params)
        bind = operation.primitive.bind
        if _is_slow_in_loops(operation):
            bind, options = conv_general_dilated, _arguments(options)
        found = bind(*operands, **options)
        found = found if operation.primitive.multiple_results else [found]
        values.update(zip(operation.outputs, found, strict=True))


def loop_safe(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Returns `function` with convolutions whose derivatives are fast inside loops on CPUs.

    Those within loops and functions with derivatives of their own stay as they are.
    """

    def faster(*arguments: PyTree) -> PyTree:
        traced = program(function, *arguments)
        values = dict(zip(traced.inputs, jax.tree.leaves(arguments), strict=True))
        run(traced.operations, values)
        outputs = [x.value if isinstance(x, Constant) else values[x] for x in traced.outputs]
        return jax.tree.unflatten(traced.returned, outputs)

    return faster


def _is_slow_in_loops(operation: Operation) -> bool:
    groups = ("feature_group_count", "batch_group_count")
    return operation.primitive is jax.lax.conv_general_dilated_p and all(
        operation.params[name] == 1 for name in groups
    )


def _arguments(params: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a convolution as arguments of the function that makes one."""
    names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers")
    return {name: params[name] for name in (*names, "precision")}


def first_uses(function: Callable[..., Any], params: PyTree, inputs: PyTree) -> tuple[int, ...]:
    """Returns for every leaf of `params` the number of the first operation that uses it.

    One that is never used gets the number behind the last.
    """
    traced = program(function, params, inputs)
    found = [len(traced.operations)] * len(jax.tree.leaves(params))
    for number in reversed(range(len(traced.operations))):
        for operand in traced.operations[number].inputs:
            if not isinstance(operand, Constant) and operand < len(found):
                found[operand] = number
    return tuple(found)


def has_convolution(function: Callable[..., Any], *arguments: PyTree) -> bool:
    """Returns whether `function` convolves, at any depth."""
    return _has_convolution(jax.make_jaxpr(function)(*arguments).jaxpr)


def _has_convolution(jaxpr: Any) -> bool:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            return True
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns") and _has_convolution(inner):
                return True
    return False
