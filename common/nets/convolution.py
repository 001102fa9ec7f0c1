"""Convolutions whose gradients are as fast inside a loop as outside, on a CPU too.

XLA:CPU brings the gradients of its convolutions into a form that it has fast code for, but not
inside `lax.scan` or `lax.map` (jax issue 12868). Here they are written in that form.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(
    x: Float[Array, "n h w c_in"], kernel: Float[Array, "k k c_in c_out"], stride: int = 1
) -> Float[Array, "n h_out w_out c_out"]:
    """Returns images convolved with square filters, padded by zeros so that h_out = ⌈h / stride⌉.

    Reverse mode only: `jax.jvp` and forward-over-reverse products refuse a custom gradient.
    """
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT
    )


def _forward(
    x: Float[Array, "n h w c_in"], kernel: Float[Array, "k k c_in c_out"], stride: int
) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel, stride), (x, kernel)


def _backward(
    stride: int, kept: tuple[Array, Array], dy: Float[Array, "n h_out w_out c_out"]
) -> tuple[Array, Array]:
    """Both gradients are convolutions of the same layout; the barriers keep XLA from undoing it."""
    x, kernel = kept
    size, sides = kernel.shape[0], x.shape[1:3]
    spans = [(count - 1) * stride for count in dy.shape[1:3]]  # of the upper left corners read
    befores = [max(span + size - side, 0) // 2 for span, side in zip(spans, sides, strict=True)]
    paddings = list(zip(sides, spans, befores, strict=True))

    # dK[a, b] = sum over images and places of x[place * stride + (a, b)] dy[place]
    dkernel = jax.lax.conv_general_dilated(
        jax.lax.optimization_barrier(jnp.transpose(x, (3, 1, 2, 0))),
        jax.lax.optimization_barrier(jnp.transpose(dy, (1, 2, 0, 3))),
        window_strides=(1, 1),
        padding=[(before, span + size - side - before) for side, span, before in paddings],
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    # dx[place] = sum over (a, b) of K[a, b] dy[(place - (a, b)) / stride], where that is whole
    flipped = jnp.flip(jnp.swapaxes(kernel, 2, 3), (0, 1))
    dx = jax.lax.conv_general_dilated(
        dy,
        jax.lax.optimization_barrier(flipped),
        window_strides=(1, 1),
        padding=[(size - 1 - before, side + before - span - 1) for side, span, before in paddings],
        lhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return dx, jax.lax.optimization_barrier(jnp.transpose(dkernel, (1, 2, 0, 3)))


convolution.defvjp(_forward, _backward)
