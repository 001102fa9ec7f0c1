"""A linen module as a pair of pure functions: nothing is added and nothing is lost."""

from typing import Any

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from common.nets.batch_norm import BatchNorm
from common.networks import from_linen, from_stateful_linen
from common.steps import init_train_state, stateful_step


class Small(nn.Module):
    """Two inputs, dropout in training, one option."""

    @nn.compact
    def __call__(self, x: jax.Array, shift: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))
        return x + shift


EXAMPLE = (jax.ShapeDtypeStruct((1, 4), jnp.float32), jax.ShapeDtypeStruct((1, 3), jnp.float32))


def test_parameters_are_the_plain_tree_of_the_module_whatever_the_example_holds() -> None:
    params = from_linen(Small(), *EXAMPLE).init(jax.random.key(3))
    arrays = from_linen(Small(), jnp.full((7, 4), 5.0), jnp.ones((1, 3))).init(jax.random.key(3))
    module = Small().init(jax.random.key(3), jnp.zeros((1, 4)), jnp.zeros((1, 3)))["params"]

    chex.assert_trees_all_equal(params, module)
    chex.assert_trees_all_equal(params, arrays)
    assert type(params) is dict and type(params["Dense_0"]) is dict
    assert sorted(params["Dense_0"]) == ["bias", "kernel"]


def test_apply_is_the_formula_of_the_module_and_passes_its_options_on() -> None:
    network = from_linen(Small(), *EXAMPLE)
    params = network.init(jax.random.key(0))
    x, shift = jax.random.normal(jax.random.key(1), (5, 4)), jnp.ones((5, 3))

    output = jax.jit(network.apply)(params, x, shift)
    kernel, bias = (np.asarray(params["Dense_0"][name]) for name in ("kernel", "bias"))
    by_hand = np.asarray(x, np.float64) @ kernel + bias + 1

    assert np.allclose(output, by_hand, atol=1e-5)
    rngs = {"dropout": jax.random.key(2)}
    dropped = network.apply(params, x, shift - 1, train=True, rngs=rngs)
    kept = dropped != 0
    assert 0 < np.mean(kept) < 1
    assert np.allclose(dropped[kept], 2 * (by_hand - 1)[kept], atol=1e-5)


def test_a_network_can_be_initialized_abstractly_and_over_members() -> None:
    network = from_linen(Small(), *EXAMPLE)
    keys = jax.random.split(jax.random.key(0), 3)

    abstract = jax.eval_shape(network.init, jax.random.key(0))
    members = jax.vmap(network.init)(keys)

    assert abstract["Dense_0"]["kernel"].shape == (4, 3)
    assert members["Dense_0"]["kernel"].shape == (3, 4, 3)
    one = network.init(keys[1])
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], members), one, atol=1e-6)


def test_a_module_with_batch_statistics_is_refused_at_its_first_use() -> None:
    network = from_linen(nn.BatchNorm(use_running_average=True), EXAMPLE[0])
    params = network.init(jax.random.key(0))

    with pytest.raises(flax.errors.FlaxError):
        network.apply(params, jnp.ones((2, 4)))


class Normed(nn.Module):
    """A dense layer behind batch normalization."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return nn.Dense(1)(BatchNorm(momentum=0.5)(x, train=train))


def test_a_network_with_statistics_is_trained_by_the_stateful_step() -> None:
    network = from_stateful_linen(Normed(), EXAMPLE[0])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 4)) * 3 + 1, jnp.float32)
    y = 2 * x[:, :1] - 1

    def loss(params: Any, model_state: Any, data: Any, batch: Any, key: Any) -> Any:
        del data, key
        out, model_state = network.apply(params, model_state, batch["x"], train=True)
        return jnp.mean((out - batch["y"]) ** 2), {}, model_state

    optimizer = optax.sgd(0.05)
    params, model_state = network.init(jax.random.key(0))
    state = init_train_state(params, optimizer, model_state)
    step = jax.jit(stateful_step(loss, optimizer))
    for number in range(200):
        state, metrics = step(state, {}, {"x": x, "y": y}, jax.random.key(number))
    out, same = jax.jit(network.apply)(state.params, state.model_state, x)

    assert float(metrics["loss"]) < 1e-3
    # Running statistics have become those of the one batch: 0.5^200 of the start is left.
    np.testing.assert_allclose(same["BatchNorm_0"]["mean"], x.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(same["BatchNorm_0"]["var"], x.var(0), rtol=1e-4)
    np.testing.assert_allclose(out, y, atol=0.5)
    chex.assert_trees_all_equal(same, state.model_state)


def test_a_network_without_statistics_has_an_empty_state() -> None:
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
            return nn.Dense(1)(x)

    network = from_stateful_linen(Plain(), EXAMPLE[0])
    params, state = network.init(jax.random.key(0))

    assert state == {}
    assert network.apply(params, state, jnp.ones((2, 4)), train=True)[1] == {}
