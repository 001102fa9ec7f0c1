"""Multi-head attention of the Attentive Neural Process, with what it is made of."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from sciml.affine import affine
from sciml.initialization import Uniform

EPSILON = 1e-5  # added to the variance in a layer norm
LEVELS = 2**16  # a dropout rate is a multiple of 1 / LEVELS


class LinearParams(NamedTuple):
    """The map x W + b."""

    weight: Float[Array, "c_in c_out"]
    bias: Float[Array, " c_out"]


class AttentionParams(NamedTuple):
    """One attention layer.

    Attributes:
        projections: Of queries, keys and values, in this order; heads are blocks of columns.
        output: Map of a query and what its heads found.
        norm: Scale (weight, as one row) and shift (bias) of the layer norm.
    """

    projections: Float[Array, "3 c c"]
    output: LinearParams
    norm: LinearParams


class AttentionSpec(NamedTuple):
    """How attention is done.

    Attributes:
        heads: A divisor of the width.
        rate: Of both dropouts, of weights and of outputs.
    """

    heads: int
    rate: float


class Projected(NamedTuple):
    """Queries, keys and values of all heads, side by side."""

    queries: Float[Array, "batch p c"]
    keys: Float[Array, "batch n c"]
    values: Float[Array, "batch n c"]


def xavier(c_in: int, c_out: int, *, gain: float = 1.0) -> float:
    """Returns the bound of the uniform distribution of variance 2 gain^2 / (c_in + c_out).

    Source: Glorot and Bengio (2010), Eq. 16.
    """
    return gain * math.sqrt(6 / (c_in + c_out))


def init_linear(uniform: Uniform, c_in: int, c_out: int, *, gain: float = 1.0) -> LinearParams:
    """Returns a linear map: Xavier weights; biases are up to 1 / sqrt(c_in)."""
    bound, bias = xavier(c_in, c_out, gain=gain), c_in**-0.5
    return LinearParams(
        weight=uniform((c_in, c_out), -bound, bound),
        bias=uniform((c_out,), -bias, bias),
    )


def init_attention(uniform: Uniform, width: int) -> AttentionParams:
    """Returns an attention layer; its layer norm starts as the bare norm."""
    bound = xavier(width, width)
    return AttentionParams(
        projections=uniform((3, width, width), -bound, bound),
        output=init_linear(uniform, 2 * width, width),
        # U[1, 1) and U[0, 0): constants that take their share of the numbers too.
        norm=LinearParams(uniform((1, width), 1.0, 1.0), uniform((width,), 0.0, 0.0)),
    )


def linear(params: LinearParams, x: Float[Array, "*batch c_in"]) -> Float[Array, "*batch c_out"]:
    """Returns x W + b."""
    return affine(params.weight, params.bias, x)


def split_or_none(key: PRNGKeyArray | None, count: int) -> Sequence[PRNGKeyArray | None]:
    """Returns keys for the parts of something, or no keys."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def kept(key: PRNGKeyArray, shape: tuple[int, ...], rate: float) -> Bool[Array, "..."]:
    """Returns a mask that is False with probability `rate`, rounded to a multiple of 1 / LEVELS.

    Every word of 32 random bits serves two entries: on a CPU the bits are what dropout costs.
    """
    words = jax.random.bits(key, (*shape[:-1], -(-shape[-1] // 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16)  # [..., words, 2]
    halves = halves.reshape(*words.shape[:-1], 2 * words.shape[-1])[..., : shape[-1]]
    return halves >= round(rate * LEVELS)


def dropout(
    key: PRNGKeyArray | None, x: Float[Array, "*shape"], *, rate: float
) -> Float[Array, "*shape"]:
    """Returns x with entries set to 0 and the rest scaled up, so that the mean is x.

    Args:
        key: Draws the entries; None returns x.
        x: Any array with an axis.
        rate: Probability that an entry is dropped, in [0, 1).
    """
    dropped = round(rate * LEVELS)
    if key is None or dropped == 0:
        return x
    return jnp.where(kept(key, x.shape, rate), x * (LEVELS / (LEVELS - dropped)), 0)


def layer_norm(params: LinearParams, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
    """Returns x with mean 0 and variance 1 along its last axis, scaled and shifted."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + EPSILON)
    scale = jnp.broadcast_to(params.weight[0], x.shape)
    return x * scale + jnp.broadcast_to(params.bias, x.shape)


def self_attention(
    params: AttentionParams,
    x: Float[Array, "batch n c"],
    *,
    spec: AttentionSpec,
    key: PRNGKeyArray | None = None,
) -> Float[Array, "batch n c"]:
    """Returns `cross_attention` of points to themselves; the projections are one product."""
    width = x.shape[-1]
    side_by_side = jnp.moveaxis(params.projections, 0, 1).reshape(width, 3 * width)
    projected = Projected(*jnp.split(x @ side_by_side, 3, axis=-1))
    return _attend(params, x, projected, spec, key)


def cross_attention(
    params: AttentionParams,
    query: Float[Array, "batch p c"],
    keys: Float[Array, "batch n c"],
    values: Float[Array, "batch n c"],
    *,
    spec: AttentionSpec,
    key: PRNGKeyArray | None = None,
) -> Float[Array, "batch p c"]:
    """Returns queries refined by what they find: LayerNorm(q + dropout(Linear[q; heads])).

    A_h = softmax(Q_h K_h^T / sqrt(c / heads)), head h = dropout(A_h) V_h, with projected queries,
    keys and values; the residual and the output map see the query as it came.

    Source: Hansen et al. (2023), the attention of the released code (Vaswani et al. 2017, Eq. 1).

    Args:
        params: Of the layer.
        query: One vector for each of p points.
        keys: What the n points to look at are found by.
        values: What is found there.
        spec: How it is done.
        key: Turns dropout on.
    """
    pairs = zip((query, keys, values), params.projections, strict=True)
    return _attend(params, query, Projected(*(x @ w for x, w in pairs)), spec, key)


def _attend(
    params: AttentionParams,
    query: Float[Array, "batch p c"],
    projected: Projected,
    spec: AttentionSpec,
    key: PRNGKeyArray | None,
) -> Float[Array, "batch p c"]:
    size = query.shape[-1] // spec.heads  # of one head
    key_weights, key_output = split_or_none(key, 2)
    # Scaled before the product: p c numbers, not p n.
    q = _by_head(projected.queries * size**-0.5, spec.heads)
    k, v = _by_head(projected.keys, spec.heads), _by_head(projected.values, spec.heads)
    weights = dropout(key_weights, jax.nn.softmax(q @ k.mT, axis=-1), rate=spec.rate)
    found = (weights @ v).swapaxes(1, 2).reshape(query.shape)
    y = linear(params.output, jnp.concatenate([query, found], axis=-1))
    return layer_norm(params.norm, query + dropout(key_output, y, rate=spec.rate))


def _by_head(x: Float[Array, "batch n c"], heads: int) -> Float[Array, "batch heads n size"]:
    """Returns the vectors by head. Batch and heads lead: products of other layouts are slower."""
    batch, points, width = x.shape
    return x.reshape(batch, points, heads, width // heads).swapaxes(1, 2)
