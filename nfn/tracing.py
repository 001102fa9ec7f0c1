"""The weight space of any network, read from one forward pass.

`jax.make_jaxpr` shows which entries of which axes meet: channels of a kernel and of the bias added
to what it gives, rows of the next kernel, both sides of a shortcut. Entries that meet are one
neuron; neurons that occur in the same axes, and that nothing tells apart, are a group. So names,
the order of layers and the architecture are not guessed: shortcuts, recurrence, tied weights and
gates get the groups that they have, and what labels of axes cannot say is refused.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from nfn.axis_flow import Flow, follow
from nfn.splits import Place, SplitSpace, split_by_places
from nfn.weights import INPUT, OUTPUT, WeightSpace

Axis = tuple[str, int]


class _Roles(NamedTuple):
    """Neurons that are inputs, outputs, or entries whose place has a meaning."""

    inputs: set[int]
    outputs: set[int]
    fixed: set[int]


def space_from_apply(apply: Callable[..., Any], params: Any, *inputs: Any) -> WeightSpace:
    """Returns the weight space of the network `apply(params, *inputs)`.

    Nothing is run: arrays or `jax.ShapeDtypeStruct`s will do. Tensors come in the order in which
    data meet them. A group that holds inputs of the network is called "input", one that holds
    outputs "output"; if several do, they count as fixed. Axes whose order has a meaning, such as
    those of filters or of an embedding's rows, are fixed.

    Args:
        apply: A pure function JAX can trace, such as `lambda params, x: model.apply({"params":
            params}, x)`, without dropout. Arrays that belong to neurons, such as statistics of
            batch norm, belong into `params`.
        params: Parameters of one network.
        inputs: Its other arguments, a batch of any size.

    Raises:
        ValueError: If labels on axes cannot describe the symmetry: a map flattened in front of a
            dense layer, heads, groups of channels, layers in one array; the message names the
            tensor and what the program does to it. Also if an axis holds several groups: see
            `split_from_apply`.
    """
    split = split_from_apply(apply, params, *inputs)
    for piece in split.pieces:
        if piece.path != piece.source:
            raise ValueError(
                f"{piece.source}: an axis holds several groups of neurons, as behind a zero-padded "
                "shortcut or a concatenation; `nfn.tracing.split_from_apply` gives the weight "
                "space of its pieces"
            )
    return split.space


def split_from_apply(apply: Callable[..., Any], params: Any, *inputs: Any) -> SplitSpace:
    """As `space_from_apply`, with tensors cut into pieces where an axis holds several groups.

    `nfn.splits.split_params` cuts the parameters, `join_params` puts them together.
    """
    flow = follow(apply, params, inputs)
    places = _neuron_places(flow)
    root = flow.neurons.root
    return split_by_places(
        (
            path,
            tuple(map(len, axes)),
            [
                [places.get(root(n), (None, i)) for i, n in enumerate(axis.tolist())]
                for axis in axes
            ],
        )
        for path, axes in flow.axes.items()
    )


def _neuron_places(flow: Flow) -> dict[int, Place]:
    """Returns group and number of every neuron that a permutation may move."""
    roles, occurrences = _roles(flow), _occurrences(flow)
    _refuse_lost(flow, roles, occurrences)
    marks = defaultdict(set)
    for neuron, mark in flow.neurons.marks:
        marks[flow.neurons.root(neuron)].add(mark)
    members = defaultdict(list)
    for neuron, axes in occurrences.items():
        role = INPUT if neuron in roles.inputs else OUTPUT if neuron in roles.outputs else ""
        if not role and neuron in roles.fixed:
            continue
        twice = [axis for axis, count in axes.items() if count > 1]
        if twice and not role:
            raise ValueError(
                f"{_named(twice[0])}: one neuron has two places in it, as in a gate; {_BY_HAND}"
            )
        if not twice:
            members[role, frozenset(axes), frozenset(marks[neuron])].append(neuron)
    names = _group_names(members)
    return {
        neuron: (names[key], number)
        for key, group in members.items()
        if key in names
        for number, neuron in enumerate(group)
    }


_BY_HAND = "label the tensors by hand: `nfn.weights.weight_space`, `nfn.splits.split_space`"


def _group_names(members: dict[Any, list[int]]) -> dict[Any, str]:
    names = {}
    for role in (INPUT, OUTPUT):
        found = [key for key in members if key[0] == role]
        found = [key for key in found if len(members[key]) > 1] or found
        if len(found) == 1:
            names[found[0]] = role
    hidden = (key for key in members if not key[0])
    return names | {key: f"hidden_{i}" for i, key in enumerate(hidden, start=1)}


def _occurrences(flow: Flow) -> dict[int, Counter[Axis]]:
    """Returns how often every neuron occurs in every axis of the parameters."""
    found = defaultdict(Counter)
    for path, axes in flow.axes.items():
        for place, axis in enumerate(axes):
            for neuron in flow.neurons.roots(axis):
                found[neuron][path, place] += 1
    return found


def _roles(flow: Flow) -> _Roles:
    def all_of(axes: Iterable[Any]) -> set[int]:
        return {neuron for axis in axes for neuron in flow.neurons.roots(axis)}

    roles = _Roles(all_of(flow.inputs), all_of(flow.outputs), all_of(flow.neurons.fixed))
    # What becomes of inputs and of places alone is as they are, however it is arranged; so is
    # what becomes of nothing else than outputs.
    for before, after in flow.neurons.recoded:
        old = all_of(before)
        if old and old <= roles.inputs | roles.fixed:
            (roles.inputs if old & roles.inputs else roles.fixed).update(all_of(after))
    for before, after in reversed(flow.neurons.recoded):
        new = all_of(after)
        if new and new <= roles.outputs:
            roles.outputs.update(all_of(before) - roles.inputs - roles.fixed)
    return roles


def _refuse_lost(flow: Flow, roles: _Roles, occurrences: dict[int, Counter[Axis]]) -> None:
    known = roles.inputs | roles.outputs | roles.fixed
    for axis, reason in flow.neurons.lost:
        for neuron in set(flow.neurons.roots(axis)) - known:
            wide = [(path, i) for path, i in occurrences[neuron] if len(flow.axes[path][i]) > 1]
            if wide:
                raise ValueError(
                    f"{_named(wide[0])}: {reason} tells these neurons apart by their place, so "
                    f"that labels of axes cannot say in which orders they may come; {_BY_HAND}"
                )


def _named(axis: Axis) -> str:
    return f"{axis[0]}, axis {axis[1]}"
