"""A transformer on weights: Fourier features, learned encodings, blocks of attention."""

from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from common.nets.dropout import dropout
from nfn import attention, encodings, features, layers
from nfn.trunk import Trunk
from nfn.weights import WeightSpace

SHARED = attention.SHARED


class TransformerSpec(NamedTuple):
    """Sizes of a transformer.

    Attributes:
        channels: Channels per weight inside.
        num_blocks: Blocks of attention and feed-forward maps.
        num_heads: Heads of the attention, a divisor of the channels.
        ff_ratio: Hidden channels of the feed-forward maps, in units of `channels`.
        frequencies: Gaussian Fourier frequencies per input channel; 0: the inputs themselves.
        fourier_scale: Standard deviation of these frequencies.
        dropout: Rate for attention weights, and for the outputs of attention and feed-forward maps.
        share_projections: One projection to queries, keys and values for all tensors; impossible
            with convolutions.
        share_ff: Feed-forward maps shared by all tensors too (ours; the paper has them per tensor).
        use_neurons: Ablation: without attention inside neuron layers if False.
        use_tensors: Ablation: without attention among tensors if False.
        linear_output: Channels of a last pointwise linear layer; 0: none.
        query_chunk: Memory of the attention, see `nfn.attention.attention`.
        network_chunk: Networks of a batch in a block at a time, see `nfn.attention.by_networks`;
            wants one batch axis; with dropout, and if 0, all.
        dtype: Compute type of the blocks, "float32" or "bfloat16".
        remat: Recompute blocks in the backward pass instead of keeping what is inside them.
    """

    channels: int
    num_blocks: int
    num_heads: int
    ff_ratio: int = 4
    frequencies: int = 0
    fourier_scale: float = 3.0
    dropout: float = 0.0
    share_projections: bool = True
    share_ff: bool = False
    use_neurons: bool = True
    use_tensors: bool = True
    linear_output: int = 0
    query_chunk: int = 0
    network_chunk: int = 0
    dtype: str = "float32"
    remat: bool = False


class BlockParams(NamedTuple):
    """One block: norm, attention, norm, feed-forward maps up and down."""

    norm_attention: layers.LayerNormParams
    attention: attention.AttentionParams
    norm_ff: layers.LayerNormParams
    up: layers.LinearParams
    down: layers.LinearParams


class TransformerParams(NamedTuple):
    """Fixed Fourier frequencies (or None), input map (or None), codes, blocks, output (or None)."""

    fourier: encodings.FourierParams | None
    inputs: layers.LinearParams | None
    encoding: encodings.LearnedEncodingParams
    blocks: tuple[BlockParams, ...]
    output: layers.LinearParams | None


def init_transformer(
    key: PRNGKeyArray, *, space: WeightSpace, spec: TransformerSpec, c_in: int = 1, c_extra: int = 0
) -> TransformerParams:
    """Draws a transformer that reads `c_in` channels per weight, and `c_extra` without Fourier.

    A pointwise linear map leads to `channels`, unless there are as many already.

    Raises:
        ValueError: If projections cannot be shared, or the heads do not divide the channels.
    """
    if spec.channels % spec.num_heads:
        raise ValueError(f"{spec.num_heads} heads do not divide {spec.channels} channels")
    key_fourier, key_inputs, key_code, key_output, *keys = jax.random.split(
        key, 4 + spec.num_blocks
    )
    fourier = inputs = output = None
    if spec.frequencies:
        fourier = encodings.init_fourier_features(
            key_fourier, c_in=c_in, num_frequencies=spec.frequencies, scale=spec.fourier_scale
        )
    c = (2 * spec.frequencies if spec.frequencies else c_in) + c_extra
    if c != spec.channels:
        inputs = layers.init_pointwise(key_inputs, space=space, c_in=c, c_out=spec.channels)
    if spec.linear_output:
        output = layers.init_pointwise(
            key_output, space=space, c_in=spec.channels, c_out=spec.linear_output
        )
    code = encodings.init_learned_encoding(key_code, space=space, c=spec.channels)
    blocks = tuple(init_block(k, space=space, spec=spec) for k in keys)
    return TransformerParams(fourier, inputs, code, blocks, output)


def init_block(key: PRNGKeyArray, *, space: WeightSpace, spec: TransformerSpec) -> BlockParams:
    """Draws one block."""
    key_attention, key_up, key_down = jax.random.split(key, 3)
    c, wide = spec.channels, spec.ff_ratio * spec.channels
    norm = layers.init_layer_norm(space=space, c=c)
    projections = attention.init_attention(
        key_attention, space=space, c=c, shared=spec.share_projections
    )
    if spec.share_ff:
        up = attention.draw_linear(key_up, {SHARED: (c, wide)})
        down = attention.draw_linear(key_down, {SHARED: (wide, c)})
    else:
        up = layers.init_pointwise(key_up, space=space, c_in=c, c_out=wide)
        down = layers.init_pointwise(key_down, space=space, c_in=wide, c_out=c)
    return BlockParams(norm, projections, norm, up, down)


def transformer(
    params: TransformerParams,
    x: features.Features,
    *,
    space: WeightSpace,
    spec: TransformerSpec,
    extra: features.Features | None = None,
    key: PRNGKeyArray | None = None,
) -> features.Features:
    """Returns `linear_output` or `channels` channels per weight, in float32.

    Source: Zhou et al. (2023b), NFT: encodings, then blocks of attention. Commutes with
    permutations of hidden neurons.

    Args:
        params: Made by `init_transformer`.
        x: Features in the layout of `space`.
        space: The weight space; `hidden_only` wants `share_projections=False`.
        spec: Sizes.
        extra: Further channels, appended after the Fourier features; None if `c_extra` is 0.
        key: Turns dropout on.

    Raises:
        ValueError: If `x` does not belong to that space; the message names the tensor.
    """
    if params.fourier is not None:
        x = encodings.fourier_features(params.fourier, x, space=space)
    if extra is not None:
        x = features.concatenate(space, [x, extra])
    x = _cast(x, spec.dtype)
    if params.inputs is not None:
        x = layers.pointwise(_cast(params.inputs, spec.dtype), x, space=space)
    x = encodings.learned_encoding(_cast(params.encoding, spec.dtype), x, space=space)
    key = None if spec.dropout == 0 else key
    keys = [None] * spec.num_blocks if key is None else jax.random.split(key, spec.num_blocks)
    one_block = partial(_block, space=space, spec=spec)
    if spec.remat:
        one_block = jax.checkpoint(one_block)
    for block_params, block_key in zip(params.blocks, keys, strict=True):
        bound = partial(one_block, key=block_key)
        chunk = 0 if key is not None else spec.network_chunk
        x = attention.by_networks(bound, block_params, x, chunk)
    if params.output is not None:
        x = layers.pointwise(_cast(params.output, spec.dtype), x, space=space)
    return _cast(x, "float32")


def block(
    params: BlockParams,
    x: features.Features,
    key: PRNGKeyArray | None = None,
    *,
    space: WeightSpace,
    spec: TransformerSpec,
) -> features.Features:
    """Returns x + attention, then plus feed-forward maps with GELU, both after a layer norm.

    Source: Zhou et al. (2023b), released code, `Block`.
    """
    params = _cast(params, spec.dtype)
    keys = [None] * 3 if key is None else jax.random.split(key, 3)
    y = attention.attention(
        params.attention,
        layers.layer_norm(params.norm_attention, x),
        space=space,
        num_heads=spec.num_heads,
        use_neurons=spec.use_neurons,
        use_tensors=spec.use_tensors,
        dropout=spec.dropout,
        key=keys[0],
        query_chunk=spec.query_chunk,
    )
    x = _add(x, _dropout(keys[1], y, spec.dropout))
    y = _map(params.up, layers.layer_norm(params.norm_ff, x), space=space)
    y = jax.tree.map(partial(jax.nn.gelu, approximate=False), y)
    y = _map(params.down, y, space=space)
    return _add(x, _dropout(keys[2], y, spec.dropout))


# Blocks have the same shapes: traced and lowered once for all of them.
_block = jax.jit(block, static_argnames=("space", "spec"))


def attention_trunk(
    space: WeightSpace, spec: TransformerSpec, *, c_in: int = 1, c_extra: int = 0
) -> Trunk:
    """Returns a transformer as trunk; `extra` of its `apply` has `c_extra` channels."""

    def apply(
        params: TransformerParams,
        x: features.Features,
        extra: features.Features | None = None,
        key: PRNGKeyArray | None = None,
    ) -> features.Features:
        return transformer(params, x, space=space, spec=spec, extra=extra, key=key)

    init = partial(init_transformer, space=space, spec=spec, c_in=c_in, c_extra=c_extra)
    return Trunk(space, spec.linear_output or spec.channels, init, apply)


def _map(
    params: layers.LinearParams, x: features.Features, *, space: WeightSpace
) -> features.Features:
    """Maps the channels of every weight, by one matrix for all or by that of its tensor."""
    if SHARED not in params.matrices:
        return layers.pointwise(params, x, space=space)
    matrix, bias = params.matrices[SHARED], params.biases[SHARED]
    outputs = {}
    for spec in space.tensors:
        rows = x[spec.path].reshape(-1, matrix.shape[0])  # the fixed axes are rows too
        y = rows @ matrix + bias[None, :]
        outputs[spec.path] = y.reshape(*x[spec.path].shape[:-1], -1)
    return outputs


def _dropout(key: PRNGKeyArray | None, x: features.Features, rate: float) -> features.Features:
    if key is None or rate == 0:
        return x
    keys = jax.random.split(key, len(x))
    return {path: dropout(k, y, rate=rate) for k, (path, y) in zip(keys, x.items(), strict=True)}


def _add(x: features.Features, y: features.Features) -> features.Features:
    return {path: x[path] + y[path] for path in x}


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
