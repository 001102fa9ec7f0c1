"""Rollouts: many environments a policy steps side by side, without any reward."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlhf.devices import environment_indices
from rlhf.envs.environment import Environment

State = Any
Act = Callable[[jax.Array, jax.Array], jax.Array]  # (observations, noise) -> actions


class EnvStates(NamedTuple):
    """Environments under way: their states, and the steps since each was reset."""

    state: State  # leaves [envs, ...]
    age: Int[Array, " envs"]


class Rollout(NamedTuple):
    """What happened, step by step: leaves [steps, envs, ...]. It holds no reward.

    Attributes:
        states: Before each action; what raters and drawings start from.
        next_states: After it, before any reset.
        observations: Of `states`.
        next_observations: Of `next_states`.
        actions: What the policy did.
        terminated: Whether the task ended there; False throughout where nothing ends it.
        truncated: Whether only the recording ended there, at the horizon.
    """

    states: State
    next_states: State
    observations: Array
    next_observations: Array
    actions: Array
    terminated: Bool[Array, "steps envs"]
    truncated: Bool[Array, "steps envs"]

    @property
    def ended(self) -> Bool[Array, "steps envs"]:
        """Whether the step after this one is of another episode."""
        return self.terminated | self.truncated


def start(
    env: Environment, key: PRNGKeyArray, num_envs: int, *, axis: str | None = None
) -> EnvStates:
    """Returns `num_envs` environments at the beginning of an episode (of each device)."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, environment_indices(num_envs, axis))
    state = jax.vmap(env.reset)(keys)
    # Of strong types: a loop would be compiled a second time for its own result.
    state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
    return EnvStates(state, jnp.zeros(num_envs, jnp.int32))


def collect(
    env: Environment,
    act: Act,
    env_states: EnvStates,
    key: PRNGKeyArray,
    num_steps: int,
    *,
    axis: str | None = None,
    first: Int[Array, ""] | int = 0,
) -> tuple[EnvStates, Rollout]:
    """Steps all environments `num_steps` times and resets each at its horizon.

    Each environment draws from a stream of its own, whatever device it is on.

    Args:
        env: The task.
        act: (observations [envs, ...], noise [envs, action_size]) -> actions. The noise is
            standard normal for continuous actions and standard Gumbel for discrete ones.
        env_states: Where the environments are, as `start` or the last call left them.
        key: Of this call.
        num_steps: How many steps.
        axis: The mesh axis that environments are split over, inside `jax.shard_map`.
        first: The number of the first environment, where these are a part of all.
    """
    num_envs = env_states.age.shape[0]
    draw = jax.random.gumbel if env.is_discrete else jax.random.normal

    def draws(index: jax.Array) -> tuple[jax.Array, jax.Array, State]:
        key_noise, key_steps, key_resets = jax.random.split(jax.random.fold_in(key, index), 3)
        noise = draw(key_noise, (num_steps, env.action_size))
        resets = jax.vmap(env.reset)(jax.random.split(key_resets, num_steps))
        steps = jax.random.key_data(jax.random.split(key_steps, num_steps))
        return noise, steps, resets

    # All at once, before the loop: numbers drawn one step at a time cost more than the step.
    indices = first + environment_indices(num_envs, axis)
    per_step = jax.vmap(draws, out_axes=1)(indices)  # [steps, envs, ...]
    return jax.lax.scan(lambda states, draw: _step(env, act, states, *draw), env_states, per_step)


def rewards_of(
    reward: Callable[[State, jax.Array, State], jax.Array], rollout: Rollout
) -> Float[Array, "steps envs"]:
    """Returns a reward of every step: (state, action, next_state) -> number, as `env.reward` is."""
    each = jax.vmap(jax.vmap(reward))
    return each(rollout.states, rollout.actions, rollout.next_states)


def _step(
    env: Environment,
    act: Act,
    env_states: EnvStates,
    noise: Float[Array, "envs action_size"],
    keys: Array,
    fresh: State,
) -> tuple[EnvStates, Rollout]:
    state, age = env_states
    observations = jax.vmap(env.observe)(state)
    actions = act(observations, noise)
    after = jax.vmap(env.step)(state, actions, jax.random.wrap_key_data(keys))
    is_last = age + 1 >= env.horizon
    if env.terminates is None:
        terminated = jnp.zeros_like(is_last)
    else:
        terminated = jax.vmap(env.terminates)(after)
    ended = terminated | is_last

    def renewed(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(ended, range(1, old.ndim)), new, old).astype(old.dtype)

    following = EnvStates(jax.tree.map(renewed, fresh, after), jnp.where(ended, 0, age + 1))
    next_observations = jax.vmap(env.observe)(after)
    return following, Rollout(
        state, after, observations, next_observations, actions, terminated, is_last & ~terminated
    )
