"""Two links that hang from a pivot; a motor between them has to swing the tip up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf.envs.environment import Environment, Pose, capsules, discs

GRAVITY, LENGTH, MASS = 9.8, 1.0, 1.0  # of both links, each with its mass at the end
MAX_TORQUE, MAX_SPEED, TIME_STEP = 6.0, 12.0, 0.05


class DoublePendulumState(NamedTuple):
    """Angles of both links from hanging down, counterclockwise, and their velocities."""

    angles: Float[Array, "2"]
    velocities: Float[Array, "2"]


def double_pendulum(*, horizon: int = 200) -> Environment:
    """Returns the swing-up, rewarded by the height of the tip, from -1 to 1."""
    return Environment(
        name="double_pendulum",
        reset=_reset,
        step=_step,
        observe=_observe,
        reward=_reward,
        pose=_pose,
        window=(-2.3, 2.3, -2.3, 2.3),
        observation_shape=(6,),
        action_size=1,
        is_discrete=False,
        horizon=horizon,
    )


def energy(state: DoublePendulumState) -> Float[Array, ""]:
    """Returns kinetic and potential energy, which a motor at rest does not change."""
    (a, b), (v, w) = state
    kinetic = MASS * LENGTH**2 * (v**2 + w**2 / 2 + v * w * jnp.cos(a - b))
    return kinetic - MASS * GRAVITY * LENGTH * (2 * jnp.cos(a) + jnp.cos(b))


def accelerations(state: DoublePendulumState, torque: jax.Array) -> Float[Array, "2"]:
    """Returns the accelerations of both angles, by Lagrange's equations.

    The torque turns the second link one way and the first the other.
    """
    (a, b), (v, w) = state
    torque = torque / (MASS * LENGTH**2)
    fall = GRAVITY / LENGTH
    coupling, sine = jnp.cos(a - b), jnp.sin(a - b)
    first = -sine * w**2 - 2 * fall * jnp.sin(a) - torque
    second = sine * v**2 - fall * jnp.sin(b) + torque
    determinant = 2 - coupling**2
    return jnp.stack([first - coupling * second, 2 * second - coupling * first]) / determinant


def advance(
    state: DoublePendulumState, torque: jax.Array, time_step: float | jax.Array
) -> DoublePendulumState:
    """Returns the state one step later, by the method of Runge and Kutta of order 4."""

    def slope(at: DoublePendulumState) -> DoublePendulumState:
        return DoublePendulumState(at.velocities, accelerations(at, torque))

    def moved(by: DoublePendulumState, time: float | jax.Array) -> DoublePendulumState:
        return jax.tree.map(lambda x, dx: x + time * dx, state, by)

    first = slope(state)
    second = slope(moved(first, time_step / 2))
    third = slope(moved(second, time_step / 2))
    fourth = slope(moved(third, time_step))
    mean = jax.tree.map(
        lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth
    )
    angles, velocities = moved(mean, time_step)
    return DoublePendulumState(angles, jnp.clip(velocities, -MAX_SPEED, MAX_SPEED))


def tip(state: DoublePendulumState) -> Float[Array, "2"]:
    """Returns the place of the second mass."""
    return _joints(state)[2]


def _joints(state: DoublePendulumState) -> Float[Array, "3 2"]:
    steps = LENGTH * jnp.stack([jnp.sin(state.angles), -jnp.cos(state.angles)], axis=1)
    return jnp.concatenate([jnp.zeros((1, 2), steps.dtype), jnp.cumsum(steps, axis=0)])


def _reset(key: PRNGKeyArray) -> DoublePendulumState:
    return DoublePendulumState(*jax.random.uniform(key, (2, 2), minval=-0.1, maxval=0.1))


def _step(state: DoublePendulumState, action: jax.Array, key: PRNGKeyArray) -> DoublePendulumState:
    del key
    return advance(state, MAX_TORQUE * jnp.clip(action[0], -1, 1), TIME_STEP)


def _observe(state: DoublePendulumState) -> Float[Array, "6"]:
    angles, velocities = state
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles), velocities])


def _reward(
    state: DoublePendulumState, action: jax.Array, next_state: DoublePendulumState
) -> Float[Array, ""]:
    del action, next_state
    return tip(state)[1] / (2 * LENGTH)


def _pose(state: DoublePendulumState) -> Pose:
    joints = _joints(state)
    return Pose(capsules(joints, 0.07), discs(joints[1:], 0.15))
