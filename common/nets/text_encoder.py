"""A transformer over tokens of a text, read off as the mean over all positions."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Integer

from common.nets.features import keep
from common.nets.transformer import TransformerBlock, positions

EPSILON = 1e-12  # of layer normalization, as in BERT
# Sizes by name: BERT for cased text.
SIZES: dict[str, dict[str, Any]] = {
    "BERT-base": {"vocabulary": 28_996, "hidden": 768, "layers": 12, "heads": 12, "mlp": 3072},
}


class TextEncoder(nn.Module):
    """The encoder of BERT, without token types and pooler.

    Source: Devlin et al. (2019); Andriushchenko et al. (2023) read off the mean over all positions.
    Places of `common.nets.features`: those of `common.nets.transformer` in "layer1", "layer2", ...,
    where token 0 is the first of the text; and "pooled", the mean.

    Attributes:
        vocabulary: Tokens there are; others give NaN.
        hidden: Entries of an embedding.
        layers: Blocks.
        heads: Of attention.
        mlp: Hidden neurons of the MLP in every block.
        max_length: Positions there are.
        pad: A token that no other one looks at; None: all are looked at.
        dtype: Compute type of the blocks, "bfloat16" or "float32"; None: that of parameters.
    """

    vocabulary: int = 28_996
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    max_length: int = 512
    pad: int | None = None
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, tokens: Integer[Array, "batch length"], *, train: bool = False
    ) -> Float[Array, "batch hidden"]:
        """Returns the mean of the last block's outputs; `train` changes nothing."""
        del train
        length = tokens.shape[1]
        if length > self.max_length:
            raise ValueError(
                f"TextEncoder: texts of {length} tokens; expected at most "
                f"max_length={self.max_length}"
            )
        start = nn.initializers.normal(0.02)
        x = nn.Embed(
            self.vocabulary, self.hidden, dtype=self.dtype, embedding_init=start, name="tokens"
        )(tokens)
        x = x + positions(self, self.max_length, self.hidden)[:, :length].astype(x.dtype)
        x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x)
        mask = None if self.pad is None else jnp.expand_dims(tokens != self.pad, (1, 2))
        for layer in range(1, self.layers + 1):
            x = TransformerBlock(
                self.heads,
                self.mlp,
                order="post",
                epsilon=EPSILON,
                exact=True,
                kernel_init=start,
                dtype=self.dtype,
                name=f"layer{layer}",
            )(x, mask)
        return keep(self, "pooled", jnp.mean(x, axis=1))


def text_encoder(size: str, **fields: Any) -> TextEncoder:
    """Returns the encoder of a size of `SIZES`, with other fields as given.

    Raises:
        ValueError: If there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"text_encoder: size={size!r}; expected one of {', '.join(SIZES)}")
    return TextEncoder(**{**SIZES[size], **fields})
