"""Blocks of transformers: attention and a small MLP for every token, normalized before or after.

Every block has seven places of `common.nets.features`, [batch, tokens, d], none behind a ReLU. With
input x: `preatt` = x; `att`, what attention adds; `premlp`, what that leads to; `pregelu` and
`gelu`, around the nonlinearity; `mlp`, what the MLP adds; `res`, the output.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from common.nets.features import keep

ORDERS = ("pre", "post")
Tokens = Float[Array, "batch tokens hidden"]
PLACES = ("preatt", "att", "premlp", "pregelu", "gelu", "mlp", "res")  # of every block
xavier = nn.initializers.xavier_uniform()


class TransformerBlock(nn.Module):
    """A layer of a transformer.

    Source: Vaswani et al. (2017) normalize behind each sum, order "post"; Dosovitskiy et al. (2021)
    normalize what each branch reads, order "pre".

    Attributes:
        heads: Of attention.
        mlp: Hidden neurons of the MLP.
        order: "pre" or "post".
        epsilon: Of layer normalization.
        exact: Whether GELU is exact, not by tanh.
        kernel_init: Where kernels start; biases start at 0.
        dtype: Compute type, softmax excepted, which is in float32 at least; None: that of
            parameters and tokens.
    """

    heads: int
    mlp: int
    order: str = "pre"
    epsilon: float = 1e-6
    exact: bool = False
    kernel_init: nn.initializers.Initializer = xavier
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, x: Tokens, mask: Bool[Array, "batch heads queries tokens"] | None = None
    ) -> Tokens:
        """Returns the tokens of the next block; they look only where `mask` is true."""
        self._check(x.shape[-1])
        attention = nn.MultiHeadDotProductAttention(
            self.heads,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            force_fp32_for_softmax=True,
            name="attention",
        )
        is_pre = self.order == "pre"
        norms = [
            nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name=name)
            for name in ("norm1", "norm2")
        ]
        keep(self, "preatt", x)
        attended: Any = attention(norms[0](x) if is_pre else x, mask=mask)
        x = x + keep(self, "att", attended)
        x = keep(self, "premlp", x if is_pre else norms[0](x))
        added = feed_forward(
            self,
            norms[1](x) if is_pre else x,
            self.mlp,
            exact=self.exact,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )
        return keep(self, "res", x + added if is_pre else norms[1](x + added))

    def _check(self, hidden: int) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"transformer: order={self.order!r}; expected pre or post")
        if self.heads < 1 or hidden % self.heads:
            raise ValueError(
                f"transformer: heads={self.heads}; expected a divisor of hidden={hidden}"
            )


def feed_forward(
    block: nn.Module,
    x: Tokens,
    mlp: int,
    *,
    exact: bool = False,
    kernel_init: nn.initializers.Initializer = xavier,
    dtype: str | None = None,
) -> Tokens:
    """Returns dense(GELU(dense(x))), two layers of `block`, with the places of its MLP."""
    dense = lambda width, name: nn.Dense(width, kernel_init=kernel_init, dtype=dtype, name=name)
    hidden = keep(block, "pregelu", dense(mlp, "mlp_in")(x))
    hidden = keep(block, "gelu", nn.gelu(hidden, approximate=not exact))
    return keep(block, "mlp", dense(x.shape[-1], "mlp_out")(hidden))


def patches(images: Float[Array, "batch h w c"], size: int) -> Tokens:
    """Returns squares of `size` pixels, row by row, each as one vector.

    A dense layer of them is the convolution of this size and stride, whose kernel
    [size, size, c, d] is that of the layer as [size * size * c, d].

    Raises:
        ValueError: If squares do not fill the images.
    """
    batch, h, w, c = images.shape
    if size < 1 or h % size or w % size:
        raise ValueError(f"patch={size}; expected a divisor of both sides of the images, {h} x {w}")
    squares = images.reshape(batch, h // size, size, w // size, size, c)
    return jnp.swapaxes(squares, 2, 3).reshape(batch, -1, size * size * c)


def positions(block: nn.Module, tokens: int, hidden: int) -> Float[Array, "1 tokens hidden"]:
    """Returns a learned vector for every position, a parameter of `block`; start: N(0, 0.02^2)."""
    start = nn.initializers.normal(0.02)
    found: jax.Array = block.param("positions", start, (1, tokens, hidden))
    return found
