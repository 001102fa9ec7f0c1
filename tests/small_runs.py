"""A small experiment in the process of the test, without checkpoints: trained, or drawn."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from common import program, sharding
from common.experiment import Experiment, build


def train(config: ConfigDict) -> tuple[Experiment, Any, Any]:
    """Returns the experiment, its data on the device, and its state after `num_steps`."""
    experiment = build(config)
    data = experiment.data()
    layout = program.layout(experiment, config, sharding.make_mesh({"data": 1}), data=data)
    data = sharding.place(data, jax.tree.map(lambda leaf: leaf.sharding, layout.data))
    key = program.root_key(config)
    state = program.lower_init(experiment, layout).compile()(key)
    step = program.lower_step(experiment, config, layout).compile()
    for first in range(0, config.num_steps, config.steps_per_call):
        batches = program.stack_batches(experiment, config, first)
        state, _ = step(state, data, program.place_batches(batches, layout), key, np.int32(first))
    return experiment, data, state


def drawn(config: ConfigDict, *, noise: float = 0.1) -> tuple[Experiment, Any, Any]:
    """Returns the experiment, its data, and a state nobody trained, but away from the initial one.

    For what holds for any parameters: those that start at 0 would not show a fault.
    """
    experiment, random = build(config), np.random.default_rng(0)
    state = jax.jit(experiment.init)(program.root_key(config))
    params = jax.tree.map(
        lambda leaf: leaf + noise * random.standard_normal(leaf.shape, np.float32), state.params
    )
    return experiment, jax.tree.map(np.asarray, experiment.data()), state._replace(params=params)
