"""The README of this topic does what it says: a stranger's environment, and their own rewards."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.rollouts import Rollout, collect, start
from rlhf.training import train
from tests.processes import REPOSITORY

README = (REPOSITORY / "rlhf/README.md").read_text()
ENVIRONMENT, REWARDS, RATER = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:3]


def names_of(code: str) -> dict[str, Any]:
    """Returns what an example defines; it is to be short."""
    lines = [line for line in code.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import ", "from "))]) <= 20
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_a_strangers_environment_is_learned() -> None:
    """A dot that moves to the middle."""
    names = names_of(ENVIRONMENT)

    _, metrics = names["run"](jax.random.key(0))

    scores = np.asarray(metrics["mean_reward"])
    assert scores.shape == (20,)
    assert scores[0] < -0.4  # random walks
    assert scores[-3:].mean() > -0.15  # straight there: -0.1


@pytest.mark.slow  # the other examples are run by default
def test_a_policy_learns_what_a_rater_prefers() -> None:
    """The dot goes to the right edge, which the reward of its task does not say."""
    world, names = names_of(ENVIRONMENT), names_of(RATER)
    env, algorithm = world["env"], world["algorithm"]

    @jax.jit
    def run(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 4)
        reward = names["learned_reward"](env, keys[0])
        learner, _ = train(env, algorithm, reward, keys[1], **world["sizes"])
        act = partial(algorithm.act, learner.agent)
        begun = start(env, keys[2], 32)
        _, rollout = collect(env, act, begun, keys[3], env.horizon)
        return jnp.mean(rollout.next_states[-1, :, 0])

    assert run(jax.random.key(0)) > 0.8  # of 1; random walks end at 0 in the mean


def test_a_reward_is_of_what_the_rollout_holds() -> None:
    states = np.arange(12.0, dtype=np.float32).reshape(3, 2, 2)
    ends = np.zeros((3, 2), bool)
    numbers, never = jnp.asarray(states), jnp.asarray(ends)
    rollout = Rollout(numbers, numbers, numbers, numbers, numbers, never, never)
    rewards = names_of(REWARDS)

    np.testing.assert_array_equal(rewards["to_the_right"](rollout), states[..., 0])
    np.testing.assert_array_equal(rewards["by_what_is_seen"](rollout), states.sum(-1))
