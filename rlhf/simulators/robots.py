"""The eight tasks of the paper in MuJoCo, with nothing in them that tells the goal.

No episode ends before its horizon, and no action has a cost: nobody sees torques in a clip. What
kept a robot up was an end or a bonus for being healthy; it is a height in the reward here, to be
learned from comparisons. Rewards are functions of states and never those of the simulator's
package, whose newest versions pay the bonus only while a robot is healthy.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf.envs.environment import Environment, Pose
from rlhf.simulators.bodies import frames, rods_in_space
from rlhf.simulators.physics import Model, MujocoState, load, stepped

SPEED_LIMIT = 10.0  # of the velocities that are observed of a hopper, a walker and double poles
ARM, POLE = 0.11, 0.6  # from the second joint to the fingertip; of either of two poles
REACH = 0.2  # targets lie within it
SPEED_UNIT = 10.0  # rad/s, of what is observed of the reacher
GROUND = 0.05  # radius of the marks on the ground
TARGET_SPEED, CHEETAH_SUBSTEP = 2.0, 0.01  # m/s; s, as its model says


class Robot(NamedTuple):
    """What distinguishes a task; numbers are those of the sheet of the paper's tasks.

    Attributes:
        file: The model.
        substeps: Of the physics in one step.
        frames_per_second: Of a clip, as people see it; 1.5 s of them are a clip of the paper.
        horizon: Steps of an episode.
        noise: Of the first positions, uniform, and velocities.
        has_normal_noise: Whether velocities begin with normal noise instead.
        observe: state -> observation.
        reward: (state, step seconds, next state) -> reward.
        axes: Which two of three coordinates are drawn.
        window: Of what is drawn; of a robot that travels, around its first body.
        travels: Whether it does.
    """

    file: str
    substeps: int
    frames_per_second: int
    horizon: int
    noise: float
    has_normal_noise: bool
    observe: Callable[[MujocoState], jax.Array]
    reward: Callable[[MujocoState, float, MujocoState], jax.Array]
    axes: tuple[int, int]
    window: tuple[float, float, float, float]
    travels: bool = True


def velocity(state: MujocoState, seconds: float, after: MujocoState) -> Float[Array, ""]:
    """Returns the mean forward velocity over a step."""
    return (after.positions[0] - state.positions[0]) / seconds


def clip_length(name: str) -> int:
    """Returns the steps of a clip of 1.5 seconds.

    Source: Christiano et al. (2017), App. A, 1.5 s; rl-teacher, released code, frames per second.
    """
    return ROBOTS[name].frames_per_second * 3 // 2


def tip_of_poles(positions: Float[Array, "3"]) -> Float[Array, "2"]:
    """Returns where the upper pole of two ends, across and up, from the rail."""
    x, first, second = positions
    turns = jnp.stack([first, first + second])
    return POLE * jnp.stack([jnp.sum(jnp.sin(turns)), jnp.sum(jnp.cos(turns))]) + x * jnp.array(
        [1.0, 0.0]
    )


def from_hand_to_target(positions: Float[Array, "4"]) -> Float[Array, "2"]:
    """Returns the way from the target of the reacher to its fingertip."""
    first, second = positions[0], positions[0] + positions[1]
    along = (
        jnp.stack([jnp.cos(first), jnp.sin(first)]),
        jnp.stack([jnp.cos(second), jnp.sin(second)]),
    )
    return 0.1 * along[0] + ARM * along[1] - positions[2:]


def _plain(skipped: int, limit: float = jnp.inf) -> Callable[[MujocoState], jax.Array]:
    """Returns the observation of positions but the first ones, and of velocities."""

    def observe(state: MujocoState) -> jax.Array:
        velocities = jnp.clip(state.velocities, -limit, limit)
        return jnp.concatenate([state.positions[skipped:], velocities])

    return observe


def _of_reacher(state: MujocoState) -> jax.Array:
    """Returns what v5 observes in units of like size: reward models see it as it is."""
    angles, target = state.positions[:2], state.positions[2:]
    away = from_hand_to_target(state.positions)
    speeds = state.velocities[:2] / SPEED_UNIT
    parts = jnp.cos(angles), jnp.sin(angles), target / REACH, speeds, away / REACH
    return jnp.concatenate(parts)


def _of_poles(state: MujocoState) -> jax.Array:
    angles = state.positions[1:]
    speeds = jnp.clip(state.velocities, -SPEED_LIMIT, SPEED_LIMIT)
    return jnp.concatenate([state.positions[:1], jnp.sin(angles), jnp.cos(angles), speeds])


def _balanced(state: MujocoState, seconds: float, after: MujocoState) -> jax.Array:
    del state, seconds
    across, up = tip_of_poles(after.positions)
    speeds = after.velocities[1:] ** 2
    place = 0.01 * across**2 + (up - 2) ** 2
    return 10 * (up - 1) - place - 1e-3 * speeds[0] - 5e-3 * speeds[1]


def _near(state: MujocoState, seconds: float, after: MujocoState) -> jax.Array:
    del state, seconds
    return -jnp.sqrt(jnp.sum(from_hand_to_target(after.positions) ** 2))


def _upright(state: MujocoState, seconds: float, after: MujocoState) -> jax.Array:
    del state, seconds
    return -(after.positions[1] ** 2)


def _forward(height: int, wanted: float) -> Callable[[MujocoState, float, MujocoState], jax.Array]:
    """Returns velocity plus how much a robot's height exceeds `wanted`."""

    def reward(state: MujocoState, seconds: float, after: MujocoState) -> jax.Array:
        return velocity(state, seconds, after) + after.positions[height] - wanted

    return reward


SIDE = (0, 2)  # seen from the side
ABOVE = (0, 1)
RUN = (-1.6, 1.6, -0.3, 2.1)
ROBOTS: dict[str, Robot] = {
    "hopper": Robot(
        "hopper.xml", 4, 40, 1000, 5e-3, False, _plain(1, SPEED_LIMIT), _forward(1, 1.0), SIDE, RUN
    ),
    "walker2d": Robot(
        "walker2d_v5.xml",
        *(4, 30, 1000, 5e-3, False, _plain(1, SPEED_LIMIT), _forward(1, 2.0), SIDE, RUN),
    ),
    "swimmer": Robot(
        "swimmer.xml", 4, 40, 1000, 0.1, False, _plain(2), velocity, ABOVE, (-2, 2, -1.5, 1.5)
    ),
    "half_cheetah": Robot(
        "half_cheetah.xml", 5, 20, 1000, 0.1, True, _plain(1), velocity, SIDE, RUN
    ),
    "ant": Robot("ant.xml", 5, 20, 1000, 0.1, True, _plain(2), _forward(2, 1.2), SIDE, RUN),
    "mujoco_reacher": Robot(
        "reacher.xml",
        *(2, 10, 50, 0.1, False, _of_reacher, _near, ABOVE, (-0.35, 0.35, -0.35, 0.35), False),
    ),
    "inverted_pendulum": Robot(
        "inverted_pendulum.xml",
        *(2, 10, 25, 0.01, False, _plain(0), _upright, SIDE, (-1.3, 1.3, -0.9, 0.9), False),
    ),
    "inverted_double_pendulum": Robot(
        "inverted_double_pendulum.xml",
        *(5, 10, 50, 0.1, True, _of_poles, _balanced, SIDE, (-1.8, 1.8, -1.4, 1.4), False),
    ),
}


def robot(name: str, *, horizon: int = 0) -> Environment:
    """Returns a task by its name in `ROBOTS`; actions of every actuator are clipped to [-1, 1].

    Source: Christiano et al. (2017), App. A; rl-teacher, released code, for what replaces the ends
    of episodes and the costs of control.

    Args:
        name: Of the task.
        horizon: Steps of an episode; 0: the paper's.

    Raises:
        MissingPackage: In one line, without the packages of the extra `rl`.
    """
    it = ROBOTS[name]
    model = load(it.file, name)
    seconds = it.substeps * model.time_step

    def reset(key: PRNGKeyArray) -> MujocoState:
        return _first_state(name, model, key)

    def step(state: MujocoState, action: jax.Array, key: PRNGKeyArray) -> MujocoState:
        del key
        return stepped(model, state, action, substeps=it.substeps)

    def reward(state: MujocoState, action: jax.Array, after: MujocoState) -> jax.Array:
        del action
        return it.reward(state, seconds, after)

    shape = jax.eval_shape(lambda key: it.observe(reset(key)), jax.random.key(0)).shape
    return Environment(
        name=name,
        reset=reset,
        step=step,
        observe=it.observe,
        reward=reward,
        pose=lambda state: _pose(it, model, state),
        window=it.window,
        observation_shape=shape,
        action_size=len(model.control),
        is_discrete=False,
        horizon=horizon or it.horizon,
    )


def steady_run(state: MujocoState, action: jax.Array, after: MujocoState) -> Float[Array, ""]:
    """Returns the goal of a half-cheetah that runs at 2 m/s, no faster: minus the distance."""
    del action
    seconds = ROBOTS["half_cheetah"].substeps * CHEETAH_SUBSTEP
    return -jnp.abs(velocity(state, seconds, after) - TARGET_SPEED)


def backflip(state: MujocoState, action: jax.Array, after: MujocoState) -> Float[Array, ""]:
    """Returns the goal of a hopper that turns over backwards, and lands on its foot.

    Over a clip it adds up to the turns that were made backwards, and how much more upright the
    torso is in the end than in the beginning: rocking to and fro comes to nothing.
    """
    del action
    turned = (state.positions[2] - after.positions[2]) / (2 * jnp.pi)
    return turned + 0.25 * (_standing(after) - _standing(state))


def _standing(state: MujocoState) -> jax.Array:
    """Returns how upright and high the torso is, at most 1."""
    return jnp.cos(state.positions[2]) * jnp.clip(state.positions[1], 0, 1)


def _first_state(name: str, model: Model, key: PRNGKeyArray) -> MujocoState:
    it, count = ROBOTS[name], len(model.start)
    key_positions, key_velocities, key_target = jax.random.split(key, 3)
    drawn = jax.random.uniform(key_positions, (count,), minval=-1.0)
    positions = jnp.asarray(model.start) + it.noise * drawn
    if it.has_normal_noise:
        velocities = it.noise * jax.random.normal(key_velocities, (model.velocities,))
    else:
        velocities = jax.random.uniform(key_velocities, (model.velocities,), minval=-1.0)
        velocities = (5e-3 if name == "mujoco_reacher" else it.noise) * velocities
    if name == "mujoco_reacher":
        direction, share = jax.random.uniform(key_target, (2,))
        angle, distance = 2 * jnp.pi * direction, REACH * jnp.sqrt(share)
        target = distance * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        positions = jnp.concatenate([positions[:2], target])
        velocities = jnp.concatenate([velocities[:2], jnp.zeros(2)])
    return MujocoState(positions, velocities)


def _pose(it: Robot, model: Model, state: MujocoState) -> Pose:
    """Returns rods as segments and balls as circles; the ground has a mark every meter."""
    ends = rods_in_space(model.bodies, model.rods, state.positions)[..., jnp.array(it.axes)]
    shift = jnp.zeros(2)
    if it.travels:
        shift = frames(model.bodies, state.positions)[0][1][jnp.array(it.axes)]
        shift = shift if it.axes == ABOVE else shift.at[1].set(0.0)
    ends = ends - jnp.expand_dims(shift, (0, 1))
    is_ball = [not (rod.ends[0] != rod.ends[1]).any() for rod in model.rods]
    radii = jnp.array([rod.radius for rod in model.rods], jnp.float32)
    long = jnp.array([n for n, ball in enumerate(is_ball) if not ball])
    short = jnp.array([n for n, ball in enumerate(is_ball) if ball], jnp.int32)
    flat = ends[long].reshape(len(long), 4)
    segments = jnp.concatenate([flat, jnp.expand_dims(radii[long], 1)], axis=1)
    circles = jnp.concatenate([ends[short, 0], jnp.expand_dims(radii[short], 1)], axis=1)
    if it.travels:
        circles = jnp.concatenate([_marks(it, shift), circles])
    return Pose(segments, circles)


def _marks(it: Robot, shift: Float[Array, "2"]) -> Float[Array, "marks 3"]:
    """Returns marks on the ground at whole meters, as they pass a robot in the middle."""
    reach = int(it.window[1]) + 1
    places = jnp.arange(-reach, reach + 1) - (shift[0] - jnp.round(shift[0]))
    low = jnp.full_like(places, -GROUND if it.axes == SIDE else it.window[2] + GROUND)
    return jnp.stack([places, low, jnp.full_like(places, GROUND)], axis=1)
