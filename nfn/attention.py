"""Self-attention between the weights of a network, for any `WeightSpace`.

Queries, keys and values are c-vectors at every weight. A neuron layer (a group of the space) sees
one token per vector of weights that runs over its neurons: rows, columns and biases of every
tensor with that group. Permuting the layer permutes entries inside tokens, which leaves dot
products alone, and permuting another layer permutes the tokens. So the maps commute with the
permutations of all neurons, but not with those of one tensor only, as attention among weights
would. Features: see `nfn.features`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from nfn.dot_attention import dot_attention
from nfn.features import Features, align_rank, num_channels
from nfn.layers import LinearParams
from nfn.weights import TensorSpec, WeightSpace

PyTree = Any

SHARED = "shared"
ROWS = "data"  # the axis of a mesh that batches are split over (`common.sharding`)


class AttentionParams(NamedTuple):
    """Linear maps of `attention` and `paper_attention`.

    Attributes:
        qkv: From the channels of a weight to, head by head, its query, key and value. One map
            called "shared", or one per tensor.
        output: Back to the folded channels, for tensors with more than one axis or with fixed
            axes; empty if `qkv` is shared.
    """

    qkv: LinearParams
    output: LinearParams


class Member(NamedTuple):
    """A tensor and the place, among its labelled axes, of a neuron layer."""

    spec: TensorSpec
    place: int


def init_attention(
    key: PRNGKeyArray, *, space: WeightSpace, c: int, shared: bool = True
) -> AttentionParams:
    """Draws the projections, and the maps back if they are not shared.

    Args:
        key: Random key.
        space: The weight space.
        c: Channels per weight.
        shared: One projection for all tensors, which then must not have fixed axes (such as those
            of filters, or all inputs and outputs of `hidden_only`).

    Raises:
        ValueError: If `shared` is impossible; the message names the tensor.
    """
    key_qkv, key_output = jax.random.split(key)
    if shared:
        _check_shared(space)
        return AttentionParams(draw_linear(key_qkv, {SHARED: (c, 3 * c)}), LinearParams({}, {}))
    folded = {spec.path: c * spec.multiplicity for spec in space.tensors}
    qkv = draw_linear(key_qkv, {path: (size, 3 * c) for path, size in folded.items()})
    output = {spec.path: (c, folded[spec.path]) for spec in space.tensors if has_output_map(spec)}
    return AttentionParams(qkv, draw_linear(key_output, output))


def draw_linear(key: PRNGKeyArray, shapes: Mapping[str, tuple[int, int]]) -> LinearParams:
    """Draws maps of these shapes (in, out) ~ U(-in^-1/2, in^-1/2), as PyTorch does."""
    matrices, biases = {}, {}
    keys = jax.random.split(key, max(len(shapes), 1))
    for k, (name, (c_in, c_out)) in zip(keys, shapes.items(), strict=False):
        bound = c_in**-0.5
        both = jax.random.uniform(k, (c_in + 1, c_out), minval=-bound, maxval=bound)
        matrices[name], biases[name] = both[:-1], both[-1]
    return LinearParams(matrices, biases)


def has_output_map(spec: TensorSpec) -> bool:
    """Tells if maps that are not shared lead back to this tensor, as in the authors' package."""
    return len(spec.shape) > 1 or spec.multiplicity > 1


def token_sets(space: WeightSpace) -> dict[str, tuple[Member, ...]]:
    """Returns where the tokens of every neuron layer come from, also of layers of one neuron.

    A tensor that carries a group twice gives two sets of tokens.
    """
    return {
        group: tuple(
            Member(spec, place)
            for spec in space.tensors
            for place, label in enumerate(_labels(spec))
            if label == group
        )
        for group in space.groups
    }


def attention(
    params: AttentionParams,
    x: Features,
    *,
    space: WeightSpace,
    num_heads: int,
    use_neurons: bool = True,
    use_tensors: bool = True,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    query_chunk: int = 0,
) -> Features:
    """Returns attention inside every neuron layer plus attention among the means of all tensors.

    Source: Zhou et al. (2023b), Eq. 4-6, in the form of `NPAttention` of package 0.1.2: several
    heads, and the global head of `paper_attention` only among tensors. No output projection if the
    maps are shared. For large batches see `by_networks`.

    Args:
        params: Made by `init_attention`.
        x: Features of `space` with as many channels as the params were made for.
        space: The weight space.
        num_heads: Number of heads, a divisor of the channels.
        use_neurons: Ablation: without the attention inside neuron layers if False.
        use_tensors: Ablation: without the attention among tensors if False.
        dropout: Rate at which attention weights inside neuron layers are dropped.
        key: Turns dropout on.
        query_chunk: Hold the scores of so many queries at a time, recomputing them in the
            backward pass; 0: of all. Only memory changes, and which weights dropout hits.

    Raises:
        ValueError: If features, heads and params do not fit; the message names the tensor.
    """
    _check(params, x, space=space, num_heads=num_heads)
    outputs: dict[str, Array] = {}
    if use_tensors:
        outputs = _between_tensors(params, x, space=space, num_heads=num_heads)
    if use_neurons:
        weights = {spec.path: _with_labels(spec, x[spec.path]) for spec in space.tensors}
        qkv = _project(params, weights, num_heads)
        keys = _split(key if dropout > 0 else None, len(space.groups))
        for members, k in zip(token_sets(space).values(), keys, strict=True):
            found = _between_tokens(qkv, members, dropout=dropout, key=k, query_chunk=query_chunk)
            _accumulate(outputs, found)
    return _unproject(params, outputs, x, space=space)


def paper_attention(
    params: AttentionParams, x: Features, *, space: WeightSpace, query_chunk: int = 0
) -> Features:
    """Returns attention inside every neuron layer plus attention among all weights, one head.

    Source: Zhou et al. (2023b), Eq. 4-6; a bias is one more token of its layer. Costs dim(U)^2
    scores: see `query_chunk` of `attention`.
    """
    _check(params, x, space=space, num_heads=1)
    weights = {spec.path: _with_labels(spec, x[spec.path]) for spec in space.tensors}
    qkv = _project(params, weights, 1)
    outputs = _between_weights(qkv, query_chunk)
    for members in token_sets(space).values():
        _accumulate(outputs, _between_tokens(qkv, members, query_chunk=query_chunk))
    return _unproject(params, outputs, x, space=space)


def by_networks(
    layer: Callable[[PyTree, Features], Features],
    params: PyTree,
    x: Features,
    size: int,
) -> Features:
    """Returns layer(params, x), `size` networks at a time, recomputed in the backward pass.

    For CPUs: what is between the steps of attention among wide layers then stays in the cache, of
    1 or 2 networks of 32 neurons and 64 channels for each device. Over the devices of a mesh that
    is set (`jax.set_mesh`) each takes its own networks in turn, if their number divides `size` and
    the batch, and gradients of the parameters are summed over them once. Else networks at equal
    distances go together, so that a sharded batch stays where it is.

    Args:
        layer: Acts on the networks of one batch axis, on each alone.
        params: Its parameters, the same on all devices.
        x: Features with one batch axis.
        size: Networks at a time; 0: all at once.
    """
    count = len(next(iter(x.values())))
    if not 0 < size < count:
        return layer(params, x)
    mesh = jax.sharding.get_abstract_mesh()
    devices = mesh.shape[ROWS] if ROWS in mesh.auto_axes else 1
    if devices == 1 or size % devices or count % devices:
        return _in_turn(layer, params, x, size)
    split, whole = PartitionSpec(ROWS), PartitionSpec()
    over_devices = jax.shard_map(
        partial(_in_turn, layer, size=size // devices),
        in_specs=(whole, split),
        out_specs=split,
        axis_names={ROWS},
        check_vma=False,
    )
    return over_devices(params, x)


def _in_turn(
    layer: Callable[[PyTree, Features], Features], params: PyTree, x: Features, size: int
) -> Features:
    count = len(next(iter(x.values())))
    full = count // size * size

    def split(y: Float[Array, "batch ..."]) -> Float[Array, "steps size ..."]:
        return jnp.moveaxis(y[:full].reshape(size, -1, *y.shape[1:]), 1, 0)

    one = jax.checkpoint(partial(layer, params))
    ys = jax.lax.map(one, jax.tree.map(split, x))
    ys = jax.tree.map(lambda y: jnp.moveaxis(y, 1, 0).reshape(full, *y.shape[2:]), ys)
    if full < count:
        rest = layer(params, {path: y[full:] for path, y in x.items()})
        ys = {path: jnp.concatenate([y, rest[path]]) for path, y in ys.items()}
    return ys


QKV = tuple[dict[str, Array], dict[str, Array], dict[str, Array]]


def _project(params: AttentionParams, x: Mapping[str, Array], num_heads: int) -> QKV:
    """Returns queries, keys and values [batch, *neurons, heads, c_h] of every tensor.

    Keys have no bias if they share it: it would shift all scores of a query alike, which soft-max
    does not see.
    """
    maps, is_shared = {}, SHARED in params.qkv.matrices
    for name, matrix in params.qkv.matrices.items():
        c = matrix.shape[-1] // 3
        by_head = matrix.reshape(-1, num_heads, 3, c // num_heads)
        bias = params.qkv.biases[name].reshape(num_heads, 3, c // num_heads)
        maps[name] = [(by_head[:, :, i].reshape(-1, c), bias[:, i]) for i in range(3)]

    parts: QKV = ({}, {}, {})
    for path, y in x.items():
        rows = y.reshape(-1, y.shape[-1])
        for i, (matrix, bias) in enumerate(maps[SHARED if is_shared else path]):
            z = (rows @ matrix).reshape(*y.shape[:-1], *bias.shape)
            parts[i][path] = z if i == 1 and is_shared else z + align_rank(bias, z)
    return parts


def _between_tokens(
    qkv: QKV,
    members: tuple[Member, ...],
    *,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    query_chunk: int = 0,
) -> list[tuple[str, Array]]:
    """Returns what the tokens of one neuron layer get from each other, member by member."""
    shapes = [qkv[0][m.spec.path].shape for m in members]
    n, c_h = shapes[0][1 + members[0].place], shapes[0][-1]
    counts = [math.prod(shape[1:-2]) // n for shape in shapes]
    q, k, v = (
        jnp.concatenate([_tokens(part[m.spec.path], m.place) for m in members], axis=2)
        for part in qkv
    )
    y = dot_attention(q, k, v, dropout=dropout, key=key, query_chunk=query_chunk)
    y = y.reshape(*y.shape[:3], n, c_h)
    found = []
    for member, shape, z in zip(
        members, shapes, jnp.split(y, np.cumsum(counts)[:-1], axis=2), strict=True
    ):
        neurons, place = shape[1:-2], member.place
        z = jnp.moveaxis(z, 1, 3)  # [batch, tokens, neurons, heads, c_h]
        z = z.reshape(len(z), *neurons[:place], *neurons[place + 1 :], n, math.prod(shape[-2:]))
        found.append((member.spec.path, jnp.moveaxis(z, -2, 1 + place)))
    return found


def _tokens(y: Float[Array, "batch *neurons h c_h"], place: int) -> Float[Array, "batch h t d"]:
    """Returns one vector per head and token: along the neurons of one axis, and the channels."""
    y = jnp.moveaxis(y, 1 + place, -3)
    y = jnp.moveaxis(y.reshape(len(y), -1, *y.shape[-3:]), 3, 1)
    return y.reshape(*y.shape[:3], -1)


def _between_tensors(
    params: AttentionParams, x: Features, *, space: WeightSpace, num_heads: int
) -> dict[str, Array]:
    """Returns what the means of tensors get from each other, constant over every tensor."""
    means = {}
    for spec in space.tensors:  # of the features: means and linear maps commute
        y = _with_labels(spec, x[spec.path])
        means[spec.path] = jnp.mean(y, axis=tuple(range(1, y.ndim - 1)))
    parts = _project(params, means, num_heads)
    q, k, v = (jnp.stack([part[path] for path in means], axis=2) for part in parts)
    y = jnp.moveaxis(dot_attention(q, k, v), 1, 2)  # [batch, tensors, heads, c_h]
    y = y.reshape(*y.shape[:2], -1)
    return {
        spec.path: jnp.expand_dims(y[:, i], range(1, 1 + len(_labelled_shape(spec))))
        for i, spec in enumerate(space.tensors)
    }


def _between_weights(qkv: QKV, query_chunk: int) -> dict[str, Array]:
    """Returns what all weights get from each other."""
    q, k, v = (
        jnp.concatenate([y.reshape(len(y), -1, *y.shape[-2:]) for y in part.values()], axis=1)
        for part in qkv
    )
    q, k, v = (jnp.moveaxis(y, 2, 1) for y in (q, k, v))
    y = jnp.moveaxis(dot_attention(q, k, v, query_chunk=query_chunk), 1, 2)
    outputs, start = {}, 0
    for path, z in qkv[0].items():
        end = start + math.prod(z.shape[1:-2])
        outputs[path] = y[:, start:end].reshape(*z.shape[:-2], -1)
        start = end
    return outputs


def _accumulate(outputs: dict[str, Array], found: list[tuple[str, Array]]) -> None:
    for path, y in found:
        outputs[path] = outputs[path] + y if path in outputs else y


def _unproject(
    params: AttentionParams, outputs: Mapping[str, Array], x: Features, *, space: WeightSpace
) -> Features:
    c = num_channels(space, x)
    found = {}
    for spec in space.tensors:
        path = spec.path
        shape = (*x[path].shape[:-1], c)
        if path not in outputs:
            found[path] = jnp.zeros_like(x[path])
            continue
        y = outputs[path]
        y = jnp.broadcast_to(y, (len(y), *_labelled_shape(spec), c)).reshape(shape)
        if path in params.output.matrices:
            y = y.reshape(-1, c) @ params.output.matrices[path]
            bias = params.output.biases[path]
            y = (y + align_rank(bias, y)).reshape(*shape[:-1], -1)
        found[path] = y
    return found


def _check(params: AttentionParams, x: Features, *, space: WeightSpace, num_heads: int) -> None:
    c = num_channels(space, x)
    if SHARED in params.qkv.matrices:
        _check_shared(space)
    size = next(iter(params.qkv.biases.values())).size
    if size != 3 * c or c % num_heads:
        raise ValueError(
            f"features with {c} channels and {num_heads} heads, but projections to {size} "
            "channels; expected three times the channels, and heads that divide them"
        )


def _with_labels(spec: TensorSpec, x: Float[Array, "..."]) -> Float[Array, "batch *neurons _"]:
    """Returns features with one batch axis and all labelled axes, also those of size 1."""
    return x.reshape(-1, *_labelled_shape(spec), x.shape[-1])


def _labels(spec: TensorSpec) -> tuple[str, ...]:
    return tuple(group for group in spec.groups if group is not None)


def _labelled_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Returns the sizes of all axes with a group, also of those of size 1."""
    sizes = zip(spec.shape, spec.groups, strict=True)
    return tuple(size for size, group in sizes if group is not None)


def _check_shared(space: WeightSpace) -> None:
    for spec in space.tensors:
        if spec.multiplicity > 1:
            raise ValueError(
                f"{spec.path}: {spec.multiplicity} fixed entries (shape {spec.shape}, groups "
                f"{spec.groups}) are folded into its channels, so that it cannot share one "
                "projection with the other tensors; use shared=False"
            )


def _split(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    return [None] * count if key is None else list(jax.random.split(key, count))
