"""The README of this topic does what it says: a stranger's environment, and their own rewards."""

import re
from typing import Any

import jax
import numpy as np

from rlhf.rollouts import Rollout
from rlhf.training import train
from tests.processes import REPOSITORY

README = (REPOSITORY / "rlhf/README.md").read_text()
ENVIRONMENT, REWARDS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:2]


def names_of(code: str) -> dict[str, Any]:
    """Returns what an example defines; it is to be short."""
    assert len([line for line in code.splitlines() if line.strip()]) <= 21
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_a_strangers_environment_is_learned_from_its_own_reward_and_from_another() -> None:
    """A dot that moves to the middle; and to the upper right, of which its reward knows nothing."""
    names, rewards = names_of(ENVIRONMENT), names_of(REWARDS)
    env, algorithm, sizes = (names[name] for name in ("env", "algorithm", "sizes"))

    _, metrics = names["run"](jax.random.key(0))
    scores = np.asarray(metrics["mean_reward"])
    assert scores.shape == (20,)
    assert scores[0] < -0.4  # random walks
    assert scores[-3:].mean() > -0.15  # straight there: -0.1

    judged = env._replace(reward=lambda place, action, after: place[0] + place[1])
    reward = rewards["by_what_is_seen"]
    run = jax.jit(lambda key: train(judged, algorithm, reward, key, **sizes)[1]["mean_reward"])
    scores = np.asarray(run(jax.random.key(1)))
    assert np.abs(scores[0]) < 0.4
    assert scores[-3:].mean() > 0.7  # straight there: 2 (1 - (4/3) / 5) = 1.47


def test_a_reward_is_of_what_the_rollout_holds() -> None:
    states = np.arange(12.0, dtype=np.float32).reshape(3, 2, 2)
    ends = np.zeros((3, 2), bool)
    rollout = Rollout(states, states, states, states, states, ends, ends)
    rewards = names_of(REWARDS)

    np.testing.assert_array_equal(rewards["to_the_right"](rollout), states[..., 0])
    np.testing.assert_array_equal(rewards["by_what_is_seen"](rollout), states.sum(-1))
