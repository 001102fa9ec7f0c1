"""Residual networks with activations before the convolutions: ResNet-18 and ResNet-34."""

from functools import partial

from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.features import keep
from common.nets.heads import classified, pooled
from common.nets.image_layers import Layers
from common.nets.initializers import gradient_keeping

Images = Float[Array, "batch h w c"]
Outputs = Float[Array, "batch rows columns channels"]  # of a block: other sizes
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # of every stage, by depth
# Places of `common.nets.features`: whether the values there are behind a ReLU. 1 to 3 are outputs
# of stages, 4 is that of the last one normalized and rectified, 5 is 4 pooled.
PLACES = {"block1": False, "block2": False, "block3": False, "block4": True, "block5": True}


class PreActResNet(nn.Module):
    """A 3x3 stem, four stages of blocks each twice as wide, then norm, ReLU, pool and a head.

    Source: He et al. (2016b); Andriushchenko et al. (2023) train ResNet-18 of width 64. Widths,
    initialization and the head are those of the released code: convolutions start fan-out, with two
    classes the network has one output z and logits (0, z).

    Attributes:
        depth: 18 or 34; 10, with one block a stage, is for trials.
        width: Channels of the first stage; the last has eight times as many.
        num_classes: Outputs; None: the pooled values, for a tower.
        norm: "batch" or "group".
        groups: Of channels, of norm "group".
        stem_stride: 2 halves the images in the stem: a quarter of the cost.
        pool: Side of the squares averaged before the head, as many as fit. A smaller map is
            averaged as a whole: images of 32 x 32 leave 4 x 4, those of 64 x 64 four squares.
        dtype: Compute type of the convolutions; None: that of parameters and images.
    """

    depth: int = 18
    width: int = 64
    num_classes: int | None = 10
    norm: str = "batch"
    groups: int = 32
    stem_stride: int = 1
    pool: int = 4
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Images, *, train: bool = False) -> Float[Array, "batch outputs"]:
        """Returns logits of normalized images; with `train` statistics are those of the batch."""
        if self.depth not in BLOCKS:
            allowed = ", ".join(map(str, BLOCKS))
            raise ValueError(f"PreActResNet: depth={self.depth}; expected one of {allowed}")
        layers = Layers(self.norm, self.groups, gradient_keeping, self.dtype)
        x = layers.conv(self.width, stride=self.stem_stride, name="conv")(x)
        for stage, blocks in enumerate(BLOCKS[self.depth], start=1):
            for block in range(blocks):
                x = PreActBlock(
                    self.width * 2 ** (stage - 1),
                    stride=2 if stage > 1 and not block else 1,
                    layers=layers,
                    name=f"stage{stage}_block{block}",
                )(x, train=train)
            if stage < 4:
                keep(self, f"block{stage}", x)
        x = nn.relu(layers.normalized(x, train=train, name="norm"))
        x = pooled(keep(self, "block4", x), self.pool)
        return classified(keep(self, "block5", x), self.num_classes)


class PreActBlock(nn.Module):
    """a = ReLU(norm(x)); two 3x3 convolutions of a, plus x, or a 1x1 convolution of a."""

    channels: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Outputs:
        """Returns the images of the next block."""
        conv, norm = self.layers.conv, partial(self.layers.normalized, train=train)
        a = nn.relu(norm(x, name="norm1"))
        y = conv(self.channels, stride=self.stride, name="conv1")(a)
        y = conv(self.channels, name="conv2")(nn.relu(norm(y, name="norm2")))
        if x.shape != y.shape:
            x = conv(self.channels, size=1, stride=self.stride, name="projection")(a)
        return x + y
