"""What is to be learned: an environment, and the reward by which a simulated rater judges it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from rlhf import envs, simulators
from rlhf.envs import pendulum, reacher
from rlhf.envs.environment import Environment
from rlhf.simulators.games import ENDLESS, GAMES, clipped_points
from rlhf.simulators.robots import backflip, steady_run

Goal = Callable[..., Array]  # (state, action, next_state) -> reward
GOALS: dict[str, dict[str, Goal]] = {  # beside the task's own
    "pendulum": {"spin": pendulum.spin_reward, "scaled": pendulum.scaled_reward},
    "reacher": {"scaled": reacher.scaled_reward},
    "half_cheetah": {"speed": steady_run},
    "hopper": {"backflip": backflip},
    **{name: {"clipped": partial(clipped_points, name)} for name in GAMES},
}
OPTIONS = ("horizon", "side")  # of `config.task`, 0 or none: the environment's own


class Task(NamedTuple):
    """A task to learn.

    Attributes:
        env: Where the policy acts in training.
        judged: The same without an end: where it is judged.
        goal: What the rater prefers; of `env.reward` if the task's own.
    """

    env: Environment
    judged: Environment
    goal: Goal


def make_task(config: ConfigDict) -> Task:
    """Returns the task of `config.task`.

    Raises:
        ValueError: For an unknown environment or goal.
    """
    section = config.task
    options = {name: section[name] for name in OPTIONS if section.get(name, 0)}
    make = simulators.make if section.name in simulators.SIMULATORS else envs.make
    judged = make(section.name, **options)
    # A game never ends for its learner: only where it is judged episodes are of one length.
    env = judged._replace(horizon=ENDLESS) if section.name in GAMES else judged
    if section.leak:
        env = _leaking(judged, section.name, options)
    return Task(env, judged, goal_of(judged, section.goal))


def _leaking(env: Environment, name: str, options: dict[str, Any]) -> Environment:
    """Returns the task with an end that tells the learner about it.

    Raises:
        ValueError: If it has none.
    """
    if name != "cart_pole":
        raise ValueError(f"config.task.leak=True: {env.name} has no end; only cart_pole has")
    return envs.make(name, **options, ends_on_fall=True)


def goal_of(env: Environment, name: str) -> Goal:
    """Returns a goal by its name: "task" for the reward of the environment.

    Raises:
        ValueError: If the environment has none of this name.
    """
    known = GOALS.get(env.name, {})
    if name == "task":
        return env.reward
    if name not in known:
        allowed = ", ".join(("task", *known))
        raise ValueError(f"config.task.goal={name!r}: of {env.name} expected one of {allowed}")
    return known[name]


def steps_seen(env: Environment, observations: Array, actions: Array) -> Float[Array, "..."]:
    """Returns what a reward model of vectors sees of every step: observation and action."""
    act = jax.nn.one_hot(actions, env.action_size) if env.is_discrete else jnp.clip(actions, -1, 1)
    lead = observations.shape[: observations.ndim - len(env.observation_shape)]
    return jnp.concatenate([observations.reshape(*lead, -1), act], axis=-1)
