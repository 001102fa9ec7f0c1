"""Follows the neurons of parameters through the program of a forward pass.

The program is a jaxpr: what JAX would compile. Calls are followed into their bodies; loops are run
until nothing new becomes known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from nfn.axis_rules import result_axes
from nfn.neurons import Entries, Neurons, Value, uniform
from nfn.weights import leaf_path

CALLS = ("call_jaxpr", "jaxpr", "fun_jaxpr")  # under which an operation keeps its body


class Flow(NamedTuple):
    """Parameters of a network and the neurons of their axes.

    Attributes:
        axes: Neurons of every axis of every parameter, in the order in which data meet them.
        inputs: Axes of the inputs.
        outputs: Axes of the outputs.
        neurons: What the program does to the neurons.
    """

    axes: dict[str, tuple[Entries, ...]]
    inputs: tuple[Entries, ...]
    outputs: tuple[Entries, ...]
    neurons: Neurons


def follow(apply: Callable[..., Any], params: Any, inputs: Sequence[Any]) -> Flow:
    """Returns the neurons of the parameters of `apply(params, *inputs)`, traced and not run."""
    program = jax.make_jaxpr(apply)(params, *inputs)
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    paths = [leaf_path(keys) for keys, _ in leaves]
    neurons, order = Neurons(), []
    axes = [tuple(neurons.new(size) for size in var.aval.shape) for var in _invars(program)]
    values = [Value(ax, frozenset(paths[i : i + 1]), i >= len(paths)) for i, ax in enumerate(axes)]
    outputs = _run(neurons, program, values, order)
    used = list(dict.fromkeys([*order, *paths]))
    of_path = dict(zip(paths, axes, strict=False))
    return Flow(
        {path: of_path[path] for path in used},
        tuple(axis for value in values[len(paths) :] for axis in value.axes),
        tuple(axis for value in outputs for axis in value.axes),
        neurons,
    )


def _invars(program: Any) -> Sequence[Any]:
    return getattr(program, "jaxpr", program).invars


def _run(
    neurons: Neurons, program: Any, arguments: Sequence[Value], order: list[str]
) -> list[Value]:
    """Returns what is known of the results; adds to `order` the parameters that data meet."""
    jaxpr = getattr(program, "jaxpr", program)
    constants = [_constant(neurons, const) for const in getattr(program, "consts", ())]
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Value:
        return _constant(neurons, atom.val) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        known |= zip(eqn.outvars, _results(neurons, eqn, values, order), strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _results(
    neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value], order: list[str]
) -> list[Value]:
    if eqn.primitive.name in LOOPS:
        return LOOPS[eqn.primitive.name](neurons, eqn, values, order)
    shapes = [tuple(map(len, value.axes)) for value in values]
    for body in (eqn.params[key] for key in CALLS if key in eqn.params):
        if [var.aval.shape for var in _invars(body)] == shapes:
            return _run(neurons, body, values, order)
    has_data = any(value.has_data for value in values)
    leaves = frozenset().union(*(value.leaves for value in values if not value.has_data))
    if has_data:
        order += sorted(leaves)
        leaves = frozenset()
    return [Value(axes, leaves, has_data) for axes in result_axes(neurons, eqn, values)]


def _constant(neurons: Neurons, array: Any) -> Value:
    """Returns what is known of an array that is neither a parameter nor an input."""
    shape, axes = np.shape(array), []
    for i, size in enumerate(shape):
        x = np.asarray(array)
        is_uniform = size < 2 or bool((x == np.take(x, [0], axis=i)).all())
        axis = uniform(size) if is_uniform else neurons.new(size)
        neurons.lose([axis], "a constant array, which should be among the parameters,")
        axes.append(axis)
    return Value(tuple(axes))


def _both(neurons: Neurons, first: Value, second: Value) -> Value:
    """Returns what is known of an array that is one or the other."""
    pairs = zip(first.axes, second.axes, strict=True)
    axes = tuple(neurons.join(a, b) for a, b in pairs)
    return Value(axes, first.leaves | second.leaves, first.has_data or second.has_data)


def _until_known(
    neurons: Neurons, carry: Sequence[Value], step: Callable[[list[Value]], list[Value]]
) -> tuple[list[Value], list[Value]]:
    """Returns what is known of a carry after any number of steps, and the rest of a step."""
    carry = list(carry)
    while True:
        results = step(carry)
        pairs = zip(carry, results[: len(carry)], strict=True)
        after = [_both(neurons, *pair) for pair in pairs]
        if all(_same(a, b) for a, b in zip(carry, after, strict=True)):
            return carry, results[len(carry) :]
        carry = after


def _same(first: Value, second: Value) -> bool:
    axes = zip(first.axes, second.axes, strict=True)
    return first[1:] == second[1:] and all(np.array_equal(a, b) for a, b in axes)


def _scan(
    neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value], order: list[str]
) -> list[Value]:
    num_consts, num_carry = _scan_counts(eqn.params)
    consts = values[:num_consts]
    carry, rows = values[num_consts:][:num_carry], values[num_consts + num_carry :]
    single = [row._replace(axes=row.axes[1:]) for row in rows]
    body = eqn.params["jaxpr"]
    carry, stacked = _until_known(
        neurons, carry, lambda now: _run(neurons, body, [*consts, *now, *single], order)
    )
    # Layers stacked in one array: each has neurons in an order of its own.
    places = [row.axes[0] for row in rows]
    times = neurons.recode(places, [eqn.params["length"]], "a loop over them")[0]
    return [*carry, *(value._replace(axes=(times, *value.axes)) for value in stacked)]


def _scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def _while(
    neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value], order: list[str]
) -> list[Value]:
    condition, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    first, second = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    consts, carry = values[: first + second], values[first + second :]
    carry, _ = _until_known(
        neurons, carry, lambda now: _run(neurons, body, [*consts[first:], *now], order)
    )
    _run(neurons, condition, [*consts[:first], *carry], order)
    return carry


def _cond(
    neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value], order: list[str]
) -> list[Value]:
    branches = [_run(neurons, body, values[1:], order) for body in eqn.params["branches"]]
    results = branches[0]
    for other in branches[1:]:
        results = [_both(neurons, *pair) for pair in zip(results, other, strict=True)]
    return [v._replace(has_data=v.has_data or values[0].has_data) for v in results]


LOOPS = {"scan": _scan, "while": _while, "cond": _cond}
