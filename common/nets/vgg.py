"""VGG-9 for 32 x 32 images: seven convolutions with biases, two dense layers, no shortcuts."""

from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.batch_norm import BatchNorm
from common.nets.convolution import Conv
from common.nets.initializers import small, variance_keeping

STAGES = (2, 2, 3)  # convolutions before each 2x2 max pool


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
