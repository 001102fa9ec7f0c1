"""What a run has come to: its policy on fresh episodes, and what its reward model knows of them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from common.experiment import SumCount
from rlhf.ensemble import predict
from rlhf.human_preferences import labeling
from rlhf.human_preferences.labeling import Recording
from rlhf.human_preferences.learning import (
    Parts,
    State,
    correlation,
    first_steps,
    learned_rewards,
    seen_in,
)
from rlhf.human_preferences.models import learner_of
from rlhf.preference import clip_logit, clip_sum
from rlhf.rollouts import Rollout, collect, rewards_of, start

Numbers = dict[str, Any]


def episodes(parts: Parts, state: State, data: Numbers, key: PRNGKeyArray, count: int) -> Rollout:
    """Returns whole episodes of the policy, in the environment where it is judged."""
    key_start, key_steps = jax.random.split(key)
    algorithm, env = learner_of(parts.config, parts.networks, data), parts.task.judged
    policy = partial(algorithm.act, state.learner.agent)
    begun = start(env, key_start, count)
    return collect(env, policy, begun, key_steps, env.horizon)[1]


def evaluate(parts: Parts, state: State, data: Numbers, key: PRNGKeyArray) -> dict[str, SumCount]:
    """Returns the return per episode by the rater's goal and by the task, and whether it is enough.

    `agreement` is the share of fresh pairs of clips that the reward model orders as the goal does.
    """
    section, task = parts.config.evaluation, parts.task
    key_episodes, key_pairs = jax.random.split(key)
    rollout = episodes(parts, state, data, key_episodes, section.episodes)
    goal = rewards_of(task.goal, rollout)
    mean = jnp.mean(jnp.sum(goal, axis=0))
    found = {
        "return": mean,
        "per_step": mean / task.judged.horizon,
        "task_return": jnp.mean(jnp.sum(rewards_of(task.judged.reward, rollout), axis=0)),
        "solved": (mean > section.solved).astype(jnp.float32),
    }
    if parts.asks:
        found |= _of_reward(parts, state, data, rollout, goal, key_pairs)
    one = jnp.ones(())
    return {name: (value, one) for name, value in found.items()}


def _of_reward(
    parts: Parts, state: State, data: Numbers, rollout: Rollout, goal: Array, key: PRNGKeyArray
) -> dict[str, Array]:
    """Returns how well the reward model knows the goal on these episodes."""
    judge, config = state.judge, parts.config
    rewards, _ = learned_rewards(parts, judge, data, seen_in(parts, rollout))
    recording = Recording(rewards, goal, first_steps(rollout))
    pairs = labeling.candidates(key, recording, parts.asking)
    logit = clip_logit(pairs.seen[:, 0], pairs.seen[:, 1])
    worth = clip_sum(pairs.goal)
    right = jnp.sign(logit) == jnp.sign(worth[:, 0] - worth[:, 1])
    shown = 2 * config.clip.length * judge.asked
    taken = config.num_steps * config.learner.envs * config.learner.steps
    return {
        "correlation": correlation(rewards, goal),
        "agreement": jnp.mean(right.astype(jnp.float32)),
        "labels": judge.asked.astype(jnp.float32),
        "shown_percent": 100 * shown / taken,
    }


def shown_episode(
    parts: Parts, state: State, data: Numbers, key: PRNGKeyArray, count: int
) -> dict[str, Array]:
    """Returns episodes to draw: poses and rewards of every step, [steps, count, ...]."""
    rollout = episodes(parts, state, data, key, count)
    pose = jax.vmap(jax.vmap(parts.task.judged.pose))(rollout.states)
    goal = rewards_of(parts.task.goal, rollout)
    found = {"segments": pose.segments, "circles": pose.circles, "goal": goal}
    if parts.asks:
        seen = seen_in(parts, rollout)
        found["reward"] = learned_rewards(parts, state.judge, data, seen)[0]
        found["members"] = predict(state.judge.ensemble, parts.how, seen)
    return found
