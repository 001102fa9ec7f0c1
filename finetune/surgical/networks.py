"""The networks of the paper by `config.model`: residual, activations first, in blocks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common.nets.image_layers import Layers
from common.nets.initializers import gradient_keeping
from common.networks import StatefulNetwork, from_stateful_linen

Images = Float[Array, "batch h w c"]
EXPANSION = 4  # of a bottleneck: its outputs, in its width


class SurgicalResNet(nn.Module):
    """A stem, stages of pre-activation blocks, then norm, ReLU, mean and a head.

    Source: Lee et al. (2023): ResNet-26 with group normalization (Zhang et al. 2022, MEMO), whose
    shortcuts are averages and zeros; WRN-28-10 of the released code; ResNet-50. Here all three have
    activations before their convolutions.

    Attributes:
        blocks: Of every stage; (4, 4, 4) is ResNet-26 or WRN-28, (3, 4, 6, 3) ResNet-50.
        widths: Channels of every stage.
        norm: "group" or "batch".
        groups: Of channels, of norm "group".
        shortcut: Where the shape changes: "padding", means of 2 x 2 pixels with zeros for the new
            channels, or "projection", a 1x1 convolution.
        bottleneck: 1x1, 3x3 and 1x1 convolutions in the place of two of 3x3.
        stem: Side of the first convolution.
        stem_stride: Of the first convolution.
        stem_pool: Stride of the largest of 3 x 3 pixels behind it; 1: none.
        num_classes: Outputs.
        dtype: Compute type of the convolutions; None: that of parameters and images.
    """

    blocks: tuple[int, ...] = (4, 4, 4)
    widths: tuple[int, ...] = (16, 32, 64)
    norm: str = "group"
    groups: int = 8
    shortcut: str = "padding"
    bottleneck: bool = False
    stem: int = 3
    stem_stride: int = 1
    stem_pool: int = 1
    num_classes: int = 10
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Images, *, train: bool = False) -> Float[Array, "batch classes"]:
        """Returns logits of normalized images; with `train` statistics are those of the batch."""
        layers = Layers(self.norm, self.groups, gradient_keeping, self.dtype)
        x = layers.conv(self.widths[0], size=self.stem, stride=self.stem_stride, name="conv")(x)
        if self.stem_pool > 1:
            window, stride = (3, 3), (self.stem_pool, self.stem_pool)
            x = nn.max_pool(x, window, stride, padding="SAME")
        for stage, (count, width) in enumerate(zip(self.blocks, self.widths, strict=True), start=1):
            for block in range(count):
                x = _Block(
                    width,
                    stride=2 if stage > 1 and not block else 1,
                    shortcut=self.shortcut,
                    bottleneck=self.bottleneck,
                    layers=layers,
                    name=f"stage{stage}_block{block}",
                )(x, train=train)
        x = nn.relu(layers.normalized(x, train=train, name="norm"))
        return nn.Dense(self.num_classes, name="head")(jnp.mean(x, axis=(1, 2)))


class _Block(nn.Module):
    """a = ReLU(norm(x)); convolutions of a, plus x or what stands for it in a new shape."""

    channels: int
    stride: int
    shortcut: str
    bottleneck: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Float[Array, "batch rows columns channels"]:
        conv, norm = self.layers.conv, partial(self.layers.normalized, train=train)
        out = self.channels * (EXPANSION if self.bottleneck else 1)
        a = nn.relu(norm(x, name="norm1"))
        if self.bottleneck:
            y = conv(self.channels, size=1, name="conv1")(a)
            y = nn.relu(norm(y, name="norm2"))
            y = conv(self.channels, stride=self.stride, name="conv2")(y)
            y = conv(out, size=1, name="conv3")(nn.relu(norm(y, name="norm3")))
        else:
            y = conv(out, stride=self.stride, name="conv1")(a)
            y = conv(out, name="conv2")(nn.relu(norm(y, name="norm2")))
        if x.shape == y.shape:
            return x + y
        if self.shortcut == "projection":
            return y + conv(out, size=1, stride=self.stride, name="projection")(a)
        return y + _averaged(x, self.stride, out)


def _averaged(x: Array, stride: int, channels: int) -> Array:
    """Returns means over squares of `stride` pixels, with zeros for the channels that are new."""
    if stride > 1:
        x = nn.avg_pool(x, (stride, stride), (stride, stride), "SAME", count_include_pad=False)
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))


def make_network(model: ConfigDict, image: tuple[int, int, int]) -> StatefulNetwork:
    """Returns the network of a config, of normalized images.

    Args:
        model: Its section `model`.
        image: Height, width and channels.

    Raises:
        ValueError: If the numbers of stages disagree.
    """
    if len(model.blocks) != len(model.widths):
        raise ValueError(
            f"config.model.blocks={model.blocks}, widths={model.widths}: expected a width for "
            "every stage"
        )
    fields: dict[str, Any] = {**model.to_dict(), "dtype": model.dtype or None}
    module = SurgicalResNet(**fields)
    return from_stateful_linen(module, jax.ShapeDtypeStruct((2, *image), jnp.float32))
