"""Permutation equivariant layers on weight-space features, for any `WeightSpace`.

With the full space `equivariant_linear` is the layer NP, with `hidden_only(space)` the layer HNP of
Zhou et al. (2023a), "Permutation Equivariant Neural Functionals". Features: `nfn.features`.
A pointwise nonlinearity is `jax.tree.map(jax.nn.relu, features)`.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dropout import dropout
from nfn.couplings import Blocks, View, couplings, partitions
from nfn.features import Features, align_rank, num_channels
from nfn.weights import TensorSpec, WeightSpace

Scheme = Literal["uniform", "kaiming_normal"]
AllMeans = dict[tuple[str, Blocks], dict[tuple[int, ...], Array]]  # by tensor, blocks, axes kept


class LinearParams(NamedTuple):
    """Matrices by `Coupling.name` (or by tensor, for `pointwise`), biases by `View.name`.

    The name of a view is the path of its tensor, except on the diagonals of tensors that carry a
    group twice.
    """

    matrices: dict[str, Float[Array, "_ _"]]
    biases: dict[str, Float[Array, " _"]]


class LayerNormParams(NamedTuple):
    """Scale and shift of `layer_norm`, one pair of vectors per tensor."""

    gamma: dict[str, Float[Array, " _"]]
    beta: dict[str, Float[Array, " _"]]


def init_equivariant_linear(
    key: PRNGKeyArray, *, space: WeightSpace, c_in: int, c_out: int, scheme: Scheme = "uniform"
) -> LinearParams:
    """Draws `equivariant_linear` so that all maps into one tensor share their fan-in F.

    Source: Zhou et al. (2023a), package 0.1.2, `set_init_`: weights and biases ~ U(-F^-1/2,
    F^-1/2), or, with "kaiming_normal", weights ~ N(0, 2 / F) and biases 0.
    """
    sets = couplings(space)
    fan_in = {
        spec.path: c_in * sum(s.num_reads for s in sets for w in s.writes if w.spec == spec)
        for spec in space.tensors
    }
    num_rows = {s.name: c_in * s.num_reads for s in sets}
    members = {s.name: [(w.name, w.spec) for w in s.writes] for s in sets}
    return _init(key, members, num_rows, fan_in, c_out=c_out, scheme=scheme)


def init_pointwise(
    key: PRNGKeyArray, *, space: WeightSpace, c_in: int, c_out: int, scheme: Scheme = "uniform"
) -> LinearParams:
    """Draws `pointwise`; the schemes are those of `init_equivariant_linear`."""
    members = {spec.path: [(spec.path, spec)] for spec in space.tensors}
    fan_in = {spec.path: c_in * spec.multiplicity for spec in space.tensors}
    return _init(key, members, fan_in, fan_in, c_out=c_out, scheme=scheme)


def _init(
    key: PRNGKeyArray,
    members: Mapping[str, Sequence[tuple[str, TensorSpec]]],
    num_rows: dict[str, int],
    fan_in: dict[str, int],
    *,
    c_out: int,
    scheme: Scheme,
) -> LinearParams:
    """Draws one matrix per entry of `members`, its columns feeding those tensors in order."""
    if scheme not in ("uniform", "kaiming_normal"):
        raise ValueError(f"unknown scheme {scheme!r}; expected 'uniform' or 'kaiming_normal'")
    bounds = {write: fan_in[s.path] ** -0.5 for m in members.values() for write, s in m}
    bias_shapes = {write: (c_out * s.multiplicity,) for m in members.values() for write, s in m}
    columns = {
        name: jnp.concatenate([jnp.full(bias_shapes[write], bounds[write]) for write, _ in writes])
        for name, writes in members.items()
    }
    shapes = {name: (num_rows[name], column.size) for name, column in columns.items()}
    key_matrices, key_biases = jax.random.split(key)
    matrices = _draw(key_matrices, shapes, scheme)
    for name, column in columns.items():
        matrices[name] *= column[None, :]
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
    """Applies a linear map commuting with all permutations of `space`, plus such a bias.

        y_A = Σ_π D_π ( b_π + Σ_w E_w M_w [r(x) for every read r over the groups of w] )

    π are the partitions of the axes of A (D_π puts on their diagonals), w the ways to write with π
    (E_w is constant along the axes that w has no group for). A read r takes diagonals and means of
    some tensor; reads and writes over the same groups share a matrix, of which M_w is a part.

    Source: Zhou et al. (2023a), Eq. 2-3 (NP) and Tables 8-11 (HNP), filters folded into channels
    as in App. B; for a group on several axes of a tensor (recurrent and residual networks) the
    partitions of Maron et al. (2019), "Invariant and Equivariant Graph Networks", Theorem 1.
    Every such map is reached, by exactly one choice of parameters if no group is very small, see
    `num_linear_parameters`. (The authors' HNP layer lacks the map from the last hidden bias to
    the last kernel and stores redundant parameters.)

    Raises:
        ValueError: If `features` do not belong to `space`.
    """
    num_channels(space, features)
    means = _all_means(features, space)
    sums: dict[tuple[str, Blocks], Array] = {}
    for coupling in couplings(space):  # fewer groups first: sums stay small until the full axes
        read = jnp.concatenate([_read(means, view) for view in coupling.reads], axis=-1)
        mapped = _map_channels(read, params.matrices[coupling.name])
        ends = np.cumsum([params.biases[view.name].size for view in coupling.writes])
        parts = jnp.split(mapped, ends[:-1], axis=-1)
        for view, part in zip(coupling.writes, parts, strict=True):
            place = (view.spec.path, view.blocks)
            sums[place] = _write(view, part, params.biases[view.name], sums.get(place))
    outputs: Features = {}
    for (path, blocks), x in sums.items():
        full = _put_on_diagonals(x, blocks)
        outputs[path] = outputs[path] + full if path in outputs else full
    return outputs


def _all_means(features: Features, space: WeightSpace) -> AllMeans:
    """Returns the means of every tensor, of all its diagonals, over every subset of axes."""
    return {
        (spec.path, blocks): _means(_take_diagonals(features[spec.path], blocks), len(blocks))
        for spec in space.tensors
        for blocks in partitions(spec.permuted_groups)
    }


def _read(means: AllMeans, view: View) -> Float[Array, "*batch c"]:
    """Returns a tensor as an array over the groups of a view, one axis for each."""
    return _reorder(means[view.spec.path, view.blocks][view.kept], view.kept, view.tied)


def _write(
    view: View,
    part: Float[Array, "*batch c"],
    bias: Float[Array, " c"],
    before: Float[Array, "..."] | None,
) -> Float[Array, "..."]:
    """Returns an array over the groups of a view, laid along its axes, plus what was there before.

    The first to be written is added to the bias.
    """
    num_blocks = len(view.blocks)
    constant = [i - num_blocks - 1 for i in range(num_blocks) if i not in view.tied]
    part = jnp.expand_dims(_reorder(part, view.tied, view.kept), constant)
    before = align_rank(bias, part) if before is None else _cut_gradient(before)
    return before + part if constant else _add_to_rows(before, part)


def _map_channels(
    x: Float[Array, "*batch c_in"], matrix: Float[Array, "c_in c_out"]
) -> Float[Array, "*batch c_out"]:
    # One plain matmul: XLA:CPU takes 3 times as long for the gradient of a contraction with
    # several row axes.
    return (_rows(x) @ matrix).reshape(*x.shape[:-1], matrix.shape[-1])


def _rows(x: Float[Array, "*batch c"]) -> Float[Array, "rows c"]:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _add_to_rows(
    small: Float[Array, "*small c"], x: Float[Array, "*batch c"]
) -> Float[Array, "*batch c"]:
    """Returns small + x, the size of x, as rows: its gradient has the shape the matmul reads."""
    total = _rows(jnp.broadcast_to(small, x.shape)) + _rows(x)
    return _cut_gradient(total).reshape(x.shape)


@jax.custom_jvp
def _cut_gradient(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x; whatever is computed from its gradient starts from one array in memory.

    Without it XLA:CPU computes the gradient of an output anew for each of its readers, and sums
    of its sums over the full axes again.
    """
    return x


@_cut_gradient.defjvp
def _(
    primals: tuple[Float[Array, "..."]], tangents: tuple[Float[Array, "..."]]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    return primals[0], jax.lax.optimization_barrier(tangents[0])


def _reorder(
    x: Float[Array, "..."], order: tuple[int, ...], wanted: tuple[int, ...]
) -> Float[Array, "..."]:
    """Transposes the axes before the last from one order of their numbers to another."""
    if order == wanted:
        return x
    first = x.ndim - 1 - len(order)
    return jnp.transpose(x, (*range(first), *(first + order.index(i) for i in wanted), x.ndim - 1))


def _means(x: Float[Array, "..."], num_axes: int) -> dict[tuple[int, ...], Array]:
    """Returns the means over every subset of the axes before the last, by the axes kept."""
    means = {tuple(range(num_axes)): x}
    for size in range(num_axes - 1, -1, -1):
        for kept in itertools.combinations(range(num_axes), size):
            dropped = next(axis for axis in range(num_axes) if axis not in kept)
            parent = tuple(sorted((*kept, dropped)))
            means[kept] = jnp.mean(means[parent], axis=parent.index(dropped) - len(parent) - 1)
    return means


def _take_diagonals(x: Float[Array, "..."], blocks: Blocks) -> Float[Array, "..."]:
    """Returns one axis per block: [*batch, *axes, c] becomes [*batch, *blocks, c]."""
    num_axes = sum(len(block) for block in blocks)
    if len(blocks) == num_axes:
        return x
    numbers = {axis: number for number, block in enumerate(blocks) for axis in block}
    axes = [numbers[axis] for axis in range(num_axes)]
    channels = len(blocks)
    return jnp.einsum(x, [..., *axes, channels], [..., *range(len(blocks)), channels])


def _put_on_diagonals(x: Float[Array, "..."], blocks: Blocks) -> Float[Array, "..."]:
    """Returns [*batch, *axes, c] of [*batch, *blocks, c], zero where axes of a block differ."""
    num_axes = sum(len(block) for block in blocks)
    first = {block[0] for block in blocks}
    x = jnp.expand_dims(x, [axis - num_axes - 1 for axis in range(num_axes) if axis not in first])
    for block in blocks:
        for axis in block[1:]:
            size = x.shape[block[0] - num_axes - 1]
            shape = [size if i in (block[0], axis) else 1 for i in range(num_axes)]
            is_equal = jnp.eye(size, dtype=bool).reshape(*[1] * (x.ndim - 1 - num_axes), *shape, 1)
            x = jnp.where(is_equal, x, 0)
    return x


def pointwise(params: LinearParams, features: Features, *, space: WeightSpace) -> Features:
    """Maps the channels of every weight by a matrix and bias of its tensor; weights do not mix.

    Source: Zhou et al. (2023a), ablation PT of Tables 5 and 6. Equivariant under more than the
    coupled neuron permutations: every axis of every tensor may be permuted on its own.
    """
    num_channels(space, features)
    return {
        spec.path: _add_to_rows(
            params.biases[spec.path], _map_channels(features[spec.path], params.matrices[spec.path])
        )
        for spec in space.tensors
    }


def invariant_pool(features: Features, *, space: WeightSpace) -> Float[Array, "*batch pooled"]:
    """Returns the means over all permuted axes, tensor by tensor.

    Source: Zhou et al. (2023a), Eq. 17 without its redundant entries, as in the authors' package:
    pool P on the full space, pool P~ on `hidden_only(space)`, with `num_constants(space, c)`
    entries. A tensor that carries a group twice is followed by the mean over its diagonal.
    """
    num_channels(space, features)
    means = _all_means(features, space).values()
    return jnp.concatenate([of_axes[()] for of_axes in means], axis=-1)


def channel_dropout(
    key: PRNGKeyArray, features: Features, *, space: WeightSpace, rate: float
) -> Features:
    """Zeroes whole channels of kernels and single entries of biases, scaling up the rest.

    Source: Zhou et al. (2023a), package 0.1.2, `ChannelDropout`. The mask of a kernel is constant
    along its permuted axes, one value per network and folded channel; rate is in [0, 1).
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
        outputs[spec.path] = dropout(k, x, rate=rate, shape=shape)
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

    Source: Zhou et al. (2023a), package 0.1.2, `SimpleLayerNorm` (unbiased std).
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
