"""Neural operators made of linear kernel layers: the FNO and the multiwavelet operator.

u -> lift -> layers z = K v + v W + b with an activation between them -> two pointwise maps. What
K is makes the operator; what else is done in a layer (sciml/boon) is an argument.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dense import DenseParams
from sciml import multiwavelet, spectral
from sciml.affine import affine
from sciml.initialization import Uniform, draw, stacked
from sciml.kernels import Layer, apply_layer
from sciml.multiwavelet import MultiwaveletParams
from sciml.spectral import SpectralParams

PyTree = Any
BASES = ("fno", "mwt")
ACTIVATIONS = {"gelu": lambda x: jax.nn.gelu(x, approximate=False), "relu": jax.nn.relu}


class LayerParams(NamedTuple):
    """A kernel and the pointwise map beside it (None: the multiwavelet operator has none)."""

    kernel: SpectralParams | MultiwaveletParams
    pointwise: DenseParams | None


class OperatorParams(NamedTuple):
    """All parameters of an operator; those of the layers are stacked along a first axis."""

    lift: DenseParams
    layers: LayerParams
    hidden: DenseParams
    out: DenseParams


class OperatorSpec(NamedTuple):
    """Sizes of an operator; axes are those of the grid in the caller's order, time last.

    Attributes:
        base: "fno" or "mwt".
        modes: Kept frequencies of every axis: of the last one 0 .. M-1, of the others ±m.
        width: Channels inside; mwt: a multiple of `wavelet_order`.
        num_layers: Kernel layers.
        projection: Width of the hidden pointwise layer behind them.
        padding: Share of every axis that is appended as zeros before the layers and cut off
            behind them, for axes that are not periodic.
        discards_last: The last layer has parameters and is not used, as in BOON's released 1-D FNO.
        wavelet_order: Polynomials of a multiwavelet, mwt only.
    """

    base: str
    modes: tuple[int, ...]
    width: int
    num_layers: int
    projection: int
    padding: tuple[float, ...]
    discards_last: bool = False
    wavelet_order: int = 4


Activation = Callable[[Array], Array]
ApplyLayer = Callable[[Layer, Float[Array, "*grid batch c"], Activation], Array]


def check_operator(spec: OperatorSpec, grid: tuple[int, ...]) -> None:
    """Checks an operator's sizes against a grid.

    Raises:
        ValueError: Naming the field, the value and what is allowed.
    """
    if spec.base not in BASES:
        raise ValueError(f"config.model.base={spec.base!r}: expected one of {', '.join(BASES)}")
    for name in ("modes", "padding"):
        if len(getattr(spec, name)) != len(grid):
            raise ValueError(
                f"config.model.{name}={getattr(spec, name)}: the grid has {len(grid)} axes"
            )
    if any(not 0 <= share < 1 for share in spec.padding):
        raise ValueError(f"config.model.padding={spec.padding}: expected 0 <= share < 1")
    internal = _internal(padded_grid(spec, grid))
    if spec.base == "mwt":
        multiwavelet.check_grid(internal, order=spec.wavelet_order, width=spec.width)
    for axis, (points, count) in enumerate(zip(internal, _internal(spec.modes), strict=True)):
        if spec.base == "fno" or axis != multiwavelet.wavelet_axis(internal):
            spectral.check_modes(points, count, is_half=axis == 0)


def padded_grid(spec: OperatorSpec, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the grid on which the layers work."""
    return tuple(n + round(share * n) for n, share in zip(grid, spec.padding, strict=True))


def init_operator(
    key: PRNGKeyArray, *, spec: OperatorSpec, c_in: int, c_out: int
) -> OperatorParams:
    """Draws parameters: pointwise maps U(±1/sqrt(c_in)), as PyTorch does in the released code.

    Source: Li et al. (2021) and Gupta et al. (2021), the released codes.

    Args:
        key: Random key.
        spec: Sizes.
        c_in: Channels of the input, coordinates included.
        c_out: Channels of the output.
    """
    width, modes = spec.width, _internal(spec.modes)

    def layer(uniform: Uniform) -> LayerParams:
        if spec.base == "mwt":
            order = spec.wavelet_order
            kernel = multiwavelet.init_multiwavelet(uniform, modes=modes, width=width, order=order)
            return LayerParams(kernel, None)
        kernel = spectral.init_spectral(uniform, modes=modes, c_in=width, c_out=width)
        return LayerParams(kernel, _init_dense(uniform, width, width))

    def network(uniform: Uniform) -> OperatorParams:
        return OperatorParams(
            lift=_init_dense(uniform, c_in, width),
            layers=layer(stacked(uniform, spec.num_layers)),
            hidden=_init_dense(uniform, width, spec.projection),
            out=_init_dense(uniform, spec.projection, c_out),
        )

    return draw(key, network)


def plain_layer(layer: Layer, v: Array, activation: Activation) -> Array:
    """Returns the activated output of a layer without conditions."""
    return activation(apply_layer(layer, v))


def operator(
    params: OperatorParams,
    inputs: Float[Array, "*grid batch c_in"],
    *,
    spec: OperatorSpec,
    layer: ApplyLayer = plain_layer,
) -> Float[Array, "*grid batch c_out"]:
    """Returns the operator's output on the grid of its input, time axis first (`to_internal`).

    Source: Li et al. (2021), Eq. 2 to 4 (fno); Gupta et al. (2021) (mwt).

    Args:
        params: Parameters.
        inputs: Fields with their coordinates as channels, on a uniform grid.
        spec: Sizes.
        layer: What is done with a kernel layer: (layer, v, activation) -> v of the next one.

    Raises:
        ValueError: If the grid cannot represent the modes.
    """
    grid = inputs.shape[:-2]
    activation = ACTIVATIONS["relu" if spec.base == "mwt" else "gelu"]
    v = affine(*params.lift, inputs)
    padded = _internal(padded_grid(spec, _external(grid)))
    v = jnp.pad(v, [(0, m - n) for n, m in zip(grid, padded, strict=True)] + [(0, 0)] * 2)

    def hidden_layer(v: Array, layer_params: LayerParams) -> tuple[Array, None]:
        return layer(make_layer(layer_params, padded, spec), v, activation), None

    # Traced once for all layers, which a compiler takes a multiple of the time for otherwise.
    first = jax.tree.map(lambda x: x[:-1], params.layers)
    last = jax.tree.map(lambda x: x[-1], params.layers)
    v, _ = jax.lax.scan(hidden_layer, v, first)
    if not spec.discards_last:
        v = layer(make_layer(last, padded, spec), v, lambda x: x)
    v = v[tuple(slice(n) for n in grid)]
    return affine(*params.out, activation(affine(*params.hidden, v)))


def make_layer(params: LayerParams, grid: tuple[int, ...], spec: OperatorSpec) -> Layer:
    """Returns a kernel layer with its parameters, on an internal grid (time first)."""
    if isinstance(params.kernel, MultiwaveletParams):
        kernel = multiwavelet.multiwavelet_kernel(params.kernel, grid, order=spec.wavelet_order)
    else:
        kernel = spectral.spectral_kernel(params.kernel, grid)
    return Layer(kernel, *(params.pointwise or (None, None)))


def to_internal(field: Float[Array, "batch *grid c"]) -> Float[Array, "*internal batch c"]:
    """Returns fields with the last grid axis first and the batch behind all grid axes."""
    return jnp.moveaxis(jnp.moveaxis(field, -2, 0), 1, -2)


def to_external(field: Float[Array, "*internal batch c"]) -> Float[Array, "batch *grid c"]:
    """Undoes `to_internal`."""
    return jnp.moveaxis(jnp.moveaxis(field, -2, 0), 1, -2)


def internal_axis(axis: int, num_axes: int) -> int:
    """Returns where a grid axis of the caller's order is inside."""
    return (axis + 1) % num_axes


def coordinates(grid: tuple[int, ...], dtype: Any) -> Float[Array, "*grid d"]:
    """Returns the coordinates of all points, 0 to 1 along every axis."""
    axes = [jnp.linspace(0, 1, n, dtype=dtype) for n in grid]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)


def _internal(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (values[-1], *values[:-1])


def _external(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*values[1:], values[0])


def _init_dense(uniform: Uniform, c_in: int, c_out: int) -> DenseParams:
    bound = 1 / math.sqrt(c_in)
    return DenseParams(
        kernel=uniform((c_in, c_out), -bound, bound), bias=uniform((c_out,), -bound, bound)
    )
