"""VGG-9 and VGG-11 for 32 x 32 images: convolutions with biases, dense layers, no shortcuts."""

from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.batch_norm import BatchNorm
from common.nets.convolution import Conv
from common.nets.initializers import small, variance_keeping

STAGES = (2, 2, 3)  # convolutions before each 2x2 max pool
STAGES_OF_11 = (1, 1, 2, 2, 2)
DOUBLED = 3  # after so many stages channels no longer double


class VGG9(nn.Module):
    """Stages of `width`, 2 `width` and 4 `width` channels, every layer normalized.

    Source: Li et al. (2018), released code, after Simonyan and Zisserman (2015).

    Attributes:
        width: Channels of the first stage.
        num_classes: Outputs.
    """

    width: int = 64
    num_classes: int = 10

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits of normalized images; with `train` statistics are those of the batch."""
        layers = 0
        for stage, convolutions in enumerate(STAGES):
            for _ in range(convolutions):
                layers += 1
                x = Conv(
                    self.width * 2**stage,
                    (3, 3),
                    kernel_init=variance_keeping,
                    name=f"conv{layers}",
                )(x)
                x = nn.relu(BatchNorm(name=f"norm{layers}")(x, train=train))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dense(4 * self.width, kernel_init=small, name="dense")(x)
        x = nn.relu(BatchNorm(name="dense_norm")(x, train=train))
        return nn.Dense(self.num_classes, kernel_init=small, name="head")(x)


class VGG11(nn.Module):
    """Stages of `width` to 8 `width` channels, then three dense layers; normalized or not.

    Source: Cohen et al. (2021), released code, after Simonyan and Zisserman (2015): configuration A
    without dropout. Images are no longer halved once they are a single pixel.

    Attributes:
        width: Channels of the first stage, 64 there.
        norm: Whether every convolution is followed by batch normalization.
        num_classes: Outputs.
    """

    width: int = 64
    norm: bool = False
    num_classes: int = 10

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits of normalized images; with `train` statistics are those of the batch."""
        layers = 0
        for stage, convolutions in enumerate(STAGES_OF_11):
            channels = self.width * 2 ** min(stage, DOUBLED)
            for _ in range(convolutions):
                layers += 1
                x = Conv(channels, (3, 3), kernel_init=variance_keeping, name=f"conv{layers}")(x)
                if self.norm:
                    x = BatchNorm(name=f"norm{layers}")(x, train=train)
                x = nn.relu(x)
            if min(x.shape[1:3]) > 1:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        for number in (1, 2):
            x = nn.Dense(8 * self.width, kernel_init=variance_keeping, name=f"dense{number}")(x)
            x = nn.relu(x)
        return nn.Dense(self.num_classes, name="head")(x)
