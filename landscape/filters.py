"""Which entries of a parameter form one filter, by path and shape, and norms over them.

A filter is what feeds one output of a layer. Flax keeps outputs on the last axis (Dense, Conv,
depthwise Conv, the output projection of attention); an embedding has a filter for every row, and
the kernels of queries, keys and values, [features, heads, head_dim], one for every pair of the last
two axes. Biases and the parameters of normalization layers are *vectors*, which have no filters.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from landscape.vectors import Layout, PyTree, direction_of, layout_of, matching, moving

# The axes that index the filters of an array, None for a vector; or a function of its shape.
Axes = tuple[int, ...] | None
AxesRule = Axes | Callable[[tuple[int, ...]], Axes]
NORMALIZATIONS = ("filter", "layer", "weight", "dfilter", "dlayer", "none")


def _attention(shape: tuple[int, ...]) -> Axes:
    return (-2, -1) if len(shape) == 3 else (-1,)


FLAX_AXES: tuple[tuple[str, AxesRule], ...] = (
    (r"(^|/)(bias|scale|mean|var)$", None),  # of attention they have two axes
    (r"(^|/)embedding$", (0,)),
    (r"(^|/)(query|key|value)/kernel$", _attention),
)


class FilterRules(NamedTuple):
    """How directions are normalized.

    Attributes:
        axes: (path regex, axes that index the filters; None: a vector) pairs before those of Flax;
            the first that is found in a path such as "params/dense_0/kernel" wins. What none
            speaks of has its filters on the last axis, and is a vector if it has one axis or none.
            Axes count those of `stacked` layers: (0, -1) for scanned dense layers.
        stacked: Regex of layers that `nn.scan` or `vmap` stacked along a leading axis: each is
            a layer of its own, whose shape the rules of Flax see without that axis.
        vectors: What a direction is on vectors: "zero" (they stay), or "copy" of the parameter
            (a = -1 switches a bias off), as in the released code without `biasbn`.
        frozen: Regex of parameters that do not move at all.
    """

    axes: tuple[tuple[str, AxesRule], ...] = ()
    stacked: str | None = None
    vectors: str = "zero"
    frozen: str | None = None


FLAX_RULES = FilterRules()


class Filters(NamedTuple):
    """Filters of one array: the axes that index them, and those that index layers.

    Attributes:
        axes: The axes that index the filters, counted from 0; None: a vector.
        layers: The axes that index stacked layers, () or (0,).
        count: How many filters there are, 0 of a vector.
        size: Entries of each.
        layer_size: Entries of each layer.
    """

    axes: tuple[int, ...] | None
    layers: tuple[int, ...]
    count: int
    size: int
    layer_size: int


def filters_of(params: PyTree, rules: FilterRules = FLAX_RULES) -> dict[str, Filters]:
    """Returns the filters of every parameter that moves, by its path.

    Raises:
        ValueError: If a regex matches nothing, or axes do not fit the array they are for.
    """
    if rules.vectors not in ("zero", "copy"):
        raise ValueError(f"vectors={rules.vectors!r}: expected zero or copy")
    layout = layout_of(params, frozen=rules.frozen)
    for pattern, _ in rules.axes:
        matching(layout.paths, pattern, field="axes")
    stacked = matching(layout.paths, rules.stacked, field="stacked")
    places = zip(layout.paths, layout.shapes, stacked, layout.moves, strict=True)
    return {path: _filters(path, shape, s, rules) for path, shape, s, moves in places if moves}


def num_filters(params: PyTree, rules: FilterRules = FLAX_RULES) -> int:
    """Returns how many filters there are in all; shapes suffice."""
    return sum(found.count for found in filters_of(params, rules).values())


def normalized(
    direction: PyTree,
    params: PyTree,
    *,
    by: str = "filter",
    rules: FilterRules = FLAX_RULES,
) -> PyTree:
    """Returns a direction with the lengths that the parameters have, filter by filter.

    Source: Li et al. (2018), Eq. 1. `layer` scales whole layers; `weight` multiplies entry by
    entry; `dfilter` and `dlayer` give filters and layers length 1; `none` leaves them. A filter of
    zeros has a direction of zeros. Vectors follow `rules.vectors`, whatever `by` is.

    Raises:
        ValueError: If `by` is unknown, a rule matches nothing, or the direction is of another tree.
    """
    layout, found = _checked(params, by, rules)
    thetas = moving(layout, params)
    given = moving(layout, direction, name="direction")
    leaves = zip(given, thetas, found.values(), strict=True)
    return direction_of(layout, [_normalized(*leaf, by, rules.vectors) for leaf in leaves])


def deviations(
    params: PyTree,
    *,
    by: str = "filter",
    rules: FilterRules = FLAX_RULES,
) -> PyTree:
    """Returns the standard deviation of every entry of a normalized Gaussian direction.

    ||theta_f|| / sqrt(n_f) for an entry of filter f with n_f entries: its direction is uniform on a
    sphere, and entries are uncorrelated. 0 on vectors, of which a direction is not random.
    """
    layout, found = _checked(params, by, rules)
    thetas = moving(layout, params)
    leaves = zip(thetas, found.values(), strict=True)
    return direction_of(layout, [_deviation(theta, filters, by) for theta, filters in leaves])


def vector_part(params: PyTree, rules: FilterRules = FLAX_RULES) -> PyTree:
    """Returns what is not random in a direction: the vectors if they are copied, 0 elsewhere."""
    layout, found = _checked(params, "filter", rules)
    leaves = zip(moving(layout, params), found.values(), strict=True)
    copied = rules.vectors == "copy"
    return direction_of(
        layout, [x if copied and f.axes is None else jnp.zeros_like(x) for x, f in leaves]
    )


def _checked(params: PyTree, by: str, rules: FilterRules) -> tuple[Layout, dict[str, Filters]]:
    if by not in NORMALIZATIONS:
        raise ValueError(f"by={by!r}: expected one of {', '.join(NORMALIZATIONS)}")
    return layout_of(params, frozen=rules.frozen), filters_of(params, rules)


def _filters(path: str, shape: tuple[int, ...], stacked: bool, rules: FilterRules) -> Filters:
    leading = 1 if stacked else 0
    if len(shape) < leading:
        raise ValueError(f"stacked={rules.stacked!r} matches {path}, which has no axes")
    layers, inner = tuple(range(leading)), shape[leading:]
    axes = _own_axes(path, shape, rules.axes)
    if axes is False:
        axes = _own_axes(path, inner, FLAX_AXES)
        axes = (-1,) if axes is False else axes
        axes = None if len(inner) <= 1 or axes is None else axes
        axes = axes if axes is None else (*layers, *(leading + a % len(inner) for a in axes))
    layer_size = math.prod(inner)
    if axes is None:
        return Filters(None, layers, 0, layer_size, layer_size)
    if not all(-len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(f"axes={axes} of {path}: expected axes of an array of shape {shape}")
    kept = tuple(sorted({*layers, *(axis % len(shape) for axis in axes)}))
    if len(kept) == len(shape):
        raise ValueError(
            f"axes={axes} of {path}: every entry of shape {shape} would be a filter of its own; "
            "leave an axis to take norms over, or say None for a bias"
        )
    count = math.prod(shape[axis] for axis in kept)
    return Filters(kept, layers, count, math.prod(shape) // max(count, 1), layer_size)


def _own_axes(path: str, shape: tuple[int, ...], rules: Any) -> Any:
    """Returns the axes that the first rule for a path gives, False if none speaks of it."""
    for pattern, axes in rules:
        if re.search(pattern, path):
            return axes(shape) if callable(axes) else axes
    return False


def _length(x: Array, kept: tuple[int, ...]) -> Array:
    """Returns the norm over all axes but those kept, with axes of 1 in their place."""
    over = tuple(axis for axis in range(x.ndim) if axis not in kept)
    return jnp.sqrt(jnp.sum(x**2, axis=over, keepdims=True))


def _normalized(d: Array, theta: Array, filters: Filters, by: str, vectors: str) -> Array:
    if filters.axes is None:
        return theta if vectors == "copy" else jnp.zeros_like(d)
    if by == "none":
        return d
    if by == "weight":
        return d * theta
    kept = filters.axes if by in ("filter", "dfilter") else filters.layers
    length = _length(d, kept)
    wanted = _length(theta, kept) if by in ("filter", "layer") else jnp.ones_like(length)
    return d * jnp.where(length == 0, 0, wanted / jnp.where(length == 0, 1, length))


def _deviation(theta: Array, filters: Filters, by: str) -> Array:
    if filters.axes is None:
        return jnp.zeros_like(theta)
    if by in ("weight", "none"):
        return jnp.abs(theta) if by == "weight" else jnp.ones_like(theta)
    is_filter = by in ("filter", "dfilter")
    kept = filters.axes if is_filter else filters.layers
    size = filters.size if is_filter else filters.layer_size
    length = _length(theta, kept) if by in ("filter", "layer") else jnp.ones(())
    return jnp.broadcast_to(length / math.sqrt(max(size, 1)), theta.shape)


def with_filter_norms(tree: PyTree, params: PyTree, rules: FilterRules = FLAX_RULES) -> PyTree:
    """Returns `tree` with every filter given the length it has in `params`, vectors as they are.

    What is left of a training path without its radial part.
    """
    layout, found = _checked(params, "filter", rules)
    pairs = zip(moving(layout, tree), moving(layout, params), found.values(), strict=True)
    scaled = [x if f.axes is None else _normalized(x, w, f, "filter", "zero") for x, w, f in pairs]
    return direction_of(layout, scaled)
