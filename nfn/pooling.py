"""Cross-attention between weights and a fixed number of latent vectors.

A network becomes an array that no permutation of its neurons changes: the attention of M latents
over the weights is a weighted mean over tokens whose order does not matter.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dense import DenseParams, dense, init_dense
from nfn.features import Features, align_rank, num_channels, unfold
from nfn.weights import WeightSpace

FF_FACTOR = 4  # inner width of the feed-forward part over that of the latents
EPSILON = 1e-5  # in layer norms, as PyTorch's default


class NormParams(NamedTuple):
    """Scale and shift of a layer norm over channels."""

    scale: Float[Array, " c"]
    shift: Float[Array, " c"]


class PerceiverPoolParams(NamedTuple):
    """Latents, one head of attention on the tokens, and a gated feed-forward layer."""

    latents: Float[Array, "M d"]
    norm_latents: NormParams
    norm_tokens: NormParams
    query: DenseParams
    key: DenseParams
    value: DenseParams
    output: DenseParams
    norm_ff: NormParams
    gate_and_inner: DenseParams
    ff_output: DenseParams


def weight_tokens(space: WeightSpace, features: Features) -> Float[Array, "*batch N c"]:
    """Returns one token per weight, tensor by tensor, each weight in its place in the tensor."""
    c = num_channels(space, features)
    unfolded = [unfold(spec, features[spec.path]) for spec in space.tensors]
    return jnp.concatenate(
        [
            x.reshape(*x.shape[: x.ndim - len(spec.shape) - 1], -1, c)
            for spec, x in zip(space.tensors, unfolded, strict=True)
        ],
        axis=-2,
    )


def init_perceiver_pool(
    key: PRNGKeyArray, *, num_latents: int, c_in: int, width: int
) -> PerceiverPoolParams:
    """Draws latents ~ N(0, 1) and affine maps ~ U(-F^-1/2, F^-1/2), F their number of inputs."""
    keys = jax.random.split(key, 7)

    def norm(size: int) -> NormParams:
        return NormParams(jnp.ones(size), jnp.zeros(size))

    inner = FF_FACTOR * width
    return PerceiverPoolParams(
        latents=jax.random.normal(keys[0], (num_latents, width)),
        norm_latents=norm(width),
        norm_tokens=norm(c_in),
        query=init_dense(keys[1], width, width, has_bias=False),
        key=init_dense(keys[2], c_in, width, has_bias=False),
        value=init_dense(keys[3], c_in, width, has_bias=False),
        output=init_dense(keys[4], width, width),
        norm_ff=norm(width),
        gate_and_inner=init_dense(keys[5], width, 2 * inner),
        ff_output=init_dense(keys[6], inner, width),
    )


def perceiver_pool(
    params: PerceiverPoolParams, tokens: Float[Array, "*batch N c"]
) -> Float[Array, "*batch M d"]:
    """Returns the latents after they have attended to the tokens, in any order of the tokens.

    Source: Zhou et al. (2023b), released code of INR2ARRAY, `PerceiverPooling`: one head as wide as
    the latents, then GELU(gate) * inner, both added to the latents they read. The softmax is in
    float32, whatever the type of the tokens.
    """
    z = params.latents.astype(tokens.dtype)
    read = _norm(params.norm_tokens, tokens)
    query = dense(params.query, _norm(params.norm_latents, z))  # [M, d]: the same for all networks
    # (q K) read: the keys are never formed, the query takes their map instead.
    by_channel = query @ params.key.kernel.astype(tokens.dtype).T
    scores = jnp.einsum("mc,...nc->...mn", by_channel, read).astype(jnp.float32)
    weights = jax.nn.softmax(scores / math.sqrt(query.shape[-1]), axis=-1).astype(tokens.dtype)
    mixed = jnp.einsum("...mn,...nc->...mc", weights, read)  # values are linear: mix, then map
    z = align_rank(z, mixed) + dense(params.output, dense(params.value, mixed))
    gate, inner = jnp.split(dense(params.gate_and_inner, _norm(params.norm_ff, z)), 2, axis=-1)
    return z + dense(params.ff_output, jax.nn.gelu(gate, approximate=False) * inner)


def _norm(params: NormParams, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean((wide - mean) ** 2, axis=-1, keepdims=True)
    y = (wide - mean) * jax.lax.rsqrt(variance + EPSILON)
    y = y * align_rank(params.scale, y) + align_rank(params.shift, y)
    return y.astype(x.dtype)
