"""Training on a set of examples: what the sections of a config make of a loss."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.data.epochs import epoch_indices
from common.errors import UserError
from common.supervised import stateful_training, take, training
from tests.common.small_problem import KEY, close, loss, problem
from tests.common.toys import toy_config

pytestmark = pytest.mark.usefixtures("float64")  # rounding must not hide a wrong term


def test_training_follows_optimizer_gradient_and_batch_size_of_the_config() -> None:
    params, data, rows = problem()
    sgd = {"name": "sgd", "learning_rate": 0.1}
    config = toy_config(optimizer=sgd, gradient={"name": "sam", "rho": 0.3}, seed=3, batch_size=5)

    def of_rows(params, data, batch, key):
        return loss(params, data, take(rows, batch["index"]), key)

    init, step, batch = training(config, lambda key: params, of_rows, num_train=24)
    state, metrics = jax.jit(step)(init(jax.random.key(0)), data, batch(4), jax.random.key(KEY))

    index = epoch_indices(3, 4, num_examples=24, batch_size=5)
    assert np.array_equal(batch(4)["index"], index)

    def value(params):
        return loss(params, data, take(rows, index), jax.random.key(KEY))[0]

    first = jax.grad(value)(params)
    worst = optax.tree.add_scale(params, 0.3 / optax.tree.norm(first), first)
    close(state.params, optax.tree.add_scale(params, -0.1, jax.grad(value)(worst)))
    close(metrics["loss"], value(params))


def test_stateful_training_carries_the_state_of_the_network() -> None:
    params, data, rows = problem()
    config = toy_config()

    def counted(params, seen, data, batch, key):
        return (*loss(params, data, take(rows, batch["index"]), key), seen + 1)

    init, step, batch = stateful_training(
        config, lambda key: (params, jnp.zeros(())), counted, num_train=24
    )
    state = init(jax.random.key(0))
    for number in range(3):
        state, _ = step(state, data, batch(number), jax.random.key(KEY))

    assert state.model_state == 3


@pytest.mark.parametrize("section", ["optimizer", "gradient"])
def test_a_section_that_makes_no_sense_is_told_when_the_experiment_is_built(section: str) -> None:
    changes: dict[str, Any] = {section: {"name": "adm"}}
    config = toy_config(**changes)

    with pytest.raises(UserError, match=rf"config\.{section}\.name='adm'"):
        training(config, lambda key: {}, loss, num_train=24)
