"""Directions that do not depend on how a ReLU network shares its scale between layers.

Multiplying what enters a ReLU neuron by c > 0 and dividing what leaves it by c gives another
network of the same function. Filter-normalized directions follow if all neurons of a layer have one
c, not if each has its own. Here a network is *balanced* first: of all its equal versions the one
with the least sum of squares, in which every neuron's incoming and outgoing weights are equally
long. It is unique, so a direction drawn there and carried back is the same for all of them.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from landscape.directions import random_direction
from landscape.filters import FLAX_RULES, FilterRules
from landscape.vectors import Layout, PyTree, direction_of, layout_of, matching, moving, with_moving

MAX_SWEEPS = 10_000


class Neurons(NamedTuple):
    """Neurons whose scale is free, as those of a hidden layer before a ReLU.

    Attributes:
        incoming: (path regex, axis of the neurons) of the weights and biases that make them.
        outgoing: The same of all weights that read them. An axis that is a multiple of their
            number is one of flattened images: the neurons change fastest.
    """

    incoming: tuple[tuple[str, int], ...]
    outgoing: tuple[tuple[str, int], ...]


def chain(names: Sequence[str]) -> tuple[Neurons, ...]:
    """Returns the free neurons of Flax layers (Dense or Conv) that follow one another.

    Args:
        names: Of the layers from input to output, as in their paths, with a ReLU between them.

    Raises:
        ValueError: If there are fewer than two.
    """
    if len(names) < 2:
        raise ValueError(f"names={list(names)}: expected two layers or more")
    pairs = zip(names[:-1], names[1:], strict=True)
    return tuple(
        Neurons(
            ((rf"(^|/){re.escape(layer)}/(kernel|bias)$", -1),),
            ((rf"(^|/){re.escape(after)}/kernel$", -2),),
        )
        for layer, after in pairs
    )


def balancing_scales(
    params: PyTree, neurons: Sequence[Neurons], *, tolerance: float | None = None
) -> list[Float[Array, " _"]]:
    """Returns for each group the factors of what enters its neurons that balance the network.

    Sweeps c_j = sqrt(||out_j|| / ||in_j||) over the groups until nothing changes any more: steps
    of coordinate descent on the sum of squares, which is convex in log c. A neuron with nothing
    coming in or going out keeps its scale.

    Args:
        params: The network.
        neurons: Its groups of neurons.
        tolerance: Largest change of log c in a last sweep; None: 10 units in the last place.

    Raises:
        ValueError: If a regex matches nothing, or sizes of a group do not fit.
    """
    layout = layout_of(params)
    places = [_places(layout, group, i) for i, group in enumerate(neurons)]
    squares = [leaf**2 for leaf in moving(layout, params)]
    dtype = layout.dtype
    least = 10 * float(jnp.finfo(dtype).eps) if tolerance is None else tolerance

    def sweep(carry: tuple) -> tuple:
        squares, logs, _, count = carry
        squares, logs, largest = list(squares), list(logs), jnp.zeros((), dtype)
        for i, (size, into, out) in enumerate(places):
            enters = sum(_sums(squares[leaf], axis, size) for leaf, axis in into)
            leaves = sum(_sums(squares[leaf], axis, size) for leaf, axis in out)
            is_used = (enters > 0) & (leaves > 0)
            ratio = jnp.where(is_used, leaves, 1) / jnp.where(is_used, enters, 1)
            step = jnp.log(ratio).astype(dtype) / 4  # of log c: c^4 = out^2 / in^2
            for leaf, axis in into:
                squares[leaf] = _times(squares[leaf], axis, jnp.exp(2 * step))
            for leaf, axis in out:
                squares[leaf] = _times(squares[leaf], axis, jnp.exp(-2 * step))
            logs[i] = logs[i] + step
            largest = jnp.maximum(largest, jnp.max(jnp.abs(step)))
        return squares, logs, largest, count + 1

    logs = [jnp.zeros((size,), dtype) for size, _, _ in places]
    start = (squares, logs, jnp.full((), jnp.inf, dtype), 0)
    go_on = lambda carry: (carry[2] > least) & (carry[3] < MAX_SWEEPS)
    return [jnp.exp(log) for log in jax.lax.while_loop(go_on, sweep, start)[1]]


def rescaled(
    params: PyTree, neurons: Sequence[Neurons], scales: Sequence[Float[Array, " _"]]
) -> PyTree:
    """Returns the same function with what enters neuron j times c_j, what leaves it divided by c_j.

    Leaves keep their types.

    Raises:
        ValueError: If a regex matches nothing, or sizes of a group do not fit.
    """
    layout = layout_of(params)
    pairs = zip(
        _carried(layout, moving(layout, params), neurons, scales), moving_types(layout), strict=True
    )
    return with_moving(layout, params, [leaf.astype(dtype) for leaf, dtype in pairs])


def rescaling_invariant(
    key: PRNGKeyArray,
    params: PyTree,
    neurons: Sequence[Neurons],
    *,
    by: str = "filter",
    rules: FilterRules = FLAX_RULES,
) -> PyTree:
    """Returns a direction that changes with the parameters when neurons are rescaled.

    For every rescaling T with f(T theta) = f(theta), the direction at T theta is T times the one at
    theta (same key): f along the line is the same function.

    Raises:
        ValueError: If a regex matches nothing, or sizes of a group do not fit.
    """
    scales = balancing_scales(params, neurons)
    layout = layout_of(params)
    balanced = with_moving(
        layout, params, _carried(layout, moving(layout, params), neurons, scales)
    )
    drawn = random_direction(key, balanced, by=by, rules=rules)
    back = [1 / scale for scale in scales]
    leaves = _carried(layout, moving(layout, drawn, name="direction"), neurons, back)
    return direction_of(layout, leaves)


def moving_types(layout: Layout) -> list[str]:
    """Returns the types of the parameters that move."""
    return [d for d, moves in zip(layout.dtypes, layout.moves, strict=True) if moves]


def _carried(
    layout: Layout, leaves: list[Array], neurons: Sequence[Neurons], scales: Sequence[Array]
) -> list[Array]:
    leaves = list(leaves)
    for i, (group, scale) in enumerate(zip(neurons, scales, strict=True)):
        _, into, out = _places(layout, group, i)
        for leaf, axis in into:
            leaves[leaf] = _times(leaves[leaf], axis, scale)
        for leaf, axis in out:
            leaves[leaf] = _times(leaves[leaf], axis, 1 / scale)
    return leaves


def _places(layout: Layout, group: Neurons, number: int) -> tuple[int, list, list]:
    """Returns how many neurons a group has, and the places (leaf, axis) that make and read them."""
    paths = layout.moving_paths
    shapes = [s for s, moves in zip(layout.shapes, layout.moves, strict=True) if moves]

    def find(rules: Sequence[tuple[str, int]], side: str) -> list[tuple[int, int]]:
        found = []
        for pattern, axis in rules:
            hits = matching(paths, pattern, field=f"neurons[{number}].{side}")
            for leaf in (i for i, hit in enumerate(hits) if hit):
                if not -len(shapes[leaf]) <= axis < len(shapes[leaf]):
                    raise ValueError(
                        f"neurons[{number}].{side}: axis {axis} of {paths[leaf]}, "
                        f"which has shape {shapes[leaf]}"
                    )
                found.append((leaf, axis % len(shapes[leaf])))
        return found

    into, out = find(group.incoming, "incoming"), find(group.outgoing, "outgoing")
    size = shapes[into[0][0]][into[0][1]]
    for leaf, axis in (*into, *out):
        if shapes[leaf][axis] % size:
            raise ValueError(
                f"neurons[{number}]: {paths[leaf]} has {shapes[leaf][axis]} of them on axis {axis},"
                f" {paths[into[0][0]]} has {size}"
            )
    return size, into, out


def _sums(squares: Array, axis: int, size: int) -> Float[Array, " n"]:
    rows = jnp.moveaxis(squares, axis, -1).reshape(-1, size)
    return jnp.sum(rows, axis=0)


def _times(leaf: Array, axis: int, scale: Array) -> Array:
    """Multiplies an array along one axis, which may hold the neurons several times over."""
    times = leaf.shape[axis] // math.prod(scale.shape)
    factor = jnp.tile(scale.astype(leaf.dtype), times)
    return leaf * factor.reshape([-1 if i == axis else 1 for i in range(leaf.ndim)])
