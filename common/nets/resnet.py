"""Residual networks for 32 x 32 images, with shortcuts and without: ResNet-18 to 110, wide ones."""

from typing import Literal, get_args

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.batch_norm import BatchNorm
from common.nets.convolution import Conv
from common.nets.initializers import small, variance_keeping

Shortcut = Literal["projection", "padding", "none"]
STAGES = 3  # of networks of depth 6 n + 2
Images = Float[Array, "batch h w c"]
Outputs = Float[Array, "batch rows columns channels"]  # of a block: other sizes


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
        num_classes: Outputs.
        stages: How many times blocks get wider, plus one.
    """

    depth: int = 20
    width: int = 16
    shortcut: Shortcut = "projection"
    num_classes: int = 10
    stages: int = STAGES

    @nn.compact
    def __call__(self, x: Images, *, train: bool = False) -> Float[Array, "batch classes"]:
        """Returns logits of normalized images; with `train` statistics are those of the batch."""
        blocks = self._blocks()
        x = _conv(self.width, name="conv")(x)
        x = nn.relu(BatchNorm(name="norm")(x, train=train))
        for stage in range(self.stages):
            for block in range(blocks):
                x = Block(
                    self.width * 2**stage,
                    stride=2 if stage and not block else 1,
                    shortcut=self.shortcut,
                    name=f"stage{stage + 1}_block{block}",
                )(x, train=train)
        x = jnp.mean(x, axis=(1, 2))
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
        return blocks


class Block(nn.Module):
    """Two 3x3 convolutions, each normalized; what comes in is added before the last ReLU."""

    channels: int
    stride: int
    shortcut: Shortcut

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Outputs:
        """Returns the images of the next block."""
        y = _conv(self.channels, stride=self.stride, name="conv1")(x)
        y = nn.relu(BatchNorm(name="norm1")(y, train=train))
        y = _conv(self.channels, name="conv2")(y)
        y = BatchNorm(name="norm2")(y, train=train)
        if self.shortcut == "none":
            return nn.relu(y)
        if x.shape != y.shape and self.shortcut == "padding":
            x = _padded(x, self.channels, self.stride)
        elif x.shape != y.shape:
            x = _conv(self.channels, size=1, stride=self.stride, name="projection")(x)
            x = BatchNorm(name="projection_norm")(x, train=train)
        return nn.relu(x + y)


def _conv(channels: int, *, name: str, size: int = 3, stride: int = 1) -> nn.Conv:
    return Conv(
        channels,
        (size, size),
        strides=stride,
        padding=size // 2,  # on both sides, as the published weights have it
        use_bias=False,
        kernel_init=variance_keeping,
        name=name,
    )


def _padded(x: Images, channels: int, stride: int) -> Outputs:
    """Returns every `stride`-th pixel, its channels in the middle of `channels`, the rest 0."""
    new = channels - x.shape[-1]
    sides = (new // 2, new - new // 2)
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), sides))
