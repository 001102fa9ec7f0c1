"""Reinforcement learning with any reward: rollout, rewards, update, and nothing else."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf.algorithms import Agent, Algorithm, Metrics
from rlhf.devices import mean_over
from rlhf.envs.environment import Environment
from rlhf.rollouts import EnvStates, Rollout, collect, rewards_of, start

Reward = Callable[[Rollout], Float[Array, "steps envs"]]


class Learner(NamedTuple):
    """An agent and the environments that it is in."""

    agent: Agent
    env_states: EnvStates


def true_reward(env: Environment) -> Reward:
    """Returns the reward of the task, as `iterate` takes it."""
    return partial(rewards_of, env.reward)


def init_learner(
    env: Environment,
    algorithm: Algorithm,
    key: PRNGKeyArray,
    *,
    num_envs: int,
    axis: str | None = None,
) -> Learner:
    """Returns a new agent at the beginning of `num_envs` episodes (of each device)."""
    key_agent, key_envs = jax.random.split(key)
    return Learner(algorithm.init(key_agent), start(env, key_envs, num_envs, axis=axis))


def iterate(
    env: Environment,
    algorithm: Algorithm,
    reward: Reward,
    learner: Learner,
    key: PRNGKeyArray,
    *,
    num_steps: int,
    axis: str | None = None,
) -> tuple[Learner, Metrics]:
    """Returns the learner after one rollout and one update, and what there is to say of both.

    `mean_reward` is the true one per step, whatever was learned from.
    """
    key_rollout, key_update = jax.random.split(key)
    policy = partial(algorithm.act, learner.agent)
    env_states, rollout = collect(
        env, policy, learner.env_states, key_rollout, num_steps, axis=axis
    )
    agent, metrics = algorithm.update(learner.agent, rollout, reward(rollout), key_update)
    score = mean_over(axis, jnp.mean(rewards_of(env.reward, rollout)))
    return Learner(agent, env_states), {**metrics, "mean_reward": score}


def train(
    env: Environment,
    algorithm: Algorithm,
    reward: Reward,
    key: PRNGKeyArray,
    *,
    num_envs: int,
    num_steps: int,
    iterations: int,
    axis: str | None = None,
) -> tuple[Learner, Metrics]:
    """Returns the learner after a whole run, and metrics of every iteration [iterations].

    One program: `jax.jit` it, and `jax.vmap` it over keys for several seeds.
    """
    key_init, key_run = jax.random.split(key)
    learner = init_learner(env, algorithm, key_init, num_envs=num_envs, axis=axis)

    def step(learner: Learner, index: jax.Array) -> tuple[Learner, Metrics]:
        key = jax.random.fold_in(key_run, index)
        return iterate(env, algorithm, reward, learner, key, num_steps=num_steps, axis=axis)

    return jax.lax.scan(step, learner, jnp.arange(iterations))
