"""Self-attention between the weights of a network, for any `WeightSpace`.

Queries, keys and values are c-vectors at every weight. A neuron layer (a group of the space) sees
one token per vector of weights that runs over its neurons: rows, columns and biases of every
tensor with that group. Permuting the layer permutes entries inside tokens, which leaves dot
products alone, and permuting another layer permutes the tokens. So the maps commute with the
permutations of all neurons, but not with those of one tensor only, as attention among weights
would. Features: see `nfn.features`.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nfn.features import Features, align_rank, num_channels
from nfn.layers import LinearParams
from nfn.weights import TensorSpec, WeightSpace

SHARED = "shared"


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

    Source: Zhou et al. (2023), "Neural Functional Transformers", in the form of `NPAttention` of
    the authors' package 0.1.2: several heads, and the global head of `paper_attention` only among
    tensors. No output projection if the maps are shared.

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
    qkv = _project(params, x, space=space, num_heads=num_heads)
    outputs: dict[str, Array] = {}
    if use_tensors:
        outputs = _between_tensors(qkv, space)
    if use_neurons:
        keys = _split(key if dropout > 0 else None, len(space.groups))
        for (group, members), k in zip(token_sets(space).items(), keys, strict=True):
            del group
            _add_neuron_layer(
                outputs, qkv, members, dropout=dropout, key=k, query_chunk=query_chunk
            )
    return _unproject(params, outputs, x, space=space)


def paper_attention(
    params: AttentionParams, x: Features, *, space: WeightSpace, query_chunk: int = 0
) -> Features:
    """Returns attention inside every neuron layer plus attention among all weights, one head.

    Source: Zhou et al. (2023), "Neural Functional Transformers", Eq. 4-6; a bias is one more
    token of its layer. Costs dim(U)^2 scores: see `query_chunk` of `attention`.
    """
    qkv = _project(params, x, space=space, num_heads=1)
    flat = {path: y.reshape(y.shape[0], -1, *y.shape[-3:]) for path, y in qkv.items()}
    everything = jnp.concatenate(list(flat.values()), axis=1)  # [batch, weights, 1, 3, c]
    q, k, v = jnp.moveaxis(everything, (2, 3), (2, 0))
    y = _attend(q, k, v, query_chunk=query_chunk)[:, 0]
    parts = jnp.split(y, np.cumsum([y.shape[1] for y in flat.values()])[:-1], axis=1)
    outputs = {
        path: part.reshape(*qkv[path].shape[:-3], part.shape[-1])
        for path, part in zip(qkv, parts, strict=True)
    }
    for members in token_sets(space).values():
        _add_neuron_layer(outputs, qkv, members, query_chunk=query_chunk)
    return _unproject(params, outputs, x, space=space)


def _add_neuron_layer(
    outputs: dict[str, Array],
    qkv: Mapping[str, Array],
    members: tuple[Member, ...],
    *,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    query_chunk: int = 0,
) -> None:
    """Adds to `outputs` what the tokens of one neuron layer get from each other."""
    tokens = [_tokens(qkv[m.spec.path], m.place) for m in members]
    together = jnp.concatenate(tokens, axis=1)  # [batch, tokens, neurons, heads, 3, c_h]
    n, c_h = together.shape[2], together.shape[-1]
    q, k, v = jnp.moveaxis(together, (3, 4), (2, 0))
    q, k, v = (part.reshape(*part.shape[:3], n * c_h) for part in (q, k, v))
    y = _attend(q, k, v, dropout=dropout, key=key, query_chunk=query_chunk)
    y = jnp.moveaxis(y.reshape(*y.shape[:3], n, c_h), 1, 3)
    y = y.reshape(*y.shape[:3], -1)  # [batch, tokens, neurons, c]
    parts = jnp.split(y, np.cumsum([t.shape[1] for t in tokens])[:-1], axis=1)
    for member, part in zip(members, parts, strict=True):
        path, place = member.spec.path, member.place
        sizes = _labelled_shape(member.spec)
        others = sizes[:place] + sizes[place + 1 :]
        part = part.reshape(part.shape[0], *others, n, part.shape[-1])
        part = jnp.moveaxis(part, -2, 1 + place)
        outputs[path] = outputs[path] + part if path in outputs else part


def _tokens(y: Float[Array, "batch *neurons h 3 c_h"], place: int) -> Float[Array, "..."]:
    """Returns [batch, tokens, neurons, heads, 3, c_h]."""
    y = jnp.moveaxis(y, 1 + place, -4)
    return y.reshape(y.shape[0], -1, *y.shape[-4:])


def _between_tensors(qkv: Mapping[str, Array], space: WeightSpace) -> dict[str, Array]:
    """Returns what the means of tensors get from each other, constant over every tensor."""
    means = [jnp.mean(y, axis=tuple(range(1, y.ndim - 3))) for y in qkv.values()]
    q, k, v = jnp.moveaxis(jnp.stack(means, axis=1), (2, 3), (2, 0))
    y = jnp.moveaxis(_attend(q, k, v), 1, 2)  # [batch, tensors, heads, c_h]
    y = y.reshape(*y.shape[:2], -1)
    return {
        spec.path: jnp.expand_dims(y[:, i], range(1, 1 + len(_labels(spec))))
        for i, spec in enumerate(space.tensors)
    }


def _attend(
    q: Float[Array, "batch h t d"],
    k: Float[Array, "batch h s d"],
    v: Float[Array, "batch h s d"],
    *,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    query_chunk: int = 0,
) -> Float[Array, "batch h t d"]:
    def some(q: Float[Array, "..."], key: PRNGKeyArray | None) -> Float[Array, "..."]:
        wide = jnp.promote_types(q.dtype, jnp.float32)
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=wide)
        weights = jax.nn.softmax(scores / math.sqrt(q.shape[-1]), axis=-1)
        if key is not None:
            kept = jax.random.bernoulli(key, 1 - dropout, weights.shape)
            weights = jnp.where(kept, weights / (1 - dropout), 0)
        return jnp.einsum("bhts,bhsd->bhtd", weights.astype(v.dtype), v)

    num_queries = q.shape[2]
    if not 0 < query_chunk < num_queries:
        return some(q, key)
    num_chunks = -(-num_queries // query_chunk)
    padded = jnp.pad(q, ((0, 0), (0, 0), (0, num_chunks * query_chunk - num_queries), (0, 0)))
    chunks = jnp.moveaxis(padded.reshape(*q.shape[:2], num_chunks, query_chunk, -1), 2, 0)
    keys = None if key is None else jax.random.split(key, num_chunks)
    y = jax.lax.map(jax.checkpoint(lambda chunk: some(*chunk)), (chunks, keys))
    y = jnp.moveaxis(y, 0, 2)
    return y.reshape(*q.shape[:2], num_chunks * query_chunk, -1)[:, :, :num_queries]


def _project(
    params: AttentionParams, x: Features, *, space: WeightSpace, num_heads: int
) -> dict[str, Array]:
    """Returns [batch, *labelled_axes, heads, 3, c_h] of every tensor, one batch axis."""
    c = num_channels(space, x)
    is_shared = SHARED in params.qkv.matrices
    if is_shared:
        _check_shared(space)
    size = next(iter(params.qkv.biases.values())).size
    if size != 3 * c or c % num_heads:
        raise ValueError(
            f"features with {c} channels and {num_heads} heads, but projections to {size} "
            "channels; expected three times the channels, and heads that divide them"
        )
    qkv = {}
    for spec in space.tensors:
        name = SHARED if is_shared else spec.path
        y = _linear(params.qkv, name, x[spec.path])
        qkv[spec.path] = y.reshape(-1, *_labelled_shape(spec), num_heads, 3, c // num_heads)
    return qkv


def _unproject(
    params: AttentionParams, outputs: Mapping[str, Array], x: Features, *, space: WeightSpace
) -> Features:
    c = num_channels(space, x)
    found = {}
    for spec in space.tensors:
        shape = (*x[spec.path].shape[:-1], c)
        if spec.path not in outputs:
            found[spec.path] = jnp.zeros_like(x[spec.path])
            continue
        y = outputs[spec.path]
        full = (y.shape[0], *_labelled_shape(spec), c)
        y = jnp.broadcast_to(y, full).reshape(shape)
        if spec.path in params.output.matrices:
            y = _linear(params.output, spec.path, y)
        found[spec.path] = y
    return found


def _linear(params: LinearParams, name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    matrix, bias = params.matrices[name], params.biases[name]
    y = x.reshape(-1, x.shape[-1]) @ matrix + align_rank(bias, matrix)
    return y.reshape(*x.shape[:-1], matrix.shape[-1])


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
