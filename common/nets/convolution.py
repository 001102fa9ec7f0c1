"""A convolution whose derivatives are as fast inside a loop as outside, on CPUs too.

XLA:CPU has fast code for convolutions of [n, h, w, c] with [h, w, i, o] only. Derivatives swap the
axes of their operands; outside of loops XLA then moves these back, inside `scan` and `while_loop`
it does not (jax issue 12868), and they take 20 to 90 times as long (results/loop_convolution.json).
Here the axes are moved back by hand wherever a program is made for a CPU. All else is
`jax.lax.conv_general_dilated`: values, derivatives of any order in both modes, and the program that
other devices run.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Numbers = lax.ConvDimensionNumbers


class Window(NamedTuple):
    """How a kernel moves over the spatial axes, one entry for each; names are those of JAX."""

    window_strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """Returns `jax.lax.conv_general_dilated` of the same arguments, fast in loops on CPUs.

    Also where that is asked for as an argument: `nn.Conv(..., conv_general_dilated=...)`. Grouped
    convolutions, such as those of a kernel and images both under `vmap`, are left to JAX.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (lhs.ndim - 2)
    is_plain = feature_group_count == 1 and not {*options} - {"precision"}
    if not is_plain or (isinstance(padding, str) and lhs_dilation not in (None, ones)):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            numbers,
            feature_group_count,
            **options,
        )
    rhs_dilation = tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        padding = _padding(padding, lhs.shape, rhs.shape, window_strides, rhs_dilation, numbers)
    pads = tuple((int(low), int(high)) for low, high in padding)
    window = Window(tuple(window_strides), pads, tuple(lhs_dilation or ones), rhs_dilation)
    lhs, rhs = _equally_varying(lhs, rhs)
    return _bound(lhs, rhs, window, numbers, options.get("precision"))


def convolution(
    x: Float[Array, "n h w c_in"], kernel: Float[Array, "k k c_in c_out"], stride: int = 1
) -> Float[Array, "n h_out w_out c_out"]:
    """Returns images convolved with square filters, with zeros around: h_out = ⌈h / stride⌉."""
    order = ("NHWC", "HWIO", "NHWC")
    return conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=order)


# `flax.linen.Conv` with the derivatives of this module; parameters and options are the same.
Conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)


# The primitive. Its name and parameters are those of JAX: a reader of programs knows it.
_convolution = Primitive("conv_general_dilated")


def _bound(
    lhs: jax.Array, rhs: jax.Array, window: Window, numbers: Numbers, precision: Any
) -> jax.Array:
    params = {"dimension_numbers": numbers, "precision": precision}
    groups = {"feature_group_count": 1, "batch_group_count": 1}
    return _convolution.bind(lhs, rhs, **window._asdict(), **params, **groups)


def _window(params: dict[str, Any]) -> Window:
    return Window(*(params[name] for name in Window._fields))


def _plain(lhs: jax.Array, rhs: jax.Array, **params: Any) -> jax.Array:
    return lax.conv_general_dilated(lhs, rhs, **params)


def _in_fast_order(lhs: jax.Array, rhs: jax.Array, **params: Any) -> jax.Array:
    """Returns `_plain` by a convolution of [n, ..., c] with [..., i, o].

    Behind a barrier, moved axes are those of an array in memory. Without it XLA makes them axes of
    the convolution again.
    """
    (n, c, *places), (o, i, *taps), (n_out, c_out, *places_out) = params["dimension_numbers"]
    lhs = _moved(lhs, (n, *places, c))
    rhs = _moved(rhs, (*taps, i, o))
    last = lhs.ndim - 1
    space = tuple(range(1, last))
    order = Numbers((0, last, *space), (last, last - 1, *range(last - 1)), (0, last, *space))
    out = _plain(lhs, rhs, **{**params, "dimension_numbers": order})
    return _moved(out, tuple(np.argsort((n_out, *places_out, c_out)).tolist()))


def _moved(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    if axes == tuple(range(x.ndim)):
        return x
    return lax.optimization_barrier(lax.transpose(x, axes))


def _of_cotangent_and_rhs(g: jax.Array, lhs: Any, rhs: jax.Array, **params: Any) -> jax.Array:
    """Returns the derivative by `lhs`: `g`, its pixels strides apart, under the turned kernel."""
    window, numbers = _window(params), params["dimension_numbers"]
    (n, c, *places), (o, i, *taps), _ = numbers
    sizes, kernel = _sizes(lhs.aval.shape, places), _sizes(rhs.shape, taps)
    outputs = _sizes(g.shape, numbers.out_spec[2:])
    padding = tuple(
        _padding_for(
            size=(m - 1) * lhs_d + 1,
            low=(k - 1) * rhs_d - low,
            reach=(k - 1) * rhs_d,
            inputs=(h - 1) * s + 1,
        )
        for m, k, h, s, (low, _), lhs_d, rhs_d in zip(sizes, kernel, outputs, *window, strict=True)
    )
    turned = Window(window.lhs_dilation, padding, window.window_strides, window.rhs_dilation)
    swapped = Numbers(numbers.out_spec, (i, o, *taps), (n, c, *places))
    rhs = rhs if math.prod(kernel) == 1 else lax.rev(rhs, taps)
    return _bound(g, rhs, turned, swapped, params["precision"])


def _of_lhs_and_cotangent(g: jax.Array, lhs: jax.Array, rhs: Any, **params: Any) -> jax.Array:
    """Returns the derivative by `rhs`: `lhs` under `g`, channels and examples having swapped."""
    window, numbers = _window(params), params["dimension_numbers"]
    (n, c, *places), (o, i, *taps), (n_out, c_out, *places_out) = numbers
    sizes, kernel = _sizes(lhs.shape, places), _sizes(rhs.aval.shape, taps)
    outputs = _sizes(g.shape, places_out)
    padding = tuple(
        _padding_for(
            size=(k - 1) * rhs_d + 1,
            low=low,
            reach=(h - 1) * s,
            inputs=(m - 1) * lhs_d + 1,
        )
        for m, k, h, s, (low, _), lhs_d, rhs_d in zip(sizes, kernel, outputs, *window, strict=True)
    )
    turned = Window(window.rhs_dilation, padding, window.lhs_dilation, window.window_strides)
    swapped = Numbers((c, n, *places), (c_out, n_out, *places_out), (i, o, *taps))
    return _bound(lhs, g, turned, swapped, params["precision"])


def _padding_for(*, size: int, low: int, reach: int, inputs: int) -> tuple[int, int]:
    """Returns the padding after which a kernel `reach` + 1 wide gives `size` outputs."""
    return low, size + reach - inputs - low


def _sizes(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in axes)


def _padding(
    name: str,
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    strides: Sequence[int],
    rhs_dilation: Sequence[int],
    numbers: Numbers,
) -> Sequence[tuple[int, int]]:
    taps = _sizes(rhs_shape, numbers.rhs_spec[2:])
    widths = [(k - 1) * d + 1 for k, d in zip(taps, rhs_dilation, strict=True)]
    return lax.padtype_to_pads(_sizes(lhs_shape, numbers.lhs_spec[2:]), widths, strides, name)


def _equally_varying(lhs: jax.Array, rhs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the operands as arrays that differ between the same devices of a `shard_map`."""
    types: list[Any] = [jax.typeof(x) for x in (lhs, rhs)]
    axes = [kind.manual_axis_type.varying for kind in types]
    lacking = [tuple(sorted((axes[0] | axes[1]) - own)) for own in axes]
    lhs, rhs = (
        lax.pcast(x, names, to="varying") if names else x
        for x, names in zip((lhs, rhs), lacking, strict=True)
    )
    return lhs, rhs


def _batched(operands: Sequence[jax.Array], axes: Sequence[int | None], **params: Any) -> Any:
    """Puts the batch axis of one operand into its examples or outputs; JAX does it for two."""
    lhs, rhs = operands
    numbers: Numbers = params["dimension_numbers"]
    if axes[0] is not None and axes[1] is not None:
        return jax.vmap(lambda x, w: _plain(x, w, **params), (axes[0], axes[1]))(lhs, rhs), 0
    if axes[0] is not None:
        size, into = lhs.shape[axes[0]], numbers.out_spec[0]
        lhs = _merged(lhs, axes[0], numbers.lhs_spec[0])
    else:
        assert axes[1] is not None
        size, into = rhs.shape[axes[1]], numbers.out_spec[1]
        rhs = _merged(rhs, axes[1], numbers.rhs_spec[0])
    out = _convolution.bind(lhs, rhs, **params)
    shape = (*out.shape[:into], size, out.shape[into] // size, *out.shape[into + 1 :])
    return out.reshape(shape), into


def _merged(x: jax.Array, axis: int, into: int) -> jax.Array:
    """Returns `x` with its batch axis made the slow part of axis `into` of the others."""
    x = jax.numpy.moveaxis(x, axis, into)
    return x.reshape(*x.shape[:into], x.shape[into] * x.shape[into + 1], *x.shape[into + 2 :])


def _abstract(lhs: Any, rhs: Any, **params: Any) -> Any:
    return jax.make_jaxpr(lambda x, w: _plain(x, w, **params))(lhs, rhs).out_avals[0]


_convolution.def_impl(_plain)
_convolution.def_abstract_eval(_abstract)
ad.defbilinear(_convolution, _of_cotangent_and_rhs, _of_lhs_and_cotangent)
batching.primitive_batchers[_convolution] = _batched
mlir.register_lowering(_convolution, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(
    _convolution, mlir.lower_fun(_in_fast_order, multiple_results=False), platform="cpu"
)
