"""Soft-max attention, with dropout or a few queries at a time if asked for."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dropout import dropout as drop


def dot_attention(
    q: Float[Array, "batch h t d"],
    k: Float[Array, "batch h s d"],
    v: Float[Array, "batch h s e"],
    *,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    query_chunk: int = 0,
) -> Float[Array, "batch h t e"]:
    """Returns soft-max(q k / sqrt(d)) v, the soft-max in float32 or wider.

    Source: Vaswani et al. (2017), "Attention Is All You Need", Eq. 1.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        dropout: Rate at which weights of the soft-max are dropped.
        key: Turns dropout on.
        query_chunk: Queries at a time, recomputed in the backward pass; 0: all.
    """
    num_queries = q.shape[2]
    if not 0 < query_chunk < num_queries:
        return _softmax_attention(q, k, v) if key is None else _dropped(q, k, v, key, dropout)

    def some(q: Float[Array, "..."], key: PRNGKeyArray | None) -> Float[Array, "..."]:
        return _weights(q, k) @ v if key is None else _dropped(q, k, v, key, dropout)

    num_chunks = -(-num_queries // query_chunk)
    padded = jnp.pad(q, ((0, 0), (0, 0), (0, num_chunks * query_chunk - num_queries), (0, 0)))
    chunks = jnp.moveaxis(padded.reshape(*q.shape[:2], num_chunks, query_chunk, -1), 2, 0)
    keys = None if key is None else jax.random.split(key, num_chunks)
    y = jax.lax.map(jax.checkpoint(lambda chunk: some(*chunk)), (chunks, keys))
    y = jnp.moveaxis(y, 0, 2)
    return y.reshape(*q.shape[:2], num_chunks * query_chunk, v.shape[-1])[:, :, :num_queries]


def _weights(q: Float[Array, "... t d"], k: Float[Array, "... s d"]) -> Float[Array, "... t s"]:
    """Returns the attention weights in the type of the queries, by a soft-max in float32."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=wide)
    return jax.nn.softmax(scores / math.sqrt(q.shape[-1]), axis=-1).astype(q.dtype)


def _dropped(
    q: Float[Array, "batch h t d"],
    k: Float[Array, "batch h s d"],
    v: Float[Array, "batch h s e"],
    key: PRNGKeyArray,
    rate: float,
) -> Float[Array, "batch h t e"]:
    return drop(key, _weights(q, k), rate=rate) @ v


@jax.custom_vjp
def _softmax_attention(
    q: Float[Array, "batch h t d"], k: Float[Array, "batch h s d"], v: Float[Array, "batch h s e"]
) -> Float[Array, "batch h t e"]:
    """Its gradient is written out, so that no more than the weights is kept for it.

    Reverse mode only: `jax.jvp` and forward-over-reverse products refuse a custom gradient.
    """
    return _weights(q, k) @ v


def _softmax_attention_forward(
    q: Float[Array, "batch h t d"], k: Float[Array, "batch h s d"], v: Float[Array, "batch h s e"]
) -> tuple[Float[Array, "batch h t e"], tuple[Array, ...]]:
    weights = _weights(q, k)
    return weights @ v, (q, k, v, weights)


def _softmax_attention_backward(
    kept: tuple[Array, ...], dy: Float[Array, "batch h t e"]
) -> tuple[Array, Array, Array]:
    q, k, v, weights = kept
    dv = jnp.einsum("bhts,bhtd->bhsd", weights, dy)
    dw = jnp.einsum("bhtd,bhsd->bhts", dy, v)
    mean = jnp.sum(dw * weights, axis=-1, keepdims=True)
    ds = weights * (dw - mean) / math.sqrt(q.shape[-1])
    return jnp.einsum("bhts,bhsd->bhtd", ds, k), jnp.einsum("bhts,bhtd->bhsd", ds, q), dv


_softmax_attention.defvjp(_softmax_attention_forward, _softmax_attention_backward)
