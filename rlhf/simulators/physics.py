"""MuJoCo as a pure function of batches: positions, velocities and controls in, the next ones out.

Models are the XML files that come with Gymnasium. The state of a simulator is its positions and
velocities in single precision, nothing else: solvers begin anew at every step, so that a state
that was saved goes on to the bit.
"""

import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf.host import host_call
from rlhf.simulators.bodies import FREE, HINGE, SLIDE, Body, Joint, Rod
from rlhf.simulators.extras import folder_of, require

ASSETS = Path("envs/mujoco/assets")  # in the package gymnasium
SPHERE, CAPSULE = 2, 3  # types of shapes, as MuJoCo numbers them


class MujocoState(NamedTuple):
    """Positions of all joints, and their velocities, as MuJoCo orders them."""

    positions: Float[Array, " positions"]
    velocities: Float[Array, " velocities"]


class Model(NamedTuple):
    """A robot: sizes and shapes that functions of its state need, and what steps it.

    Attributes:
        file: Name of the XML file.
        start: Positions as drawn.
        velocities: Number of velocities.
        control: Largest control of every actuator.
        time_step: Seconds of one substep of the physics.
        bodies: Kinematics.
        rods: What is drawn.
    """

    file: str
    start: np.ndarray
    velocities: int
    control: np.ndarray
    time_step: float
    bodies: tuple[Body, ...]
    rods: tuple[Rod, ...]


def load(file: str, what: str) -> Model:
    """Returns the model of an XML file that comes with Gymnasium.

    Raises:
        MissingPackage: In one line with what installs them, without gymnasium or mujoco.
    """
    require("mujoco", what)
    folder_of("gymnasium", what)
    model = _compiled(file)
    assert model.na == 0 and model.nmocap == 0  # positions and velocities are all there is
    bodies = tuple(_body(model, number) for number in range(model.nbody))
    rods = tuple(_rod(model, n) for n in range(model.ngeom) if _is_drawn(model, n))
    return Model(
        file,
        np.array(model.qpos0, np.float32),
        model.nv,
        np.array(model.actuator_ctrlrange[:, 1], np.float32),
        float(model.opt.timestep),
        bodies,
        rods,
    )


def stepped(model: Model, state: MujocoState, action: jax.Array, *, substeps: int) -> MujocoState:
    """Returns the state after so many substeps under one action, clipped to [-1, 1]."""
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in state)
    control = jnp.asarray(model.control) * jnp.clip(action, -1, 1)

    def on_host(*batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return advance(model.file, *batch, substeps=substeps)

    return MujocoState(*host_call(on_host, shapes, *state, control))


def advance(
    file: str,
    positions: np.ndarray,
    velocities: np.ndarray,
    controls: np.ndarray,
    *,
    substeps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions and velocities of a batch of simulators after `substeps`, on this thread.

    Args:
        file: Of the model.
        positions: [batch, positions], as the next two.
        velocities: Of the same simulators.
        controls: Held through all substeps.
        substeps: Of the physics.
    """
    model, data = _compiled(file), _scratch(file, threading.get_ident())
    batch, count = positions.shape
    states = np.zeros((batch, 1 + count + model.nv))  # time, positions, velocities
    states[:, 1 : 1 + count], states[:, 1 + count :] = positions, velocities
    held = np.repeat(controls[:, np.newaxis].astype(np.float64), substeps, axis=1)
    rollout = require("mujoco.rollout", file)
    found, _ = rollout.rollout(model, data, states, held)
    last = found[:, -1].astype(np.float32)
    return last[:, 1 : 1 + count], last[:, 1 + count :]


@cache
def _compiled(file: str) -> Any:
    """Returns MuJoCo's own model; its warnings about the file are not ours to repeat."""
    mujoco = require("mujoco", file)
    path = folder_of("gymnasium", file) / ASSETS / file
    mujoco.set_mju_user_warning(_ignore)
    return mujoco.MjModel.from_xml_path(str(path))


def _ignore(message: str) -> None:
    """Takes MuJoCo's warnings, which it would write to a file in the working directory."""


@cache
def _scratch(file: str, thread: int) -> Any:
    """Returns room for one simulator, a thread's own: every step overwrites all of it."""
    del thread
    return require("mujoco", file).MjData(_compiled(file))


def _body(model: Any, number: int) -> Body:
    first, count = model.body_jntadr[number], model.body_jntnum[number]
    joints = tuple(_joint(model, j) for j in range(first, first + count))
    turn = _matrix(model.body_quat[number])
    offset = np.array(model.body_pos[number])
    return Body(int(model.body_parentid[number]), offset, turn, joints)


def _joint(model: Any, number: int) -> Joint:
    kind, place = int(model.jnt_type[number]), int(model.jnt_qposadr[number])
    assert kind in (FREE, SLIDE, HINGE)  # none of the tasks has a ball
    axis, anchor = np.array(model.jnt_axis[number]), np.array(model.jnt_pos[number])
    return Joint(kind, place, axis, anchor, float(model.qpos0[place]))


def _is_drawn(model: Any, number: int) -> bool:
    return int(model.geom_type[number]) in (SPHERE, CAPSULE)


def _rod(model: Any, number: int) -> Rod:
    """Returns a capsule, along the third axis of its own frame, or a ball."""
    radius, half, _ = model.geom_size[number]
    half = half if model.geom_type[number] == CAPSULE else 0.0
    along = _matrix(model.geom_quat[number])[:, 2] * half
    center = np.array(model.geom_pos[number])
    ends = np.stack([center - along, center + along])
    return Rod(int(model.geom_bodyid[number]), ends, float(radius))


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    mujoco, matrix = require("mujoco", "a model"), np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.array(quaternion))
    return matrix.reshape(3, 3)
