"""An arm of two links that reaches for a target, and numbers that have nothing to do with it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf.envs.environment import Environment, Pose, capsules, discs

LENGTHS = (0.5, 0.5)
GAIN, FRICTION, TIME_STEP = 20.0, 2.0, 0.05
DISTRACTOR_MEMORY = 0.9  # correlation from step to step; their variance is 1


class ReacherState(NamedTuple):
    """The arm, its target, and what else is in sight.

    Attributes:
        angles: Of each link against the one before, counterclockwise.
        velocities: Of the angles.
        target: Where the hand should be.
        distractors: Numbers that wander by themselves.
        scale: 1 to 100, the same for an episode, not observed: what `scaled_reward` multiplies.
    """

    angles: Float[Array, "2"]
    velocities: Float[Array, "2"]
    target: Float[Array, "2"]
    distractors: Float[Array, " n"]
    scale: Float[Array, ""]


def reacher(*, horizon: int = 50, distractors: int = 8) -> Environment:
    """Returns the task, rewarded by minus the distance of hand and target.

    Links have no mass; the motors of the joints have, and friction.

    Args:
        horizon: Steps of an episode.
        distractors: How many numbers in each observation mean nothing.

    Raises:
        ValueError: For a negative number of distractors.
    """
    if distractors < 0:
        raise ValueError(f"reacher: distractors={distractors}; expected 0 or more")

    def reset(key: PRNGKeyArray) -> ReacherState:
        key_pose, key_distractors = jax.random.split(key)
        a, b, direction, distance, size = jax.random.uniform(key_pose, (5,))
        angles = jnp.pi * jnp.stack([2 * a - 1, 2 * b - 1])
        turn, far = 2 * jnp.pi * direction, sum(LENGTHS) * jnp.sqrt(distance)
        return ReacherState(
            angles,
            jnp.zeros(2),
            far * jnp.stack([jnp.cos(turn), jnp.sin(turn)]),
            jax.random.normal(key_distractors, (distractors,)),
            100.0**size,
        )

    return Environment(
        name="reacher",
        reset=reset,
        step=_step,
        observe=_observe,
        reward=_reward,
        pose=_pose,
        window=(-1.2, 1.2, -1.2, 1.2),
        observation_shape=(10 + distractors,),
        action_size=2,
        is_discrete=False,
        horizon=horizon,
    )


def hand(state: ReacherState) -> Float[Array, "2"]:
    """Returns where the second link ends."""
    return _joints(state)[2]


def scaled_reward(
    state: ReacherState, action: jax.Array, next_state: ReacherState
) -> Float[Array, ""]:
    """Returns the reward times 1 to 100: episodes differ in scale, clips still compare."""
    return state.scale * _reward(state, action, next_state)


def _joints(state: ReacherState) -> Float[Array, "3 2"]:
    turns = jnp.cumsum(state.angles)
    lengths = jnp.array(LENGTHS, turns.dtype)
    steps = jnp.stack([lengths * jnp.cos(turns), lengths * jnp.sin(turns)], axis=1)
    return jnp.concatenate([jnp.zeros((1, 2), steps.dtype), jnp.cumsum(steps, axis=0)])


def _step(state: ReacherState, action: jax.Array, key: PRNGKeyArray) -> ReacherState:
    push = GAIN * jnp.clip(action, -1, 1) - FRICTION * state.velocities
    velocities = state.velocities + TIME_STEP * push
    noise = jax.random.normal(key, state.distractors.shape)
    fresh = (1 - DISTRACTOR_MEMORY**2) ** 0.5 * noise
    return state._replace(
        angles=state.angles + TIME_STEP * velocities,
        velocities=velocities,
        distractors=DISTRACTOR_MEMORY * state.distractors + fresh,
    )


def _observe(state: ReacherState) -> Float[Array, " n"]:
    angles, velocities, target, distractors, _ = state
    away = hand(state) - target
    return jnp.concatenate(
        [jnp.cos(angles), jnp.sin(angles), velocities, target, away, distractors]
    )


def _reward(state: ReacherState, action: jax.Array, next_state: ReacherState) -> Float[Array, ""]:
    del action, next_state
    return -jnp.sqrt(jnp.sum((hand(state) - state.target) ** 2))


def _pose(state: ReacherState) -> Pose:
    circles = jnp.concatenate([discs(state.target[None], 0.06), discs(hand(state)[None], 0.04)])
    return Pose(capsules(_joints(state), 0.03), circles)
