"""Convolutions as products of patches are those of XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.patches import convolved


# Filters of single cells, of whole blocks of their stride, and images that these do not fill.
@pytest.mark.parametrize("sizes", [(10, 9, 3, 2), (42, 42, 8, 4), (11, 13, 4, 2)])
def test_a_product_of_patches_is_a_convolution(sizes: tuple[int, int, int, int]) -> None:
    height, width, k, stride = sizes
    rng = np.random.default_rng(0)
    images, kernel, bias = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, height, width, 3), (k, k, 3, 5), (5,))
    )

    found = convolved(images, kernel, bias, stride)

    order, strides = ("NHWC", "HWIO", "NHWC"), (stride, stride)
    expected = jax.lax.conv_general_dilated(
        images, kernel, strides, "VALID", dimension_numbers=order
    )
    # Sums of up to 192 products of order 1 in single precision.
    np.testing.assert_allclose(found, expected + bias.reshape(1, 1, 1, 5), atol=5e-5)
