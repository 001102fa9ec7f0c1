"""A small experiment: in the process of the test, trained or drawn, or in one of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common import sharding
from common.experiment import Experiment, build
from common.keys import root_key
from common.loop import program
from tests.processes import Child


def train(config: ConfigDict) -> tuple[Experiment, Any, Any]:
    """Returns the experiment, its data on the device, and its state after `num_steps`."""
    experiment = build(config)
    data = experiment.data()
    layout = program.layout(experiment, config, sharding.make_mesh({"data": 1}), data=data)
    data = sharding.place(data, jax.tree.map(lambda leaf: leaf.sharding, layout.data))
    key = root_key(config)
    state = program.lower_init(experiment, layout).compile()(key)
    step = program.lower_step(experiment, config, layout).compile()
    for first in range(0, config.num_steps, config.steps_per_call):
        batches = program.stack_batches(experiment, config, first)
        state, _ = step(state, data, program.place_batches(batches, layout), key, np.int32(first))
    return experiment, data, state


def drawn(config: ConfigDict, *, scale: float = 0.3) -> tuple[Experiment, Any, Any]:
    """Returns the experiment, its data, and a state whose parameters are draws from N(0, scale^2).

    For what holds for any parameters: those that start at 0 would not show a fault.
    """
    experiment = build(config)
    shapes = jax.eval_shape(experiment.init, root_key(config))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = zeros._replace(params=draws_like(shapes.params, scale=scale))
    return experiment, experiment.data(), state


def draws_like(shapes: Any, *, scale: float = 0.3) -> Any:
    """Returns draws from N(0, scale^2) in these shapes: a program less than initializing."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * random.standard_normal(leaf.shape), leaf.dtype), shapes
    )


def last_metrics(
    child: Child, spec: str, fields: Mapping[str, str], folder: Path, *, devices: int
) -> dict[str, float]:
    """Returns the last metrics of a run in a process of its own, on so many devices."""
    workdir = folder / str(devices)
    arguments = ["train", f"--config={spec}", f"--workdir={workdir}"]
    arguments += [f"--config.{name}={value}" for name, value in fields.items()]
    done = child(arguments, devices=devices, seconds=300)
    assert done.returncode == 0, done.stderr
    (path,) = workdir.glob("*/*/*/seed0/result.json")
    return json.loads(path.read_text())["metrics"]["last"]


def power_cut(experiment: Experiment, step: int) -> Experiment:
    """Returns the experiment with a batch that fails at `step`, once the run has come there."""
    cut = iter((False, True))  # all batches are looked at before the first step

    def batch(number: int) -> Any:
        if number == step and next(cut):
            raise RuntimeError("power cut")
        return experiment.batch(number)

    return experiment._replace(batch=batch)
