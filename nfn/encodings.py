"""What is done to weights before the first equivariant layer: codes, Fourier features, scaling."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nfn.features import Features, align_rank, concatenate, fold, num_channels, unfold
from nfn.sine import sin_cos
from nfn.weights import INPUT, OUTPUT, TensorSpec, WeightSpace


class FourierParams(NamedTuple):
    """Frequencies of `fourier_features`, drawn once, never trained, saved with the model."""

    frequencies: Float[Array, "c_in num_frequencies"]


class LearnedEncodingParams(NamedTuple):
    """A vector per tensor, and one per input and output, added by `learned_encoding`.

    Attributes:
        tensors: By path of the tensor.
        neurons: By group, "input" and "output"; empty if the space has neither to permute.
    """

    tensors: dict[str, Float[Array, " c"]]
    neurons: dict[str, Float[Array, "n c"]]


class NormalizationStatistics(NamedTuple):
    """Mean and standard deviation of every folded channel of every tensor."""

    mean: Features
    std: Features


def init_fourier_features(
    key: PRNGKeyArray, *, c_in: int, num_frequencies: int, scale: float
) -> FourierParams:
    """Draws frequencies ~ N(0, scale^2)."""
    return FourierParams(scale * jax.random.normal(key, (c_in, num_frequencies)))


def fourier_features(params: FourierParams, features: Features, *, space: WeightSpace) -> Features:
    """Maps every weight x to [sin 2 pi x B, cos 2 pi x B]; B gets no gradient.

    Source: Zhou et al. (2023a), App. D.3, and package 0.1.2 (x itself is not kept).
    """
    num_channels(space, features)
    frequencies = jax.lax.stop_gradient(params.frequencies)
    outputs = {}
    for spec in space.tensors:
        angle = 2 * math.pi * unfold(spec, features[spec.path]) @ frequencies
        is_float32 = angle.dtype == jnp.float32
        # XLA:CPU's own sine would take as long as a whole layer.
        waves = sin_cos(angle) if is_float32 else (jnp.sin(angle), jnp.cos(angle))
        outputs[spec.path] = fold(spec, jnp.concatenate(waves, axis=-1))
    return outputs


def io_encoding(
    features: Features, *, space: WeightSpace, num_bands: int, max_frequency: float
) -> Features:
    """Appends 2 num_bands + 1 channels that tell which input or output a weight belongs to.

    Source: Zhou et al. (2023a), Sec. 2.4, and package 0.1.2: the position x in [-1, 1]
    becomes [sin pi s x, cos pi s x, x], s = linspace(1, max_frequency / 2, num_bands). Tensors
    with an axis "input" or "output" get the code of that axis (the sum, if they have both), others
    zeros. A convolution as last layer gets the code of its outputs; the package gives it that of
    the inputs. What follows is equivariant under permutations of hidden neurons only.

    Raises:
        ValueError: If the space has neither inputs nor outputs to permute, as after `hidden_only`.
    """
    num_channels(space, features)
    _check_io(space)
    codes = {}
    for spec in space.tensors:
        code = _io_code(spec, num_bands, max_frequency, features[spec.path].dtype)
        batch = features[spec.path].shape[: -len(spec.permuted) - 1]
        codes[spec.path] = fold(spec, jnp.broadcast_to(code, (*batch, *code.shape)))
    return concatenate(space, [features, codes])


def _io_code(
    spec: TensorSpec, num_bands: int, max_frequency: float, dtype: jnp.dtype
) -> Float[Array, "*shape width"]:
    scales = jnp.linspace(1, max_frequency / 2, num_bands, dtype=dtype)
    code = jnp.zeros((*spec.shape, 2 * num_bands + 1), dtype)
    for axis, (size, group) in enumerate(zip(spec.shape, spec.groups, strict=True)):
        if group not in (INPUT, OUTPUT):
            continue
        x = jnp.linspace(-1, 1, size, dtype=dtype)[:, None]
        angle = jnp.pi * scales[None, :] * x
        waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle), x], axis=-1)
        code += jnp.expand_dims(waves, [a for a in range(len(spec.shape)) if a != axis])
    return code


def init_io_embedding(key: PRNGKeyArray, *, space: WeightSpace, c: int) -> Features:
    """Draws `io_embedding` ~ N(0, 1): one vector per input and output in every tensor with them.

    Raises:
        ValueError: If the space has neither inputs nor outputs to permute, as after `hidden_only`.
    """
    _check_io(space)
    embedded = [spec for spec in space.tensors if {INPUT, OUTPUT}.intersection(spec.groups)]
    return {
        spec.path: jax.random.normal(k, (*_io_axes(spec), spec.multiplicity * c))
        for k, spec in zip(jax.random.split(key, len(embedded)), embedded, strict=True)
    }


def _check_io(space: WeightSpace) -> None:
    if not {INPUT, OUTPUT}.intersection(space.groups):
        raise ValueError(
            f"no axis is labelled {INPUT!r} or {OUTPUT!r} in a space with groups {space.groups}; "
            "codes of inputs and outputs belong to the full space (NP), not to `hidden_only`"
        )


def _io_axes(spec: TensorSpec) -> list[int]:
    sizes = zip(spec.permuted_groups, spec.permuted_shape, strict=True)
    return [size if group in (INPUT, OUTPUT) else 1 for group, size in sizes]


def io_embedding(params: Features, features: Features) -> Features:
    """Adds the learned vectors of inputs and outputs; used before every layer NP.

    Source: Zhou et al. (2023a), package 0.1.2, `NPLinear(io_embed=True)`.
    """
    return {
        path: x + align_rank(params[path], x) if path in params else x
        for path, x in features.items()
    }


def init_learned_encoding(
    key: PRNGKeyArray, *, space: WeightSpace, c: int
) -> LearnedEncodingParams:
    """Draws `learned_encoding` ~ N(0, 1)."""
    sizes = {
        group: size
        for spec in space.tensors
        for group, size in zip(spec.groups, spec.shape, strict=True)
        if group in (INPUT, OUTPUT)
    }
    count = len(space.tensors)
    draw = jax.random.normal(key, (count + sum(sizes.values()), c))
    neurons, start = {}, count
    for group, size in sizes.items():
        neurons[group] = draw[start : start + size]
        start += size
    return LearnedEncodingParams({s.path: draw[i] for i, s in enumerate(space.tensors)}, neurons)


def learned_encoding(
    params: LearnedEncodingParams, features: Features, *, space: WeightSpace
) -> Features:
    """Adds to every weight the vector of its tensor, and those of its input and output.

    Source: Zhou et al. (2023b), Eq. 9, and `LearnedPosEmbedding` of the authors' package 0.1.2;
    filter positions share a vector. What follows is equivariant under permutations of hidden
    neurons only.
    """
    num_channels(space, features)
    outputs = {}
    for spec in space.tensors:
        code, last = params.tensors[spec.path], len(spec.shape)
        code = jnp.expand_dims(code, range(last))
        for axis, group in enumerate(spec.groups):
            if group in params.neurons:
                others = [a for a in range(last) if a != axis]
                code = code + jnp.expand_dims(params.neurons[group], others)
        sizes = [n if axis in spec.fixed else code.shape[axis] for axis, n in enumerate(spec.shape)]
        code = fold(spec, jnp.broadcast_to(code, (*sizes, code.shape[-1])))
        x = features[spec.path]
        outputs[spec.path] = x + align_rank(code, x)
    return outputs


def normalization_statistics(features: Features, *, space: WeightSpace) -> NormalizationStatistics:
    """Returns mean and std over the batch and the permuted axes, for every folded channel.

    Source: Zhou et al. (2023a), released code, `compute_mean_std`; there entry by entry, which is
    not invariant.

    Statistics per weight, as in the authors' package, would break the invariance of the whole
    model; these are the same for every permuted copy of a network. A std below 1e-5 becomes 1.
    """
    num_channels(space, features)
    mean, std = {}, {}
    for path, x in features.items():
        rows = x.reshape(-1, x.shape[-1])
        mean[path] = jnp.mean(rows, axis=0)
        spread = jnp.std(rows, axis=0)
        std[path] = jnp.where(spread < 1e-5, 1, spread)
    return NormalizationStatistics(mean, std)


def no_normalization(statistics: NormalizationStatistics) -> NormalizationStatistics:
    """Returns means 0 and deviations 1, in the shape of `statistics`."""
    return NormalizationStatistics(
        jax.tree.map(jnp.zeros_like, statistics.mean), jax.tree.map(jnp.ones_like, statistics.std)
    )


def normalize(statistics: NormalizationStatistics, features: Features) -> Features:
    """Returns (x - mean) / std."""
    return {
        path: (x - align_rank(statistics.mean[path], x)) / align_rank(statistics.std[path], x)
        for path, x in features.items()
    }
