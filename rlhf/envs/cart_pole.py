"""A pole on a cart that is pushed left or right, with an early end only if asked for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rlhf.envs.environment import Environment, Pose, capsules, discs

GRAVITY, CART_MASS, POLE_MASS, HALF_POLE = 9.8, 1.0, 0.1, 0.5  # a uniform rod
FORCE, TIME_STEP = 10.0, 0.02
TRACK = 3.0  # half of it: the cart stops at its ends
MAX_POSITION, MAX_ANGLE = 2.4, 0.2094  # 12 degrees: where episodes of the leak end


class CartPoleState(NamedTuple):
    """Cart and pole: position to the right, angle from upright, and their velocities."""

    position: Float[Array, ""]
    velocity: Float[Array, ""]
    angle: Float[Array, ""]
    angular_velocity: Float[Array, ""]


def cart_pole(*, horizon: int = 200, ends_on_fall: bool = False) -> Environment:
    """Returns the task of balancing, rewarded by cos(angle) - (position / 2.4)² / 10.

    The pole begins almost upright, may fall, and goes on swinging. The dynamics are those of
    Barto, Sutton and Anderson (1983).

    Args:
        horizon: Steps of an episode.
        ends_on_fall: Whether episodes end once the pole leans by 12 degrees or the cart is 2.4
            from the middle. That tells the learner what it should have learned from rewards.
    """
    return Environment(
        name="cart_pole",
        reset=_reset,
        step=_step,
        observe=_observe,
        reward=_reward,
        pose=_pose,
        window=(-4.1, 4.1, -1.3, 1.3),
        observation_shape=(5,),
        action_size=2,
        is_discrete=True,
        horizon=horizon,
        terminates=has_fallen if ends_on_fall else None,
    )


def has_fallen(state: CartPoleState) -> Bool[Array, "*n"]:
    """Returns whether the pole leans too far, or the cart is too far from the middle."""
    return (jnp.abs(state.angle) > MAX_ANGLE) | (jnp.abs(state.position) > MAX_POSITION)


def energy(state: CartPoleState) -> Float[Array, "*n"]:
    """Returns kinetic and potential energy, which the cart keeps if nothing pushes it."""
    _, v, angle, w = state
    mass, lever = CART_MASS + POLE_MASS, POLE_MASS * HALF_POLE
    kinetic = mass * v**2 / 2 + lever * v * w * jnp.cos(angle) + 2 / 3 * lever * HALF_POLE * w**2
    return kinetic + lever * GRAVITY * jnp.cos(angle)


def advance(state: CartPoleState, force: jax.Array, time_step: float | jax.Array) -> CartPoleState:
    """Returns the state one step later: new velocities move cart and pole."""
    position, velocity, angle, angular_velocity = state
    mass, lever = CART_MASS + POLE_MASS, POLE_MASS * HALF_POLE
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    pushed = (force + lever * angular_velocity**2 * sine) / mass
    inertia = HALF_POLE * (4 / 3 - POLE_MASS * cosine**2 / mass)
    turning = (GRAVITY * sine - cosine * pushed) / inertia
    velocity = velocity + time_step * (pushed - lever * turning * cosine / mass)
    angular_velocity = angular_velocity + time_step * turning
    moved = position + time_step * velocity
    is_at_end = jnp.abs(moved) > TRACK
    return CartPoleState(
        jnp.clip(moved, -TRACK, TRACK),
        jnp.where(is_at_end, 0.0, velocity),
        angle + time_step * angular_velocity,
        angular_velocity,
    )


def _reset(key: PRNGKeyArray) -> CartPoleState:
    return CartPoleState(*jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05))


def _step(state: CartPoleState, action: jax.Array, key: PRNGKeyArray) -> CartPoleState:
    del key
    return advance(state, FORCE * (2.0 * action - 1.0), TIME_STEP)


def _observe(state: CartPoleState) -> Float[Array, "5"]:
    position, velocity, angle, angular_velocity = state
    return jnp.stack([position, velocity, jnp.cos(angle), jnp.sin(angle), angular_velocity])


def _reward(state: CartPoleState, action: jax.Array, next_state: CartPoleState) -> Float[Array, ""]:
    del action, next_state
    return jnp.cos(state.angle) - 0.1 * (state.position / MAX_POSITION) ** 2


def _pose(state: CartPoleState) -> Pose:
    x = state.position
    tip = 2 * HALF_POLE * jnp.stack([jnp.sin(state.angle), jnp.cos(state.angle)])
    track = capsules(jnp.array([[-TRACK, 0.0], [TRACK, 0.0]]), 0.02)
    middle = jnp.stack([x, jnp.zeros_like(x)])
    side = jnp.array([0.25, 0.0])
    cart = capsules(jnp.stack([middle - side, middle + side]), 0.12)
    pole = capsules(jnp.stack([middle, middle + tip]), 0.05)
    return Pose(jnp.concatenate([track, cart, pole]), discs(middle.reshape(1, 2), 0.04))
