"""Runs in simulators: what is interrupted goes on to the bit, on the host's side too."""

import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.config import load_config
from common.experiment import build
from common.loop import train
from rlhf.simulators import physics
from tests.small_runs import power_cut

FOLDER = "rlhf/human_preferences/configs"
SMALL = {
    "seed_group": "1",
    "num_steps": "4",
    "steps_per_call": "1",
    "log_every": "1",
    "checkpoint_every": "2",
    "learner.envs": "3",
    "labels.total": "4",
    "labels.capacity": "4",
    "labels.slots": "2",
    "clip.length": "3",
    "reward.hidden": "(4,)",
    "reward.batch_size": "2",
    "reward.steps": "1",
    "reward.rounds": "1",
    "reward.sample": "0",
    "evaluation.episodes": "2",
}
ROBOT = {"learner.steps": "10", "learner.hidden": "(4,)"}
GAME = {
    "task.side": "24",
    "task.horizon": "8",
    "learner.steps": "6",
    "learner.unroll": "3",
    "learner.layers": "((2, 4, 4),)",
    "learner.hidden": "(4,)",
    "reward.layers": "((2, 4, 4),)",
    "reward.pretraining_epochs": "1",
}


def config_of(file: str, fields: dict[str, str]) -> ConfigDict:
    return load_config(f"{FOLDER}/{file}", {**SMALL, **fields})


def digest(folder: Path) -> str:
    """Returns the digest of the last state of a run."""
    result = runs.read_result(folder)
    assert result is not None
    return result["state_sha256"]


def goes_on_to_the_bit(config: ConfigDict, folder: Path) -> None:
    """Checks that a run with a power cut ends in the same state as one without."""
    whole, cut = folder / "whole", folder / "cut"
    train.fit(build(config), config, whole)
    with pytest.raises(Exception, match="power cut"):
        train.fit(power_cut(build(config), 3), config, cut)
    train.fit(build(config), config, cut)
    assert digest(cut) == digest(whole)


needs_mujoco = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mujoco", "gymnasium"))),
    reason="needs MuJoCo: pip install 'jax-paper-lab[rl]'",
)


@pytest.mark.slow
@needs_mujoco
def test_a_state_that_was_put_away_goes_on_to_the_bit_in_another_simulator() -> None:
    config = config_of("mujoco.py:cpu,task=inverted_pendulum,source=true", ROBOT)
    experiment = build(config)
    data, step = experiment.data(), jax.jit(experiment.step)
    keys = jax.random.split(jax.random.key(1), config.num_steps)
    states = [jax.jit(experiment.init)(jax.random.key(0))]
    for number, key in enumerate(keys):
        states.append(step(states[-1], data, experiment.batch(number), key)[0])

    away = jax.device_get(states[2])
    physics._scratch.cache_clear()  # as in a process of its own
    again = jax.device_put(away)
    for number in (2, 3):
        again, _ = step(again, data, experiment.batch(number), keys[number])

    ours, theirs = (jax.tree.leaves(jax.device_get(state)) for state in (again, states[4]))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert (positions(states[2]) != positions(states[4])).any()  # they moved


def positions(state: Any) -> np.ndarray:
    return np.asarray(state.learner.env_states.state.positions)


@needs_mujoco
@pytest.mark.slow
@pytest.mark.parametrize("task", ["inverted_pendulum", "backflip"])
def test_a_robot_goes_on_to_the_bit(tmp_path: Path, task: str) -> None:
    goes_on_to_the_bit(config_of(f"mujoco.py:cpu,task={task}", ROBOT), tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("ale_py") is None,
    reason="needs ale-py: pip install 'jax-paper-lab[atari]'",
)
@pytest.mark.slow
def test_a_game_goes_on_to_the_bit(tmp_path: Path) -> None:
    goes_on_to_the_bit(config_of("atari.py:cpu,task=pong", GAME), tmp_path)
