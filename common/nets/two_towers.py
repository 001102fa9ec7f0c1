"""Two networks whose outputs meet on one sphere: images and texts, or two views of an image."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from common.nets.features import keep
from common.precision import wide

SHORTEST = 1e-12  # length of a vector that still has a direction


class Tower(nn.Module):
    """A network without a head, and a linear head, which may have a bottleneck.

    Places of `common.nets.features`: those of the network in "body"; "before_head", what the head
    reads; "bottleneck", if there is one; "head", the outputs before they are normalized.

    Attributes:
        body: Returns [batch, d] and has an option `train`, such as `ViT(num_classes=None)`.
        dim: Outputs.
        bottleneck: The largest rank that outputs can have up to the bias: another dense layer of so
            many neurons comes first, with no nonlinearity in between. None: no such layer.
    """

    body: nn.Module
    dim: int = 768
    bottleneck: int | None = None

    @nn.compact
    def __call__(self, x: Any, *, train: bool = False) -> Float[Array, "batch dim"]:
        """Returns outputs of length 1, in float32 at least."""
        x = keep(self, "before_head", self.body(x, train=train))
        if self.bottleneck is not None:
            x = keep(self, "bottleneck", self._dense(self.bottleneck, "bottleneck")(x))
        return unit(keep(self, "head", self._dense(self.dim, "head")(x)))

    def _dense(self, width: int, field: str) -> nn.Dense:
        if width < 1:
            raise ValueError(f"Tower: {field}={width}; expected at least 1")
        return nn.Dense(width, name=f"{field}_dense")


class TwoTowers(nn.Module):
    """Two towers with outputs to compare; see `common.contrastive`.

    Source: Radford et al. (2021), Fig. 3; Andriushchenko et al. (2023) put a linear bottleneck into
    both heads. Places of `common.nets.features`: those of the towers in "first" and "second".
    """

    first: Tower
    second: Tower

    @nn.compact
    def __call__(
        self, x: Any, y: Any, *, train: bool = False
    ) -> tuple[Float[Array, "batch dim"], Float[Array, "batch dim"]]:
        """Returns the outputs of both, each of length 1."""
        return self.first(x, train=train), self.second(y, train=train)


def unit(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Returns vectors divided by their lengths, in float32 at least.

    Those shorter than 1e-12 become 0, with a gradient of 0.
    """
    x = x.astype(wide(x.dtype))
    squared = jnp.sum(lax.square(x), axis=-1, keepdims=True)
    has_length = squared > SHORTEST**2
    return jnp.where(has_length, x * lax.rsqrt(jnp.where(has_length, squared, 1)), 0)
