"""MLP-Mixers: images as patches, mixed over tokens and over channels by small MLPs in turn."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.features import keep
from common.nets.transformer import Tokens, feed_forward, patches, xavier

# Sizes of the paper by name; the entries of a token are `hidden`.
SIZES: dict[str, dict[str, Any]] = {
    "S/16": {"patch": 16, "hidden": 512, "layers": 8, "tokens_mlp": 256, "mlp": 2048},
    "B/16": {"patch": 16, "hidden": 768, "layers": 12, "tokens_mlp": 384, "mlp": 3072},
    "B/32": {"patch": 32, "hidden": 768, "layers": 12, "tokens_mlp": 384, "mlp": 3072},
}


class Mixer(nn.Module):
    """Patches through blocks of a token MLP and a channel MLP; the mean token is classified.

    Source: Tolstikhin et al. (2021), Eq. 1. Places of `common.nets.features`: "layer1/preatt" and
    so on, those of `common.nets.transformer`, where `att` is what the token MLP adds; and "pooled",
    the mean token at the end.

    Attributes:
        patch: Side of a patch in pixels.
        hidden: Entries of a token.
        layers: Blocks.
        tokens_mlp: Hidden neurons of the MLP over tokens.
        mlp: Hidden neurons of the MLP over channels.
        num_classes: Outputs; None: the mean token, for a tower.
        dtype: Compute type of the blocks, "bfloat16" or "float32"; None: that of parameters and
            images.
    """

    patch: int = 16
    hidden: int = 768
    layers: int = 12
    tokens_mlp: int = 384
    mlp: int = 3072
    num_classes: int | None = 1000
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Returns logits; `train` changes nothing."""
        del train
        x = nn.Dense(self.hidden, dtype=self.dtype, name="patches")(patches(x, self.patch))
        for layer in range(1, self.layers + 1):
            x = MixerBlock(self.tokens_mlp, self.mlp, self.dtype, name=f"layer{layer}")(x)
        x = jnp.mean(nn.LayerNorm(dtype=self.dtype, name="norm")(x), axis=1)
        keep(self, "pooled", x)
        if self.num_classes is None:
            return x
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(x)


class MixerBlock(nn.Module):
    """Adds an MLP over tokens, the same for every channel; then one over channels."""

    tokens_mlp: int
    mlp: int
    dtype: str | None

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        """Returns the tokens of the next block."""
        keep(self, "preatt", x)
        columns = jnp.swapaxes(nn.LayerNorm(dtype=self.dtype, name="norm1")(x), 1, 2)
        dense = lambda width, name: nn.Dense(width, kernel_init=xavier, dtype=self.dtype, name=name)
        mixed = nn.gelu(dense(self.tokens_mlp, "tokens_in")(columns))
        mixed = jnp.swapaxes(dense(x.shape[1], "tokens_out")(mixed), 1, 2)
        x = keep(self, "premlp", x + keep(self, "att", mixed))
        y = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        return keep(self, "res", x + feed_forward(self, y, self.mlp, dtype=self.dtype))


def mixer(size: str, **fields: Any) -> Mixer:
    """Returns the Mixer of a size of `SIZES`, such as "B/16", with other fields as given.

    Raises:
        ValueError: If there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"mixer: size={size!r}; expected one of {', '.join(SIZES)}")
    return Mixer(**{**SIZES[size], **fields})
