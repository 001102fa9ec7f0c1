"""A deep fully connected network in blocks of two layers, with shortcuts or without."""

from flax import linen as nn
from jaxtyping import Array, Float

from common.nets.batch_norm import BatchNorm
from common.nets.initializers import small, variance_keeping


class ResidualMLP(nn.Module):
    """What `common.nets.resnet.ResNet` is, without convolutions: small enough for a laptop.

    Attributes:
        blocks: Blocks of two dense layers, each normalized.
        width: Neurons of every hidden layer.
        shortcuts: Whether what enters a block is added before its last ReLU.
        num_classes: Outputs.
    """

    blocks: int = 4
    width: int = 32
    shortcuts: bool = True
    num_classes: int = 10

    @nn.compact
    def __call__(
        self, x: Float[Array, "n ..."], *, train: bool = False
    ) -> Float[Array, "n classes"]:
        """Returns logits of flattened inputs; with `train` statistics are those of the batch."""

        def layer(x: Array, name: str) -> Array:
            x = nn.Dense(
                self.width, use_bias=False, kernel_init=variance_keeping, name=f"{name}_dense"
            )(x)
            return BatchNorm(name=f"{name}_norm")(x, train=train)

        x = nn.relu(layer(x.reshape(x.shape[0], -1), "stem"))
        for block in range(1, self.blocks + 1):
            y = nn.relu(layer(x, f"block{block}_1"))
            y = layer(y, f"block{block}_2")
            x = nn.relu(x + y if self.shortcuts else y)
        return nn.Dense(self.num_classes, kernel_init=small, name="head")(x)
