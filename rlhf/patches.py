"""Convolutions of images without padding: of small ones as products of their patches.

On a CPU XLA's convolutions of small images take longer than the matrix products here, most of all
in a loop in a loop, as a fit is; and seeds and members under `vmap` are a batch of products.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from common.nets.convolution import conv_general_dilated

SMALL = 42  # height and width of images that are cut in patches


def convolved(
    images: Float[Array, "n height width c_in"],
    kernel: Float[Array, "k k c_in c_out"],
    bias: Float[Array, " c_out"],
    stride: int,
) -> Float[Array, "n height_out width_out c_out"]:
    """Returns images convolved with square filters: h_out = (h - k) // stride + 1."""
    if max(images.shape[1:3]) > SMALL:
        order, strides = ("NHWC", "HWIO", "NHWC"), (stride, stride)
        out = conv_general_dilated(images, kernel, strides, "VALID", dimension_numbers=order)
    else:
        k, _, c_in, c_out = kernel.shape
        out = patches(images, k, stride) @ kernel.reshape(k * k * c_in, c_out)
    return out + jnp.expand_dims(bias, (0, 1, 2))


def patches(
    images: Float[Array, "n height width c"], k: int, stride: int
) -> Float[Array, "n height_out width_out k_k_c"]:
    """Returns the k x k cells that a filter sees at each place, in the order of its entries."""
    if stride > 1 and k % stride == 0:
        return _of_blocks(images, k, stride)
    high, wide = (size - k + 1 for size in images.shape[1:3])
    return jnp.concatenate(
        [
            images[:, row : row + high : stride, column : column + wide : stride]
            for row in range(k)
            for column in range(k)
        ],
        axis=-1,
    )


def _of_blocks(
    images: Float[Array, "n height width c"], k: int, stride: int
) -> Float[Array, "n height_out width_out k_k_c"]:
    """Returns patches that are whole blocks of `stride` cells: few slices, not k x k of them."""
    count, *sizes, channels = images.shape
    side = k // stride  # of a filter, in blocks
    high, wide = ((size - k) // stride + 1 for size in sizes)
    rows, columns = high + side - 1, wide + side - 1
    kept = images[:, : rows * stride, : columns * stride]
    blocks = kept.reshape(count, rows, stride, columns, stride, channels)
    blocks = jnp.moveaxis(blocks, 3, 2)  # [n, rows, columns, stride, stride, c]
    places = [
        blocks[:, row : row + high, column : column + wide]
        for row in range(side)
        for column in range(side)
    ]
    stacked = jnp.stack(places, axis=3).reshape(
        count, high, wide, side, side, stride, stride, channels
    )
    # A row of a filter is a row of blocks, and one in the block.
    return jnp.moveaxis(stacked, 5, 4).reshape(count, high, wide, k * k * channels)
