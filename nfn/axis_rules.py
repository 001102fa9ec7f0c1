"""What every operation of JAX does to the neurons on the axes of its arrays.

A rule takes the operation and what is known of its arguments, and returns the axes of its results.
What no rule knows is treated as if it told all entries apart by their place: it is refused where it
meets hidden neurons.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from nfn.neurons import Entries, Neurons, Value, uniform

_RESHAPE = "a reshape (a global pooling in front of the first dense layer would not)"

Axes = tuple[Entries, ...]
Rule = Callable[[Neurons, JaxprEqn, Sequence[Value]], list[Axes]]


def result_axes(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    """Returns the axes of all results of an operation that is neither a call nor a loop."""
    return RULES.get(eqn.primitive.name, _unknown)(neurons, eqn, values)


def _shape(eqn: JaxprEqn, result: int = 0) -> tuple[int, ...]:
    aval: Any = eqn.outvars[result].aval
    return tuple(aval.shape)


def _unknown(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    axes = [axis for value in values for axis in value.axes]
    return [
        tuple(neurons.recode(axes, _shape(eqn, i), f"`{eqn.primitive.name}`"))
        for i in range(len(eqn.outvars))
    ]


def _elementwise(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    axes = [uniform(size) for size in _shape(eqn)]
    for value in values:
        if value.axes:  # a scalar goes with any shape, and so does an axis of one entry
            pairs = zip(axes, value.axes, strict=True)
            axes = [
                neurons.join(a, b) if len(a) == len(b) else _spread(neurons, b, a) for a, b in pairs
            ]
    _fix_constants(neurons, values, axes)
    return [tuple(axes)]


def _spread(neurons: Neurons, single: Entries, axis: Entries) -> Entries:
    """Returns `axis` where an axis of one entry meets all of its entries."""
    neurons.consume(single)
    return axis


def _fix_constants(neurons: Neurons, values: Sequence[Value], axes: Sequence[Entries]) -> None:
    """Notes the axes on which constants say the places, as in a one-hot code of data."""
    full = [value for value in values if value.axes]
    for i, axis in enumerate(axes):
        spread = any(v.has_data and (v.axes[i] < 0).all() for v in full)
        spread |= any(v.has_data and len(v.axes[i]) < len(axis) for v in full)
        if spread:
            constants = [v.axes[i] for v in full if not (v.has_data or v.leaves)]
            neurons.fixed += [constant for constant in constants if (constant >= 0).any()]


def _unchanged(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    del neurons, eqn
    return [value.axes for value in values]


def _reduction(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    axes, reduced = values[0].axes, eqn.params["axes"]
    for i in reduced:
        neurons.consume(axes[i])
    return [tuple(axis for i, axis in enumerate(axes) if i not in reduced)]


def _squeeze(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    axes, dropped = values[0].axes, eqn.params["dimensions"]
    _drop(neurons, values[0], [axes[i] for i in dropped])
    return [tuple(axis for i, axis in enumerate(axes) if i not in dropped)]


def _drop(neurons: Neurons, value: Value, axes: Sequence[Entries]) -> None:
    """Notes that axes of one entry end, which may have been picked from several."""
    for axis in axes:
        neurons.consume(axis)
        if value.leaves and not value.has_data:
            # One of several layers in one array: each has neurons in an order of its own.
            neurons.lost.append((axis[axis >= 0], "an index into them"))


def _transpose(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    del neurons
    return [tuple(values[0].axes[i] for i in eqn.params["permutation"])]


def _reverse(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    del neurons
    turned = eqn.params["dimensions"]
    return [tuple(axis[::-1] if i in turned else axis for i, axis in enumerate(values[0].axes))]


def _slice(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    del neurons
    starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    cuts = zip(values[0].axes, starts, ends, strides, strict=True)
    return [tuple(axis[start:end:stride] for axis, start, end, stride in cuts)]


def _split(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    del neurons
    axes, place = values[0].axes, eqn.params["axis"]
    parts = np.split(axes[place], np.cumsum(eqn.params["sizes"])[:-1])
    return [(*axes[:place], part, *axes[place + 1 :]) for part in parts]


def _broadcast(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    axes = [uniform(size) for size in _shape(eqn)]
    for axis, place in zip(values[0].axes, eqn.params["broadcast_dimensions"], strict=True):
        if len(axis) == len(axes[place]):
            axes[place] = axis
        else:
            neurons.consume(axis)
    return [tuple(axes)]


def _iota(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    del values
    axes = [uniform(size) for size in _shape(eqn)]
    counted = eqn.params["dimension"]
    axes[counted] = neurons.new(len(axes[counted]))
    neurons.lose([axes[counted]], "numbering them")
    return [tuple(axes)]


def _concatenate(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    place = eqn.params["dimension"]
    parts = [neurons.in_block(v.axes[place], (id(eqn), i)) for i, v in enumerate(values)]
    axes = list(values[0].axes)
    for value in values[1:]:
        axes = [
            a if i == place else neurons.join(a, b)
            for i, (a, b) in enumerate(zip(axes, value.axes, strict=True))
        ]
    axes[place] = np.concatenate(parts)
    return [tuple(axes)]


def _pad(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    axes = []
    for axis, (low, high, between) in zip(
        values[0].axes, eqn.params["padding_config"], strict=True
    ):
        if low or high or between:
            inside = neurons.in_block(axis, (id(eqn), "inside"))
            size = len(inside) + between * max(len(inside) - 1, 0)
            padded = np.full(size, neurons.block((id(eqn), "padding")))
            padded[:: between + 1] = inside
            padded = padded[max(-low, 0) : size - max(-high, 0)]
            widths = (max(low, 0), max(high, 0))
            axis = np.pad(padded, widths, constant_values=neurons.block((id(eqn), "padding")))
        axes.append(axis)
    return [tuple(axes)]


def _reshape(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    if 0 in _shape(eqn):
        return _unknown(neurons, eqn, values)
    old, new = list(values[0].axes), [uniform(size) for size in _shape(eqn)]
    wide_old = [axis for axis in old if len(axis) > 1]
    wide_new = [i for i, axis in enumerate(new) if len(axis) > 1]
    while wide_old:
        taken, places = [wide_old.pop(0)], [wide_new.pop(0)]
        while (a := _size(taken)) != (b := _size([new[i] for i in places])):
            if a < b:
                taken.append(wide_old.pop(0))
            else:
                places.append(wide_new.pop(0))
        if len(taken) == len(places) == 1:
            new[places[0]] = taken[0]
        elif any((axis != -1).any() for axis in taken):
            sizes = [len(new[i]) for i in places]
            for i, axis in zip(places, neurons.recode(taken, sizes, _RESHAPE), strict=True):
                new[i] = axis
    single_old = [axis for axis in old if len(axis) == 1]
    single_new = [i for i, axis in enumerate(new) if len(axis) == 1]
    if len(single_old) == len(single_new):
        for i, axis in zip(single_new, single_old, strict=True):
            new[i] = axis
    else:
        _drop(neurons, values[0], single_old)
    return [tuple(new)]


def _size(axes: Sequence[Entries]) -> int:
    return int(np.prod([len(axis) for axis in axes]))


def _product(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    (summed, batch) = eqn.params["dimension_numbers"]
    first, second = (value.axes for value in values)
    for i, j in zip(*summed, strict=True):
        neurons.consume(neurons.join(first[i], second[j]))
    shared = [neurons.join(first[i], second[j]) for i, j in zip(*batch, strict=True)]
    # Heads and ensembles: each has neurons in an order of its own, under one axis for all.
    neurons.lose(shared, "a product for every entry of a batch axis")
    kept = [
        [axis for i, axis in enumerate(axes) if i not in (*summed[side], *batch[side])]
        for side, axes in enumerate((first, second))
    ]
    for made, value, other in zip(kept, values, reversed(values), strict=True):
        if other.has_data and not value.has_data:
            if not value.leaves:
                neurons.fixed += made
            elif sum(len(axis) > 1 for axis in made) > 1:
                # Pairs of neurons, which may come in any order, not only axis by axis.
                neurons.lose(made, "a product that makes several axes of neurons")
    return [(*shared, *kept[0], *kept[1])]


def _convolution(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    (x, kernel), numbers = (value.axes for value in values), eqn.params["dimension_numbers"]
    if eqn.params["batch_group_count"] > 1:
        return _unknown(neurons, eqn, values)
    features, outputs = x[numbers.lhs_spec[1]], kernel[numbers.rhs_spec[0]]
    groups = eqn.params["feature_group_count"]
    if groups == 1:
        neurons.consume(neurons.join(features, kernel[numbers.rhs_spec[1]]))
    elif groups == len(features) == len(outputs):  # a filter for every channel
        outputs = neurons.join(features, outputs)
        neurons.fixed.append(kernel[numbers.rhs_spec[1]])
    else:
        neurons.lose([features, outputs, kernel[numbers.rhs_spec[1]]], "a grouped convolution")
    neurons.lose([x[i] for i in numbers.lhs_spec[2:]], "a convolution along them")
    neurons.fixed += [kernel[i] for i in numbers.rhs_spec[2:]]
    axes = dict.fromkeys(numbers.out_spec, uniform(0))
    axes[numbers.out_spec[0]] = x[numbers.lhs_spec[0]]
    axes[numbers.out_spec[1]] = outputs
    for i in numbers.out_spec[2:]:
        axes[i] = neurons.new_fixed(_shape(eqn)[i])
    return [tuple(axes[i] for i in range(len(axes)))]


def _windows(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    settings = [eqn.params[name] for name in names]
    axes = []
    for axis, size, *setting in zip(values[0].axes, _shape(eqn), *settings, strict=True):
        is_kept = setting == [1, 1, (0, 0), 1, 1]
        axes.append(axis if is_kept else neurons.recode([axis], [size], "pooling along them")[0])
    return [tuple(axes)]


def _dynamic_slice(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    sizes = zip(values[0].axes, _shape(eqn), strict=True)
    is_looked_up = _is_looked_up(values)
    return [tuple(a if len(a) == n else _cut(neurons, a, n, is_looked_up) for a, n in sizes)]


def _gather(neurons: Neurons, eqn: JaxprEqn, values: Sequence[Value]) -> list[Axes]:
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if numbers.operand_batching_dims:
        return _unknown(neurons, eqn, values)
    x, indices = values[0].axes, values[1].axes
    is_looked_up = _is_looked_up(values)
    slices = []
    for i, (axis, size) in enumerate(zip(x, sizes, strict=True)):
        kept = axis if len(axis) == size else _cut(neurons, axis, size, is_looked_up)
        if i not in numbers.collapsed_slice_dims:
            slices.append(kept)
    rest = list(indices[:-1])
    rank = len(_shape(eqn))
    return [tuple(slices.pop(0) if i in numbers.offset_dims else rest.pop(0) for i in range(rank))]


def _is_looked_up(values: Sequence[Value]) -> bool:
    """Whether the inputs choose rows of a table of parameters: their order has a meaning."""
    return not values[0].has_data and any(value.has_data for value in values[1:])


def _cut(neurons: Neurons, axis: Entries, size: int, is_looked_up: bool) -> Entries:
    if is_looked_up:
        neurons.fixed.append(axis)
    return neurons.recode([axis], [size], "an index into them")[0]


ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e "
    "bitcast_convert_type cbrt ceil clamp complex conj convert_element_type copy copy_p cos cosh "
    "digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow "
    "is_finite le lgamma log log1p log2 logistic lt max min mul name ne neg nextafter not or "
    "polygamma pow pvary real reduce_precision rem round rsqrt select_n sharding_constraint "
    "sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta"
)
REDUCTIONS = "reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor"
WINDOWS = "reduce_window reduce_window_max reduce_window_min reduce_window_sum"
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(REDUCTIONS.split(), _reduction),
    **dict.fromkeys(WINDOWS.split(), _windows),
    "optimization_barrier": _unchanged,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "concatenate": _concatenate,
    "pad": _pad,
    "reshape": _reshape,
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
}
