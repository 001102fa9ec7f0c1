"""A stack of equivariant layers: codes of the weights, then linear maps with ReLU between them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from nfn import encodings, features, layers
from nfn.trunk import Trunk
from nfn.weights import WeightSpace, hidden_only

KINDS = ("np", "hnp", "pt")
IO_CODES = ("none", "sinusoidal", "learned")


class StackSpec(NamedTuple):
    """Sizes of a stack.

    Attributes:
        kind: np, hnp (equivariant layers of the full and of the hidden group) or pt (pointwise).
        widths: Channels per weight after every layer.
        frequencies: Gaussian Fourier frequencies per input channel; 0: the inputs themselves.
        fourier_scale: Standard deviation of these frequencies.
        io: Code of inputs and outputs: none, sinusoidal (appended once to the inputs) or learned
            (added before every layer); hnp knows its inputs and outputs and gets none.
        io_bands: Bands of the sinusoidal code.
        io_max_frequency: Twice the highest scale of that code.
        layer_norm: Normalize the channels before every ReLU.
        linear_output: Leave the last layer without layer norm, ReLU and dropout.
        channel_dropout: Rate at which whole channels are dropped after every ReLU.
        dtype: Compute type of the layers, "float32" or "bfloat16".
        remat: Recompute layers in the backward pass instead of keeping their outputs.
    """

    kind: str
    widths: tuple[int, ...]
    frequencies: int = 0
    fourier_scale: float = 1.0
    io: str = "none"
    io_bands: int = 0
    io_max_frequency: float = 0.0
    layer_norm: bool = False
    linear_output: bool = False
    channel_dropout: float = 0.0
    dtype: str = "float32"
    remat: bool = False


class LayerParams(NamedTuple):
    """One layer: learned code added to its input (or None), linear map, layer norm (or None)."""

    io: features.Features | None
    linear: layers.LinearParams
    norm: layers.LayerNormParams | None


class StackParams(NamedTuple):
    """Fixed Fourier frequencies (or None) and the layers."""

    fourier: encodings.FourierParams | None
    layers: tuple[LayerParams, ...]


def stack_space(space: WeightSpace, kind: str) -> WeightSpace:
    """Returns the weight space in whose layout a stack of this kind reads and writes features."""
    return hidden_only(space) if kind == "hnp" else space


def init_stack(
    key: PRNGKeyArray, *, space: WeightSpace, spec: StackSpec, c_in: int = 1, c_extra: int = 0
) -> StackParams:
    """Draws a stack that reads `c_in` channels per weight, and `c_extra` without Fourier features.

    Raises:
        ValueError: If kind or code are unknown, or the code does not go with the kind.
    """
    _check(spec)
    inner = stack_space(space, spec.kind)
    init_linear = layers.init_pointwise if spec.kind == "pt" else layers.init_equivariant_linear
    key_fourier, key_io, *keys = jax.random.split(key, 2 + len(spec.widths))
    sizes = (_encoded_channels(spec, c_in) + c_extra, *spec.widths)
    fourier = None
    if spec.frequencies:
        fourier = encodings.init_fourier_features(
            key_fourier, c_in=c_in, num_frequencies=spec.frequencies, scale=spec.fourier_scale
        )
    stacked = []
    for i, (k, c, c_out) in enumerate(zip(keys, sizes[:-1], spec.widths, strict=True)):
        io = None
        if spec.io == "learned":
            io = encodings.init_io_embedding(jax.random.fold_in(key_io, i), space=inner, c=c)
        linear = init_linear(k, space=inner, c_in=c, c_out=c_out)
        has_norm = spec.layer_norm and not _is_bare(spec, i)
        norm = layers.init_layer_norm(space=inner, c=c_out) if has_norm else None
        stacked.append(LayerParams(io, linear, norm))
    return StackParams(fourier, tuple(stacked))


def stack(
    params: StackParams,
    x: features.Features,
    *,
    space: WeightSpace,
    spec: StackSpec,
    extra: features.Features | None = None,
    key: PRNGKeyArray | None = None,
) -> features.Features:
    """Returns `widths[-1]` channels per weight, in float32; commutes with neuron permutations.

    Source: Zhou et al. (2023a), App. D: Fourier features, code of inputs and outputs, layers.

    Args:
        params: Made by `init_stack`.
        x: Features in the layout of `stack_space(space, spec.kind)`.
        space: The full weight space.
        spec: Sizes.
        extra: Further channels, appended after the Fourier features; None if `c_extra` is 0.
        key: Turns dropout on.

    Raises:
        ValueError: If `x` does not belong to that space; the message names the tensor.
    """
    inner = stack_space(space, spec.kind)
    if params.fourier is not None:
        x = encodings.fourier_features(params.fourier, x, space=inner)
    if extra is not None:
        x = features.concatenate(inner, [x, extra])
    if spec.io == "sinusoidal":
        x = encodings.io_encoding(
            x, space=inner, num_bands=spec.io_bands, max_frequency=spec.io_max_frequency
        )
    x = jax.tree.map(lambda leaf: leaf.astype(spec.dtype), x)
    keys = [None] * len(spec.widths) if key is None else jax.random.split(key, len(spec.widths))
    for i, (layer_params, layer_key) in enumerate(zip(params.layers, keys, strict=True)):
        x = _layer(inner, spec, is_bare=_is_bare(spec, i))(layer_params, x, layer_key)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), x)


def linear_trunk(space: WeightSpace, spec: StackSpec, *, c_in: int = 1, c_extra: int = 0) -> Trunk:
    """Returns the stack of `spec` as a trunk; `space` is the full weight space.

    Raises:
        ValueError: If kind or code are unknown, or the code does not go with the kind.
    """
    _check(spec)

    def apply(
        params: StackParams,
        x: features.Features,
        extra: features.Features | None = None,
        key: PRNGKeyArray | None = None,
    ) -> features.Features:
        return stack(params, x, space=space, spec=spec, extra=extra, key=key)

    return Trunk(
        space=stack_space(space, spec.kind),
        channels=spec.widths[-1],
        init=lambda key: init_stack(key, space=space, spec=spec, c_in=c_in, c_extra=c_extra),
        apply=apply,
    )


def _layer(
    space: WeightSpace, spec: StackSpec, *, is_bare: bool
) -> Callable[..., features.Features]:
    linear = layers.pointwise if spec.kind == "pt" else layers.equivariant_linear

    def layer(
        params: LayerParams, x: features.Features, key: PRNGKeyArray | None
    ) -> features.Features:
        params = jax.tree.map(lambda p: p.astype(spec.dtype), params)
        if params.io is not None:
            x = encodings.io_embedding(params.io, x)
        x = linear(params.linear, x, space=space)
        if is_bare:
            return x
        if params.norm is not None:
            x = layers.layer_norm(params.norm, x)
        x = jax.tree.map(jax.nn.relu, x)
        if key is not None and spec.channel_dropout > 0:
            x = layers.channel_dropout(key, x, space=space, rate=spec.channel_dropout)
        return x

    return jax.checkpoint(layer) if spec.remat else layer


def _is_bare(spec: StackSpec, layer: int) -> bool:
    return spec.linear_output and layer == len(spec.widths) - 1


def _encoded_channels(spec: StackSpec, c_in: int) -> int:
    """Returns the channels per weight that the first layer reads."""
    codes = 2 * spec.io_bands + 1 if spec.io == "sinusoidal" else 0
    return (2 * spec.frequencies if spec.frequencies else c_in) + codes


def _check(spec: StackSpec) -> None:
    for name, value, allowed in (("kind", spec.kind, KINDS), ("io", spec.io, IO_CODES)):
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(allowed)}")
    if spec.kind == "hnp" and spec.io != "none":
        raise ValueError(f"io={spec.io!r}: kind hnp tells its inputs and outputs apart, wants none")
    if not spec.widths:
        raise ValueError("widths=(): a stack needs at least one layer")
