"""A transformer that reads arrays of vectors and answers with a class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.networks import Network, from_linen


class ClassifierSpec(NamedTuple):
    """Sizes of a classifier of arrays.

    Attributes:
        width: Length of the vectors inside, also of the hidden layer of the head.
        num_layers: Layers of attention and feed-forward maps.
        num_heads: Heads of attention.
        ff_width: Inner width of the feed-forward maps.
        dropout: Rate after attention, inside and after feed-forward maps, on attention weights.
        num_positions: Learned positions, at least as many as an array has vectors.
        dtype: Compute type, "float32" or "bfloat16".
    """

    width: int
    num_layers: int
    num_heads: int
    ff_width: int
    dropout: float
    num_positions: int
    dtype: str


class Layer(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    spec: ClassifierSpec

    @nn.compact
    def __call__(self, x: Float[Array, "*b M d"], train: bool) -> Float[Array, "*b M d"]:
        """Returns vectors of the same shape; `train` needs an RNG named "dropout"."""
        spec, is_fixed = self.spec, not train
        drop = nn.Dropout(spec.dropout, deterministic=is_fixed)
        attention = nn.MultiHeadDotProductAttention(
            num_heads=spec.num_heads,
            dropout_rate=spec.dropout,
            deterministic=is_fixed,
            dtype=spec.dtype,
        )
        x = x + drop(attention(nn.LayerNorm(epsilon=1e-5, dtype=spec.dtype)(x)))
        y = nn.LayerNorm(epsilon=1e-5, dtype=spec.dtype)(x)
        y = nn.gelu(nn.Dense(spec.ff_width, dtype=spec.dtype)(y), approximate=False)
        return x + drop(nn.Dense(spec.width, dtype=spec.dtype)(drop(y)))


class Transformer(nn.Module):
    """Linear map, learned positions, layers, and a head on the first vector."""

    spec: ClassifierSpec
    num_classes: int

    @nn.compact
    def __call__(
        self, array: Float[Array, "*b M c"], *, train: bool = False
    ) -> Float[Array, "*b classes"]:
        """Returns logits."""
        spec, array = self.spec, array.astype(jnp.float32)  # sets may be kept in half precision
        shape = (spec.num_positions, spec.width)
        position = self.param("position", nn.initializers.normal(0.02), shape)
        x = nn.Dense(spec.width, dtype=spec.dtype)(array)
        position = position[: x.shape[-2]].astype(x.dtype)
        x = x + jnp.expand_dims(position, range(x.ndim - 2))
        for _ in range(spec.num_layers):
            x = Layer(spec)(x, train)
        hidden = nn.relu(nn.Dense(spec.width)(x[..., 0, :].astype(jnp.float32)))
        return nn.Dense(self.num_classes)(hidden)


def array_classifier(
    spec: ClassifierSpec, *, num_latents: int, latent_width: int, num_classes: int
) -> Network:
    """Returns `apply(params, array [batch, M, d], train=False, rngs=...) -> logits`.

    Source: Zhou et al. (2023b), released code, classifier of INR2ARRAY: 12 pre-norm layers, token 0
    into an MLP with one hidden layer.

    Raises:
        ValueError: If there are fewer positions than vectors in an array.
    """
    if num_latents > spec.num_positions:
        raise ValueError(
            f"config.model.num_positions={spec.num_positions}: arrays hold {num_latents} vectors"
        )
    example = jax.ShapeDtypeStruct((1, num_latents, latent_width), jnp.float32)
    return from_linen(Transformer(spec, num_classes), example)
