"""Vision transformers: images as sequences of patches, read off at one more token."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.convolution import Conv
from common.nets.features import keep
from common.nets.initializers import variance_keeping
from common.nets.transformer import TransformerBlock, patches, positions

STEM_GROUPS = 32  # of channels, of the normalization in a stem of convolutions
# Sizes of the papers by name; "R+Ti/16" has a stem that halves images twice, then 8x8 patches.
SIZES: dict[str, dict[str, Any]] = {
    "Ti/16": {"patch": 16, "hidden": 192, "layers": 12, "heads": 3, "mlp": 768},
    "S/16": {"patch": 16, "hidden": 384, "layers": 12, "heads": 6, "mlp": 1536},
    "B/16": {"patch": 16, "hidden": 768, "layers": 12, "heads": 12, "mlp": 3072},
    "B/32": {"patch": 32, "hidden": 768, "layers": 12, "heads": 12, "mlp": 3072},
    "L/16": {"patch": 16, "hidden": 1024, "layers": 24, "heads": 16, "mlp": 4096},
    "L/32": {"patch": 32, "hidden": 1024, "layers": 24, "heads": 16, "mlp": 4096},
    "R+Ti/16": {"stem": 64, "patch": 8, "hidden": 192, "layers": 12, "heads": 3, "mlp": 768},
}


class ViT(nn.Module):
    """Patches and a class token with learned positions, through blocks normalized before.

    Source: Dosovitskiy et al. (2021), Eq. 1-4; the stem of convolutions is that of Steiner et al.
    (2022). Places of `common.nets.features`: those of `common.nets.transformer` in "layer1",
    "layer2", ...; and "pooled", the class token at the end, normalized.

    Attributes:
        patch: Side of a patch in pixels, behind the stem if there is one.
        hidden: Entries of a token.
        layers: Blocks.
        heads: Of attention.
        mlp: Hidden neurons of the MLP in every block.
        num_classes: Outputs; None: the class token at the end, for a tower.
        stem: Channels of a 7x7 convolution of stride 2, which group normalization, ReLU and a 3x3
            max pool of stride 2 follow; None: patches of the images themselves.
        dtype: Compute type of the blocks, "bfloat16" or "float32"; None: that of parameters and
            images.
    """

    patch: int = 16
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    num_classes: int | None = 1000
    stem: int | None = None
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Returns logits; `train` changes nothing."""
        del train
        if self.stem is not None:
            x = self._stem(x, self.stem)
        x = nn.Dense(self.hidden, dtype=self.dtype, name="patches")(patches(x, self.patch))
        cls = self.param("class", nn.initializers.zeros, (1, 1, self.hidden))
        cls = jnp.broadcast_to(cls, (len(x), 1, self.hidden)).astype(x.dtype)
        x = jnp.concatenate([cls, x], axis=1)
        x = x + positions(self, x.shape[1], self.hidden).astype(x.dtype)
        for layer in range(1, self.layers + 1):
            x = TransformerBlock(self.heads, self.mlp, dtype=self.dtype, name=f"layer{layer}")(x)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)[:, 0]
        keep(self, "pooled", x)
        if self.num_classes is None:
            return x
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(x)

    def _stem(
        self, x: Float[Array, "batch h w c"], channels: int
    ) -> Float[Array, "batch rows columns channels"]:
        conv = Conv(
            channels,
            (7, 7),
            strides=2,
            use_bias=False,
            kernel_init=variance_keeping,
            dtype=self.dtype,
            name="stem",
        )
        if channels % STEM_GROUPS:
            raise ValueError(f"ViT: stem={channels}; expected a multiple of {STEM_GROUPS}")
        x = conv(x)
        x = nn.relu(nn.GroupNorm(STEM_GROUPS, dtype=self.dtype, name="stem_norm")(x))
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")


def vit(size: str, **fields: Any) -> ViT:
    """Returns the ViT of a size of `SIZES`, such as "B/16", with other fields as given.

    Raises:
        ValueError: If there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"vit: size={size!r}; expected one of {', '.join(SIZES)}")
    return ViT(**{**SIZES[size], **fields})
