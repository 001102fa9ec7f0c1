"""Small layers against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nets.dense import DenseParams, dense, init_dense
from common.nets.dropout import dropout
from common.nets.mlp import init_mlp, mlp


def test_a_dense_layer_is_an_affine_map_of_the_last_axis_in_the_type_of_its_input() -> None:
    params = init_dense(jax.random.key(0), 4, 3)
    x = jax.random.normal(jax.random.key(1), (2, 5, 4))

    assert params.bias is not None
    np.testing.assert_allclose(dense(params, x), x @ params.kernel + params.bias[None, None])
    assert all(jnp.abs(leaf).max() <= 4**-0.5 for leaf in jax.tree.leaves(params))
    assert dense(params, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    without = init_dense(jax.random.key(0), 4, 3, has_bias=False)
    np.testing.assert_array_equal(without.kernel, params.kernel)
    np.testing.assert_allclose(dense(without, x), x @ params.kernel)


def test_an_mlp_has_its_activation_between_layers_only() -> None:
    params = init_mlp(jax.random.key(0), (4, 6, 3))
    x = jax.random.normal(jax.random.key(1), (5, 4))

    hidden = jnp.tanh(dense(params[0], x))

    np.testing.assert_array_equal(mlp(params, x, activation=jnp.tanh), dense(params[1], hidden))
    same = DenseParams(jnp.eye(4), None)
    np.testing.assert_array_equal(mlp((same, same), x), jnp.maximum(x, 0))


@pytest.mark.parametrize("shape", [None, (50, 1, 8)])
def test_dropout_zeroes_entries_or_whole_slices_and_keeps_the_mean(
    shape: tuple[int, ...] | None,
) -> None:
    x = jnp.ones((50, 40, 8))

    y = np.asarray(dropout(jax.random.key(0), x, rate=0.25, shape=shape))

    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    draws = y.size if shape is None else 50 * 8
    assert abs(y.mean() - 1) < 4 * (0.25 / 0.75 / draws) ** 0.5
    assert (y == y[:, :1]).all() == (shape is not None)
