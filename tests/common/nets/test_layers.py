"""Small layers against their definitions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nets.dense import DenseParams, dense, init_dense
from common.nets.dropout import dropout
from common.nets.mlp import mlp


def test_a_dense_layer_is_an_affine_map_of_the_last_axis_in_the_type_of_its_input() -> None:
    x = np.float32(np.random.default_rng(0).normal(size=(2, 5, 4)))

    @jax.jit
    def all_of(key: jax.Array, x: jax.Array) -> Any:
        without = init_dense(jax.random.clone(key), 4, 3, has_bias=False)
        params = init_dense(key, 4, 3)
        outputs = dense(params, x), dense(without, x), dense(params, x.astype(jnp.bfloat16))
        return params, without, outputs

    params, without, outputs = jax.device_get(all_of(jax.random.key(0), x))
    wanted = x @ params.kernel
    # Sums of five numbers up to 3 in float32.
    np.testing.assert_allclose(outputs[0], wanted + params.bias, atol=1e-6)
    assert all(np.abs(leaf).max() <= 4**-0.5 for leaf in params)
    assert outputs[2].dtype == jnp.bfloat16
    np.testing.assert_array_equal(without.kernel, params.kernel)
    np.testing.assert_allclose(outputs[1], wanted, atol=1e-6)
    assert np.ptp(params.bias) > 0


def test_an_mlp_has_its_activation_between_layers_only() -> None:
    draw = np.random.default_rng(0).normal
    array = lambda x: jnp.asarray(x.astype(np.float32))
    sizes, x = ((4, 6), (6, 3)), np.float32(draw(size=(5, 4)))
    params = tuple(DenseParams(array(draw(size=s)), array(draw(size=s[1]))) for s in sizes)
    same = DenseParams(array(np.eye(4)), None)

    @jax.jit
    def both(params: Any, same: Any, x: jax.Array) -> Any:
        return mlp(params, x, activation=jnp.tanh), mlp((same, same), x)

    found, rectified = both(params, same, x)
    (kernel, bias), (last, last_bias) = jax.tree.map(np.asarray, params)
    hidden = np.tanh(x @ kernel + bias)
    # Sums of seven numbers up to 3 in float32.
    np.testing.assert_allclose(found, hidden @ last + last_bias, atol=1e-5)
    np.testing.assert_array_equal(rectified, np.maximum(x, 0))


@pytest.mark.parametrize("shape", [None, (50, 1, 8)])
def test_dropout_zeroes_entries_or_whole_slices_and_keeps_the_mean(
    shape: tuple[int, ...] | None,
) -> None:
    x = np.ones((50, 40, 8), np.float32)

    y = np.asarray(jax.jit(partial(dropout, rate=0.25, shape=shape))(jax.random.key(0), x))

    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    draws = y.size if shape is None else 50 * 8
    assert abs(y.mean() - 1) < 4 * (0.25 / 0.75 / draws) ** 0.5
    assert (y == y[:, :1]).all() == (shape is not None)
