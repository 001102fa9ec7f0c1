"""Convolutions and normalizations that the layers of one residual network share."""

from typing import Any, NamedTuple

import jax
from flax import linen as nn

from common.nets.batch_norm import BatchNorm
from common.nets.convolution import Conv

NORMS = ("batch", "group")


class Layers(NamedTuple):
    """How the layers of a network are made; called within a module, whose layers they become.

    Attributes:
        norm: "batch": every channel over the batch, with running statistics as model state;
            "group" (Wu and He 2018): every group of channels within an example, without a state.
        groups: Of "group".
        kernel_init: Where the kernels of convolutions start.
        dtype: Compute type of convolutions; None: that of parameters and images.
    """

    norm: str
    groups: int
    kernel_init: Any
    dtype: str | None

    def conv(self, channels: int, *, name: str, size: int = 3, stride: int = 1) -> nn.Conv:
        """Returns a convolution with zeros on both sides, as published weights have it."""
        return Conv(
            channels,
            (size, size),
            strides=stride,
            padding=size // 2,
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name=name,
        )

    def normalized(self, x: jax.Array, *, train: bool, name: str) -> jax.Array:
        """Returns images normalized, in their type.

        Raises:
            ValueError: If there is no such norm, or groups do not divide the channels.
        """
        if self.norm not in NORMS:
            allowed = ", ".join(NORMS)
            raise ValueError(f"norm={self.norm!r}; expected one of {allowed}")
        if self.norm == "batch":
            return BatchNorm(name=name)(x, train=train)
        if self.groups < 1 or x.shape[-1] % self.groups:
            channels = x.shape[-1]
            raise ValueError(f"groups={self.groups}; expected a divisor of the {channels} channels")
        return nn.GroupNorm(self.groups, epsilon=1e-5, dtype=x.dtype, name=name)(x)
