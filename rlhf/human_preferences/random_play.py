"""What actions at random come to: a cell of tables that is no training run."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlhf.human_preferences.tasks import make_task
from rlhf.rollouts import collect, rewards_of, start


def random_play(config: ConfigDict) -> dict[str, float]:
    """Returns the returns of uniformly random actions, by the rater's goal and by the task.

    Of as many episodes as a policy is judged on, in the environment where it is judged.

    Raises:
        ValueError: For a task whose actions are numbers.
    """
    task = make_task(config)
    env = task.judged
    if not env.is_discrete:
        raise ValueError(f"random_play: actions of {env.name} are numbers, of no uniform law")

    def returns(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_start, key_steps = jax.random.split(key)
        begun = start(env, key_start, config.evaluation.episodes)
        act = lambda observations, noise: jnp.argmax(noise, axis=-1)  # Gumbel noise: uniform
        _, rollout = collect(env, act, begun, key_steps, env.horizon)
        goal, points = (rewards_of(reward, rollout) for reward in (task.goal, env.reward))
        return jnp.mean(jnp.sum(goal, axis=0)), jnp.mean(jnp.sum(points, axis=0))

    goal, points = jax.jit(returns)(jax.random.key(config.seed))
    return {"return": float(goal), "task_return": float(points)}
