"""DenseNet for 32 x 32 images: every layer reads the outputs of all layers before it."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.batch_norm import BatchNorm
from common.nets.convolution import Conv
from common.nets.initializers import small, variance_keeping

Images = Float[Array, "batch h w c"]


class DenseNet(nn.Module):
    """DenseNet-121 with a 3x3 convolution as its stem; other sizes by `growth` and `blocks`.

    Source: Huang et al. (2017); Li et al. (2018) use it on CIFAR-10.

    Attributes:
        growth: Channels that a layer adds.
        blocks: Layers of each dense block; between two of them channels and pixels are halved.
        num_classes: Outputs.
    """

    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    num_classes: int = 10

    @nn.compact
    def __call__(self, x: Images, *, train: bool = False) -> Float[Array, "batch classes"]:
        """Returns logits of normalized images; with `train` statistics are those of the batch."""
        x = _conv(2 * self.growth, size=3, name="conv")(x)
        for block, layers in enumerate(self.blocks, start=1):
            for layer in range(1, layers + 1):
                grown = DenseLayer(self.growth, name=f"block{block}_layer{layer}")(x, train=train)
                x = jnp.concatenate([grown, x], axis=-1)
            x = nn.relu(BatchNorm(name=f"block{block}_norm")(x, train=train))
            if block < len(self.blocks):
                x = _conv(x.shape[-1] // 2, size=1, name=f"block{block}_conv")(x)
                x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.num_classes, kernel_init=small, name="head")(x)


class DenseLayer(nn.Module):
    """A 1x1 convolution to 4 `growth` channels and a 3x3 one to `growth`, normalized before."""

    growth: int

    @nn.compact
    def __call__(self, x: Images, *, train: bool) -> Float[Array, "batch h w growth"]:
        """Returns the new channels."""
        x = nn.relu(BatchNorm(name="norm1")(x, train=train))
        x = _conv(4 * self.growth, size=1, name="conv1")(x)
        x = nn.relu(BatchNorm(name="norm2")(x, train=train))
        return _conv(self.growth, size=3, name="conv2")(x)


def _conv(channels: int, *, size: int, name: str) -> nn.Conv:
    return Conv(channels, (size, size), use_bias=False, kernel_init=variance_keeping, name=name)
