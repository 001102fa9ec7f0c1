"""A walk whose best place no random walk reaches, with a trap behind it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlhf.envs.environment import Environment, Pose, capsules, discs

LEFT_END = -20


class ChainState(NamedTuple):
    """Cells to the right of the start."""

    place: Int[Array, ""]


def chain(*, horizon: int = 50, goal: int = 20, trap: int = 10) -> Environment:
    """Returns a chain of cells: the reward is place / goal up to the goal, and -1 behind it.

    Whoever has only seen random walks has seen that right is better, and goes on into the trap.

    Args:
        horizon: Steps of an episode, each one cell to the left, none, or one to the right.
        goal: Cells from the start to the best place.
        trap: Cells behind it.

    Raises:
        ValueError: If goal or trap have no cell.
    """
    if goal < 1 or trap < 1:
        raise ValueError(f"chain: goal={goal}, trap={trap}; expected at least 1 cell each")

    def step(state: ChainState, action: jax.Array, key: PRNGKeyArray) -> ChainState:
        del key
        return ChainState(jnp.clip(state.place + action - 1, LEFT_END, goal + trap))

    def observe(state: ChainState) -> Float[Array, "1"]:
        return state.place.astype(jnp.float32).reshape(1) / goal

    def reward(state: ChainState, action: jax.Array, next_state: ChainState) -> Float[Array, ""]:
        del action, next_state
        return jnp.where(state.place > goal, -1.0, state.place / goal)

    def pose(state: ChainState) -> Pose:
        ends = jnp.array([[LEFT_END, 0.0], [goal, 0.0], [goal + trap, -3.0]])
        height = jnp.where(state.place > goal, -3.0 * (state.place - goal) / trap, 0.0)
        ball = jnp.stack([state.place.astype(jnp.float32), height + 1.2])
        return Pose(capsules(ends, 0.2), discs(ball[None], 1.0))

    return Environment(
        name="chain",
        reset=_reset,
        step=step,
        observe=observe,
        reward=reward,
        pose=pose,
        window=(LEFT_END - 1.0, goal + trap + 1.0, -6.0, 6.0),
        observation_shape=(1,),
        action_size=3,
        is_discrete=True,
        horizon=horizon,
    )


def _reset(key: PRNGKeyArray) -> ChainState:
    del key
    return ChainState(jnp.zeros((), jnp.int32))
