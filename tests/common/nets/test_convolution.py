"""The convolution with its own gradient against JAX's."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest

from common.nets.convolution import convolution


@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [((2, 6, 5, 3), 3, 1), ((2, 6, 5, 3), 3, 2), ((1, 8, 7, 2), 1, 2)],
)
def test_value_and_gradients_are_those_of_jax_also_in_a_loop(
    shape: tuple[int, ...], size: int, stride: int
) -> None:
    keys = jax.random.split(jax.random.key(0))
    with jax.enable_x64(True):
        x = jax.random.normal(keys[0], shape, dtype=float)
        kernel = jax.random.normal(keys[1], (size, size, shape[-1], 4), dtype=float)

        def theirs(x: jax.Array, kernel: jax.Array) -> jax.Array:
            layout = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                x, kernel, (stride, stride), "SAME", dimension_numbers=layout
            )

        def answers(convolve: Any, x: jax.Array, kernel: jax.Array) -> Any:
            y, pull_back = jax.vjp(convolve, x, kernel)
            return y, pull_back(jnp.sin(jnp.arange(y.size, dtype=float)).reshape(y.shape))

        def looped(x: jax.Array, kernel: jax.Array) -> Any:
            one = partial(answers, partial(convolution, stride=stride))
            return jax.lax.map(lambda _: one(x, kernel), jnp.arange(2))

        wanted = jax.jit(partial(answers, theirs))(x, kernel)
        found = jax.jit(looped)(x, kernel)

        for i in range(2):  # sums of up to 100 terms of order 1
            each = jax.tree.map(lambda leaf, i=i: leaf[i], found)
            chex.assert_trees_all_close(each, wanted, rtol=0, atol=1e-12)
