"""What an environment is: pure functions of one state, its true reward apart, poses to draw."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

State = Any  # a pytree of arrays
Action = jax.Array


class Pose(NamedTuple):
    """What a state looks like: capsules and discs, in the order in which they are drawn.

    Of negative radius: not drawn, so that the number of shapes stays the same.
    """

    segments: Float[Array, "n 5"]  # x and y of both ends, radius
    circles: Float[Array, "m 3"]  # x and y of the center, radius


class Environment(NamedTuple):
    """A task without an end: episodes have `horizon` steps, whatever happens in them.

    All functions are of one environment; rollouts map them over many. The reward is not a result
    of `step`: who learns from comparisons never sees it.

    Attributes:
        name: Of the task.
        reset: key -> state.
        step: (state, action, key) -> state.
        observe: state -> observation, an array.
        reward: (state, action, next_state) -> the true reward of that step.
        pose: state -> Pose, in the coordinates of `window`.
        window: x_min, x_max, y_min, y_max of what is drawn.
        observation_shape: Of one observation.
        action_size: Entries of a continuous action, each used as if clipped to [-1, 1]; or the
            number of discrete actions, which are integers.
        is_discrete: Which of the two.
        horizon: Steps of an episode.
        terminates: state -> whether the episode ends there, before its horizon; None if it never
            does. An end tells the learner about the task, so no task has one by default.
        picture: state -> bytes [height, width] or [height, width, 3], what people are shown of a
            game of pixels; None: its pose.
    """

    name: str
    reset: Callable[[PRNGKeyArray], State]
    step: Callable[[State, Action, PRNGKeyArray], State]
    observe: Callable[[State], jax.Array]
    reward: Callable[[State, Action, State], jax.Array]
    pose: Callable[[State], Pose]
    window: tuple[float, float, float, float]
    observation_shape: tuple[int, ...]
    action_size: int
    is_discrete: bool
    horizon: int
    terminates: Callable[[State], jax.Array] | None = None
    picture: Callable[[State], jax.Array] | None = None


def drawn(env: Environment, state: State) -> dict[str, Shaped[Array, "..."]]:
    """Returns what people are shown of a state: "segments" and "circles" of a pose, or "frames"."""
    if env.picture is not None:
        return {"frames": env.picture(state)}
    return dict(env.pose(state)._asdict())


def capsules(points: Float[Array, "n_plus_1 2"], radius: float) -> Float[Array, "n 5"]:
    """Returns the segments between consecutive points of a chain, as a `Pose` has them."""
    radii = jnp.full((points.shape[0] - 1, 1), radius, points.dtype)
    return jnp.concatenate([points[:-1], points[1:], radii], axis=1)


def discs(centers: Float[Array, "m 2"], radius: float) -> Float[Array, "m 3"]:
    """Returns discs around points, as a `Pose` has them."""
    return jnp.concatenate(
        [centers, jnp.full((centers.shape[0], 1), radius, centers.dtype)], axis=1
    )


def wrapped(angle: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns an angle in [-π, π) that differs from the given one by whole turns."""
    return jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi
