"""Images with the batch last: the same convolutions and means as with the batch first."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nets import convolution as batch_first
from common.nets.batch_last import convolution, mean_pool


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (1, 2), (2, 1)])
def test_a_convolution_is_the_one_with_the_batch_first_and_so_are_its_gradients(
    k: int, stride: int
) -> None:
    draw = np.random.default_rng(0).normal
    x, kernel = (jnp.asarray(draw(size=s).astype(np.float32)) for s in ((5, 7, 6, 2), (k, k, 2, 3)))

    def last(kernel: jax.Array) -> jax.Array:
        found = convolution(x.transpose(3, 1, 2, 0), kernel, stride)
        return found.transpose(3, 1, 2, 0)

    def plain(kernel: jax.Array) -> jax.Array:
        return batch_first.convolution(x, kernel, stride)

    @jax.jit
    def both(kernel: jax.Array) -> Any:
        images = [way(kernel) for way in (last, plain)]
        losses = [lambda kernel, f=f: jnp.sum(jnp.sin(f(kernel))) for f in (last, plain)]
        return images, [jax.value_and_grad(loss)(kernel) for loss in losses]

    images, (found, wanted) = both(kernel)
    # float32 sums of 18 terms, and of all 210 pixels in the gradients, of size 10.
    chex.assert_trees_all_close(*images, atol=1e-5)
    chex.assert_trees_all_close(found, wanted, atol=1e-4)


def test_pools_are_means_over_squares_without_what_is_left_over() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)

    found = mean_pool(jnp.asarray(x))

    wanted = [[x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in (0, 2, 4)] for i in (0, 2)]
    chex.assert_trees_all_close(found, np.array(wanted).transpose(2, 0, 1, 3), atol=1e-6)
    with pytest.raises(ValueError, match="images of 2 x 6 pixels, pooled over 3 x 3"):
        mean_pool(jnp.zeros((1, 2, 6, 1)), 3)
