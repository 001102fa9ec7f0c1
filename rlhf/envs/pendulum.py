"""A pendulum with a weak motor: it has to be swung up, and held."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf.envs.environment import Environment, Pose, capsules, discs, wrapped

GRAVITY, LENGTH, MASS = 10.0, 1.0, 1.0  # a uniform rod
MAX_TORQUE, MAX_SPEED, TIME_STEP = 2.0, 8.0, 0.05


class PendulumState(NamedTuple):
    """Angle from upright, clockwise, in radians, and its velocity."""

    angle: Float[Array, ""]
    velocity: Float[Array, ""]


def pendulum(*, horizon: int = 200) -> Environment:
    """Returns the swing-up, rewarded by -(angle² + velocity² / 10).

    A cost of torque is left out: nobody can see it in a clip.
    """
    return Environment(
        name="pendulum",
        reset=_reset,
        step=_step,
        observe=_observe,
        reward=_reward,
        pose=_pose,
        window=(-1.3, 1.3, -1.3, 1.3),
        observation_shape=(3,),
        action_size=1,
        is_discrete=False,
        horizon=horizon,
    )


def spin_reward(
    state: PendulumState, action: jax.Array, next_state: PendulumState
) -> Float[Array, ""]:
    """Returns the clockwise velocity: a goal that the task itself never rewards."""
    del action, next_state
    return state.velocity


def scaled_reward(
    state: PendulumState, action: jax.Array, next_state: PendulumState
) -> Float[Array, ""]:
    """Returns the reward times 1, upright, to 100, hanging: better states stay better.

    Clips compare as before, but for their weights; numbers are nearly all about what hangs.
    """
    factor = 100.0 ** ((1 - jnp.cos(state.angle)) / 2)
    return factor * _reward(state, action, next_state)


def acceleration(angle: Float[Array, "*n"], torque: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the angular acceleration: gravity at half the rod, inertia m l² / 3."""
    inertia = MASS * LENGTH**2 / 3
    return (MASS * GRAVITY * LENGTH / 2 * jnp.sin(angle) + torque) / inertia


def energy(state: PendulumState) -> Float[Array, "*n"]:
    """Returns kinetic and potential energy, which a motor at rest does not change."""
    kinetic = MASS * LENGTH**2 / 6 * state.velocity**2
    return kinetic + MASS * GRAVITY * LENGTH / 2 * jnp.cos(state.angle)


def advance(state: PendulumState, torque: jax.Array, time_step: float | jax.Array) -> PendulumState:
    """Returns the state one step later: the new velocity moves the angle."""
    velocity = state.velocity + time_step * acceleration(state.angle, torque)
    velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
    return PendulumState(state.angle + time_step * velocity, velocity)


def _reset(key: PRNGKeyArray) -> PendulumState:
    angle, velocity = jax.random.uniform(key, (2,), minval=-1.0)
    return PendulumState(jnp.pi * angle, velocity)


def _step(state: PendulumState, action: jax.Array, key: PRNGKeyArray) -> PendulumState:
    del key
    return advance(state, MAX_TORQUE * jnp.clip(action[0], -1, 1), TIME_STEP)


def _observe(state: PendulumState) -> Float[Array, "3"]:
    return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.velocity])


def _reward(state: PendulumState, action: jax.Array, next_state: PendulumState) -> Float[Array, ""]:
    del action, next_state
    return -(wrapped(state.angle) ** 2 + 0.1 * state.velocity**2)


def _pose(state: PendulumState) -> Pose:
    tip = LENGTH * jnp.stack([jnp.sin(state.angle), jnp.cos(state.angle)])
    points = jnp.stack([jnp.zeros(2), tip])
    return Pose(capsules(points, 0.1), discs(points[:1], 0.05))
