"""Permutation equivariant layers on weight-space features, for any `WeightSpace`.

With the full space `equivariant_linear` is the layer NP, with `hidden_only(space)` the layer HNP of
Zhou et al. (2023), "Permutation Equivariant Neural Functionals". Features: see `nfn.features`.
A pointwise nonlinearity is `jax.tree.map(jax.nn.relu, features)`.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nfn.features import Features, align_rank, num_channels
from nfn.weights import TensorSpec, WeightSpace

Scheme = Literal["uniform", "kaiming_normal"]


class LinearParams(NamedTuple):
    """Matrices by set of groups (or by tensor, for `pointwise`), one bias per tensor."""

    matrices: dict[str, Float[Array, "_ _"]]
    biases: dict[str, Float[Array, " _"]]


class LayerNormParams(NamedTuple):
    """Scale and shift of `layer_norm`, one pair of vectors per tensor."""

    gamma: dict[str, Float[Array, " _"]]
    beta: dict[str, Float[Array, " _"]]


class Coupling(NamedTuple):
    """A set of groups and all tensors carrying every one of them.

    A linear equivariant map has one independent matrix per pair of these tensors: it reads the
    mean of the one over its other axes and is added to the other, constant along its other axes.
    """

    groups: tuple[str, ...]
    tensors: tuple[TensorSpec, ...]

    @property
    def name(self) -> str:
        """Key of the matrix in `LinearParams`."""
        return ",".join(self.groups) or "global"

    @property
    def multiplicity(self) -> int:
        """Channels of all tensors together, per channel of a weight."""
        return sum(spec.multiplicity for spec in self.tensors)


def couplings(space: WeightSpace) -> tuple[Coupling, ...]:
    """Returns every set of groups that some tensor carries, smaller sets first.

    Raises:
        ValueError: If a tensor carries a group on two axes.
    """
    order = {group: place for place, group in enumerate(space.group_sizes)}
    carried = [frozenset(spec.permuted_groups) for spec in space.tensors]
    subsets = set()
    for spec, groups in zip(space.tensors, carried, strict=True):
        if len(groups) < len(spec.permuted):
            raise ValueError(
                f"{spec.path}: a group acts on two of the axes {spec.groups}; the equivariant "
                "layers need a different group on every permuted axis"
            )
        for size in range(len(groups) + 1):
            subsets.update(itertools.combinations(sorted(groups, key=order.__getitem__), size))
    return tuple(
        Coupling(
            subset,
            tuple(
                spec
                for spec, groups in zip(space.tensors, carried, strict=True)
                if groups.issuperset(subset)
            ),
        )
        for subset in sorted(subsets, key=lambda s: (len(s), [order[group] for group in s]))
    )


def init_equivariant_linear(
    key: PRNGKeyArray, *, space: WeightSpace, c_in: int, c_out: int, scheme: Scheme = "uniform"
) -> LinearParams:
    """Draws `equivariant_linear` so that all maps into one tensor share their fan-in F.

    Source: the authors' package 0.1.2, `set_init_`: weights and biases ~ U(-F^-1/2, F^-1/2), or,
    with "kaiming_normal", weights ~ N(0, 2 / F) and biases 0.
    """
    sets = couplings(space)
    fan_in = {
        spec.path: c_in * sum(s.multiplicity for s in sets if spec in s.tensors)
        for spec in space.tensors
    }
    num_rows = {s.name: c_in * s.multiplicity for s in sets}
    members = {s.name: s.tensors for s in sets}
    return _init(key, members, num_rows, fan_in, c_out=c_out, scheme=scheme)


def init_pointwise(
    key: PRNGKeyArray, *, space: WeightSpace, c_in: int, c_out: int, scheme: Scheme = "uniform"
) -> LinearParams:
    """Draws `pointwise`; the schemes are those of `init_equivariant_linear`."""
    members = {spec.path: (spec,) for spec in space.tensors}
    fan_in = {spec.path: c_in * spec.multiplicity for spec in space.tensors}
    return _init(key, members, fan_in, fan_in, c_out=c_out, scheme=scheme)


def _init(
    key: PRNGKeyArray,
    members: Mapping[str, tuple[TensorSpec, ...]],
    num_rows: dict[str, int],
    fan_in: dict[str, int],
    *,
    c_out: int,
    scheme: Scheme,
) -> LinearParams:
    """Draws one matrix per entry of `members`, its columns feeding those tensors in order."""
    if scheme not in ("uniform", "kaiming_normal"):
        raise ValueError(f"unknown scheme {scheme!r}; expected 'uniform' or 'kaiming_normal'")
    bounds = {path: rows**-0.5 for path, rows in fan_in.items()}
    columns = {
        name: {spec.path: c_out * spec.multiplicity for spec in tensors}
        for name, tensors in members.items()
    }
    shapes = {name: (num_rows[name], sum(sizes.values())) for name, sizes in columns.items()}
    bias_shapes = {path: (size,) for sizes in columns.values() for path, size in sizes.items()}
    key_matrices, key_biases = jax.random.split(key)
    matrices = _draw(key_matrices, shapes, scheme)
    for name, sizes in columns.items():
        scales = [jnp.full(size, bounds[path]) for path, size in sizes.items()]
        matrices[name] *= jnp.concatenate(scales)[None, :]
    if scheme == "kaiming_normal":
        return LinearParams(matrices, {path: jnp.zeros(n) for path, n in bias_shapes.items()})
    biases = _draw(key_biases, bias_shapes, scheme)
    return LinearParams(matrices, {path: bounds[path] * bias for path, bias in biases.items()})


def _draw(
    key: PRNGKeyArray, shapes: Mapping[str, tuple[int, ...]], scheme: Scheme
) -> dict[str, Array]:
    """Draws U(-1, 1), or N(0, 2), as one vector cut in pieces: XLA compiles every draw slowly."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    if scheme == "uniform":
        draw = jax.random.uniform(key, (sum(sizes),), minval=-1, maxval=1)
    else:
        draw = math.sqrt(2) * jax.random.normal(key, (sum(sizes),))
    parts = jnp.split(draw, np.cumsum(sizes)[:-1])
    return {
        name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def equivariant_linear(params: LinearParams, features: Features, *, space: WeightSpace) -> Features:
    """Applies a linear map commuting with all permutations of `space`, plus a bias.

    Source: Zhou et al. (2023), Eq. 2-3 (NP) and Tables 8-11 (HNP), filters folded into channels
    as in App. B. Every such map is reached, by exactly one choice of parameters: with m_A the
    multiplicity and S_A the permuted groups of tensor A there are
    sum_{A,B} m_A m_B 2^|S_A & S_B| matrices entries per pair of channels, the number of orbits of
    the group on pairs of weights. (The authors' HNP layer lacks the map from the last hidden bias
    to the last kernel and stores redundant parameters.)

    Raises:
        ValueError: If `features` do not belong to `space`.
    """
    num_channels(space, features)
    means = {spec.path: _means(spec, features[spec.path]) for spec in space.tensors}
    outputs = {path: align_rank(bias, features[path]) for path, bias in params.biases.items()}
    # Smaller sets first: sums stay small until the last term brings the full axes.
    for coupling in couplings(space):
        groups, tensors = coupling.groups, coupling.tensors
        bundle = [
            _reorder(means[spec.path][frozenset(groups)], _kept(spec, groups), groups)
            for spec in tensors
        ]
        mapped = _map_channels(jnp.concatenate(bundle, axis=-1), params.matrices[coupling.name])
        ends = np.cumsum([params.biases[spec.path].size for spec in tensors])
        for spec, part in zip(tensors, jnp.split(mapped, ends[:-1], axis=-1), strict=True):
            part = _reorder(part, groups, _kept(spec, groups))
            others = [i for i, group in enumerate(spec.permuted_groups) if group not in groups]
            outputs[spec.path] += jnp.expand_dims(
                part, [i - len(spec.permuted) - 1 for i in others]
            )
    return outputs


def _map_channels(
    x: Float[Array, "*batch c_in"], matrix: Float[Array, "c_in c_out"]
) -> Float[Array, "*batch c_out"]:
    # One plain matmul: XLA:CPU takes 3 times as long for the gradient of a contraction with
    # several row axes.
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return (rows @ matrix).reshape(*x.shape[:-1], matrix.shape[-1])


def _kept(spec: TensorSpec, groups: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(group for group in spec.permuted_groups if group in groups)


def _reorder(
    x: Float[Array, "..."], groups: tuple[str, ...], wanted: tuple[str, ...]
) -> Float[Array, "..."]:
    """Transposes the axes before the last from the order `groups` to the order `wanted`."""
    if groups == wanted:
        return x
    first = x.ndim - 1 - len(groups)
    order = [first + groups.index(group) for group in wanted]
    return jnp.transpose(x, (*range(first), *order, x.ndim - 1))


def _means(spec: TensorSpec, x: Float[Array, "..."]) -> dict[frozenset[str], Array]:
    """Returns the means over every subset of the permuted axes, by the groups that are kept."""
    means = {frozenset(spec.permuted_groups): x}
    for size in range(len(spec.permuted) - 1, -1, -1):
        for kept in itertools.combinations(spec.permuted_groups, size):
            dropped = next(group for group in spec.permuted_groups if group not in kept)
            parent = tuple(g for g in spec.permuted_groups if g in kept or g == dropped)
            axis = parent.index(dropped) - len(parent) - 1
            means[frozenset(kept)] = jnp.mean(means[frozenset(parent)], axis=axis)
    return means


def pointwise(params: LinearParams, features: Features, *, space: WeightSpace) -> Features:
    """Maps the channels of every weight by a matrix and bias of its tensor; weights do not mix.

    Source: Zhou et al. (2023), ablation PT of Tables 5 and 6. Equivariant under more than the
    coupled neuron permutations: every axis of every tensor may be permuted on its own.
    """
    num_channels(space, features)
    return {
        spec.path: _map_channels(features[spec.path], params.matrices[spec.path])
        + align_rank(params.biases[spec.path], features[spec.path])
        for spec in space.tensors
    }


def invariant_pool(features: Features, *, space: WeightSpace) -> Float[Array, "*batch pooled"]:
    """Returns the means over all permuted axes, tensor by tensor.

    Source: Zhou et al. (2023), Eq. 17 without its redundant entries, as in the authors' package:
    pool P on the full space, pool P~ on `hidden_only(space)`, which has sum_A m_A c entries.
    """
    num_channels(space, features)
    return jnp.concatenate(
        [_means(spec, features[spec.path])[frozenset()] for spec in space.tensors], axis=-1
    )


def channel_dropout(
    key: PRNGKeyArray, features: Features, *, space: WeightSpace, rate: float
) -> Features:
    """Zeroes whole channels of kernels and single entries of biases, scaling up the rest.

    Source: the authors' package 0.1.2, `ChannelDropout`. The mask of a kernel is constant along
    its permuted axes, one value per network and folded channel; rate is in [0, 1).
    """
    num_channels(space, features)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate {rate}, expected 0 <= rate < 1")
    outputs = {}
    for k, spec in zip(jax.random.split(key, len(space.tensors)), space.tensors, strict=True):
        x = features[spec.path]
        shape = list(x.shape)
        if len(spec.shape) > 1:
            for axis in range(len(spec.permuted)):
                shape[-2 - axis] = 1
        mask = jax.random.bernoulli(k, 1 - rate, shape)
        outputs[spec.path] = jnp.where(mask, x / (1 - rate), 0)
    return outputs


def init_layer_norm(*, space: WeightSpace, c: int) -> LayerNormParams:
    """Returns scale 1 and shift 0.

    Raises:
        ValueError: If some tensor has a single channel, which has no spread to normalize by.
    """
    sizes = {spec.path: c * spec.multiplicity for spec in space.tensors}
    for path, size in sizes.items():
        if size < 2:
            raise ValueError(f"{path}: layer_norm needs 2 or more channels, got {size}")
    return LayerNormParams(
        {path: jnp.ones(size) for path, size in sizes.items()},
        {path: jnp.zeros(size) for path, size in sizes.items()},
    )


def layer_norm(params: LayerNormParams, features: Features) -> Features:
    """Normalizes the folded channels at every position, (x - mean) / (std + 1e-5), then scales.

    Source: the authors' package 0.1.2, `SimpleLayerNorm` (unbiased std).
    """

    def normalize(
        gamma: Float[Array, " c"], beta: Float[Array, " c"], x: Float[Array, "*batch c"]
    ) -> Float[Array, "*batch c"]:
        centered = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.sum(centered**2, axis=-1, keepdims=True) / (x.shape[-1] - 1)
        # Positions where a ReLU left nothing: the root of 0 has no finite derivative.
        is_flat = variance == 0
        std = jnp.where(is_flat, 0, jnp.sqrt(jnp.where(is_flat, 1, variance)))
        return align_rank(gamma, x) * centered / (std + 1e-5) + align_rank(beta, x)

    return {
        path: normalize(params.gamma[path], params.beta[path], x) for path, x in features.items()
    }
