"""Compiled programs: the key a step sees, several steps a call, and no data in the program."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import sharding
from common.errors import UserError
from common.evaluation import means
from common.experiment import Experiment
from common.keys import root_key
from common.loop import program
from tests.common.toys import regression, toy_config, train
from tests.lowered import largest_constant

PyTree = Any


def layout_of(experiment: Experiment, config: ConfigDict) -> program.Layout:
    return program.layout(experiment, config, sharding.make_mesh(dict(config.mesh)))


def drawing(config: ConfigDict) -> Experiment:
    """An experiment whose state, metrics and evaluation are the random bits of their keys."""

    def bits(key: jax.Array) -> jax.Array:
        return jax.random.bits(key)

    def evaluate(state: PyTree, data: PyTree, key: jax.Array) -> PyTree:
        return {"bits": (bits(key), jnp.float32(1))}

    return Experiment(
        data=dict,
        init=lambda key: {"bits": bits(key)},
        step=lambda state, data, batch, key: (state, {"bits": bits(key), "step": batch["step"]}),
        batch=lambda step: {"step": np.int32(step) * np.ones((), np.int32)},
        evaluate=evaluate,
    )


def bits_by_hand(config: ConfigDict, *numbers: int) -> int:
    key = jax.random.key(config.seed)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return int(jax.random.bits(key))


@pytest.mark.parametrize("steps_per_call", [1, 2, 4])
def test_every_step_sees_the_key_and_the_batch_of_its_number(steps_per_call: int) -> None:
    config = toy_config(seed=11, steps_per_call=steps_per_call)

    state, metrics = train(drawing(config), config)

    assert metrics["step"].tolist() == list(range(8))
    assert metrics["bits"].tolist() == [bits_by_hand(config, 1, step) for step in range(8)]
    assert state["bits"] == bits_by_hand(config, 0)
    assert len({*metrics["bits"].tolist(), int(state["bits"])}) == 9


def test_a_step_without_a_gradient_of_ours_is_refused_as_deterministic() -> None:
    config = toy_config(deterministic=True)
    experiment = drawing(config)

    with pytest.raises(UserError, match=r"config\.deterministic=True: .*gradient_step"):
        program.lower_step(experiment, config, layout_of(experiment, config))


def test_evaluation_has_a_key_of_its_own() -> None:
    config = toy_config(seed=11)
    experiment = drawing(config)
    layout = layout_of(experiment, config)
    state = program.lower_init(experiment, layout).compile()(root_key(config))

    evaluated = program.lower_evaluate(experiment.evaluate, layout).compile()
    total, count = evaluated(state, {}, root_key(config))["bits"]

    assert (int(total), count) == (bits_by_hand(config, 2), 1)
    again = program.evaluate(experiment.evaluate, state, {}, root_key(config))
    assert np.float32(again["bits"]) == np.float32(bits_by_hand(config, 2))


def test_four_steps_in_one_call_are_four_steps() -> None:
    one, four = toy_config(), toy_config(steps_per_call=4)

    single_state, single = train(regression(one), one)
    state, metrics = train(regression(four), four)

    assert np.array_equal(metrics["noise"], single["noise"])  # the keys, bit by bit
    assert len(set(metrics["noise"])) == 8
    # XLA may fuse the body of a loop in another way: last bits, carried through 8 Adam steps.
    chex.assert_trees_all_close(metrics, single, rtol=1e-5)
    chex.assert_trees_all_close(state, single_state, rtol=1e-3, atol=1e-6)


def test_the_batches_of_one_call_are_those_of_its_steps() -> None:
    config = toy_config(steps_per_call=4)
    experiment = regression(config)

    rows = program.place_batches(
        program.stack_batches(experiment, config, 4), layout_of(experiment, config)
    )

    assert rows["index"].shape == (4, 16)
    for i in range(4):
        assert np.array_equal(rows["index"][i], experiment.batch(4 + i)["index"])


def test_the_state_is_donated_and_data_and_batches_are_not() -> None:
    config = toy_config()
    experiment = regression(config)
    layout = layout_of(experiment, config)
    key = root_key(config)
    state = program.lower_init(experiment, layout).compile()(key)
    data, batch = jax.tree.map(jnp.asarray, (experiment.data(), experiment.batch(0)))

    new_state, _ = program.lower_step(experiment, config, layout).compile()(
        state, data, batch, key, np.int32(0)
    )

    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    kept = jax.tree.leaves((new_state, data, batch, key))
    assert not any(leaf.is_deleted() for leaf in kept)


def of_images(count: int) -> tuple[Experiment, ConfigDict]:
    """A linear model of `count` images of 28x28 bytes; the images are never made."""
    config = toy_config()
    shapes = {"images": jax.ShapeDtypeStruct((count, 784), jnp.uint8)}

    def step(state: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        rows = data["images"][batch["index"]].astype(jnp.float32)
        return state - jnp.mean(rows, axis=0), {"mean": jnp.mean(rows @ state)}

    one = regression(config)
    changes = {"init": lambda key: jnp.zeros(784), "step": step, "abstract_data": lambda: shapes}
    return one._replace(data=lambda: 1 / 0, **changes), config


def test_the_program_does_not_grow_with_the_data() -> None:
    texts = []
    for count in (1_000, 121_000):  # the second: 95 MB
        experiment, config = of_images(count)
        layout = layout_of(experiment, config)
        texts.append(program.lower_step(experiment, config, layout).as_text())

    small, large = texts
    assert "tensor<121000x784xui8>" in large
    assert abs(len(large) - len(small)) < 1_000
    assert len(large) < 1_000_000
    assert largest_constant(large) <= 65_536


def test_a_closure_does_grow_the_program_which_the_bound_would_see() -> None:
    experiment, config = of_images(1_000)
    images = np.random.default_rng(0).integers(0, 256, (1_000, 784), np.uint8)
    inner = experiment.step

    def step(state: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        return inner(state, {"images": jnp.asarray(images)}, batch, key)

    closing = experiment._replace(step=step)

    text = program.lower_step(closing, config, layout_of(closing, config)).as_text()

    assert len(text) > 1_000_000
    assert largest_constant(text) == 784_000


def test_means_are_floats_or_one_float_for_each_seed_of_a_group() -> None:
    one = {"a": (jnp.float32(6), jnp.float32(4)), "b": (jnp.int32(1), jnp.float32(8))}
    group = {"a": (jnp.array([6.0, 2.0]), jnp.array([4.0, 8.0]))}

    assert means(one) == {"a": 1.5, "b": 0.125}
    assert means(group) == {"a": [1.5, 0.25]}
    assert all(type(value) is float for value in means(one).values())


def test_the_first_leaf_with_a_nan_is_found_and_infinities_are_left_alone() -> None:
    good = {"a": jnp.ones(3), "b": jnp.full(2, jnp.inf), "c": jnp.arange(3), "d": jnp.zeros(())}

    assert program.first_nan(good) == -1
    assert program.first_nan({**good, "d": jnp.float32(jnp.nan)}) == 2  # integers do not count
    bad = {**good, "b": jnp.array([0, jnp.nan]), "d": jnp.float32(jnp.nan)}
    assert jax.jit(program.first_nan)(bad) == 1
    assert program.first_nan({"c": jnp.arange(3)}) == -1
