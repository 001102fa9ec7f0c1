"""Residual networks for 32 x 32 images, with shortcuts and without: ResNet-18 to 110, wide ones."""

from functools import partial
from typing import Literal, get_args

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.features import keep
from common.nets.heads import classified, pooled
from common.nets.image_layers import Layers
from common.nets.initializers import gradient_keeping, small, variance_keeping

Shortcut = Literal["projection", "padding", "none"]
STAGES = 3  # of networks of depth 6 n + 2
Images = Float[Array, "batch h w c"]
Outputs = Float[Array, "batch rows columns channels"]  # of a block: other sizes
KERNELS = {"fan_in": variance_keeping, "fan_out": gradient_keeping}
# Places of `common.nets.features` with four stages: all are behind a ReLU, 5 is 4 pooled.
PLACES = dict.fromkeys(("block1", "block2", "block3", "block4", "block5"), True)


class ResNet(nn.Module):
    """The networks of depth 6 n + 2 for CIFAR: three stages of n blocks, each twice as wide.

    With four stages the depth is 8 n + 2: ResNet-18 is `ResNet(depth=18, width=64, stages=4)`.

    Source: He et al. (2016); Li et al. (2018) remove the shortcuts. ResNet-56 is
    `ResNet(depth=56)`, Wide-ResNet-56-k is `ResNet(depth=56, width=16 * k)`.

    Attributes:
        depth: Layers with weights on the path without shortcuts, 6 n + 2.
        width: Channels of the first stage.
        shortcut: What is added after a block that changes the shape: "projection", a 1x1
            convolution and batch normalization; "padding", every second pixel with zeros for the
            new channels on both sides; "none": nothing is added after any block.
        num_classes: Outputs; None: the pooled values, for a tower.
        stages: How many times blocks get wider, plus one.
        norm: "batch" or "group".
        groups: Of channels, of norm "group".
        start: Where weights start: "fan_in" as the published networks, the head near 0; "fan_out"
            as a `PreActResNet`, whose twin is `ResNet(18, 64, stages=4, start="fan_out", pool=4)`.
        stem_stride: 2 halves the images in the stem: a quarter of the cost.
        pool: Side of the squares averaged before the head; None: the whole map.
        dtype: Compute type of the convolutions; None: that of parameters and images.
    """

    depth: int = 20
    width: int = 16
    shortcut: Shortcut = "projection"
    num_classes: int | None = 10
    stages: int = STAGES
    norm: str = "batch"
    groups: int = 32
    start: str = "fan_in"
    stem_stride: int = 1
    pool: int | None = None
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Images, *, train: bool = False) -> Float[Array, "batch classes"]:
        """Returns logits of normalized images; with `train` statistics are those of the batch."""
        blocks = self._blocks()
        layers = Layers(self.norm, self.groups, KERNELS[self.start], self.dtype)
        x = layers.conv(self.width, stride=self.stem_stride, name="conv")(x)
        x = nn.relu(layers.normalized(x, train=train, name="norm"))
        for stage in range(self.stages):
            for block in range(blocks):
                x = Block(
                    self.width * 2**stage,
                    stride=2 if stage and not block else 1,
                    shortcut=self.shortcut,
                    layers=layers,
                    name=f"stage{stage + 1}_block{block}",
                )(x, train=train)
            keep(self, f"block{stage + 1}", x)
        x = jnp.mean(x, axis=(1, 2)) if self.pool is None else pooled(x, self.pool)
        keep(self, f"block{self.stages + 1}", x)
        if self.start == "fan_out" or self.num_classes is None:
            return classified(x, self.num_classes)
        return nn.Dense(self.num_classes, kernel_init=small, name="head")(x)

    def _blocks(self) -> int:
        layers = 2 * self.stages  # of one more block a stage
        blocks, rest = divmod(self.depth - 2, layers)
        if rest or blocks < 1:
            allowed = ", ".join(str(layers * n + 2) for n in (1, 2, 3))
            raise ValueError(f"ResNet: depth={self.depth}; expected {layers} n + 2: {allowed}, ...")
        if self.shortcut not in get_args(Shortcut):
            allowed = ", ".join(get_args(Shortcut))
            raise ValueError(f"ResNet: shortcut={self.shortcut!r}; expected one of {allowed}")
        if self.start not in KERNELS:
            raise ValueError(f"ResNet: start={self.start!r}; expected one of {', '.join(KERNELS)}")
        return blocks


class Block(nn.Module):
    """Two 3x3 convolutions, each normalized; what comes in is added before the last ReLU."""

    channels: int
    stride: int
    shortcut: Shortcut
    layers: Layers

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Outputs:
        """Returns the images of the next block."""
        conv, norm = self.layers.conv, partial(self.layers.normalized, train=train)
        y = conv(self.channels, stride=self.stride, name="conv1")(x)
        y = nn.relu(norm(y, name="norm1"))
        y = conv(self.channels, name="conv2")(y)
        y = norm(y, name="norm2")
        if self.shortcut == "none":
            return nn.relu(y)
        if x.shape != y.shape and self.shortcut == "padding":
            x = _padded(x, self.channels, self.stride)
        elif x.shape != y.shape:
            x = conv(self.channels, size=1, stride=self.stride, name="projection")(x)
            x = norm(x, name="projection_norm")
        return nn.relu(x + y)


def _padded(x: Images, channels: int, stride: int) -> Outputs:
    """Returns every `stride`-th pixel, its channels in the middle of `channels`, the rest 0."""
    new = channels - x.shape[-1]
    sides = (new // 2, new - new // 2)
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), sides))
