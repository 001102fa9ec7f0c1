"""Where the parts of a robot are: kinematics of a tree of bodies, as functions of its joints."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

FREE, BALL, SLIDE, HINGE = range(4)  # types of joints, as MuJoCo numbers them


class Joint(NamedTuple):
    """How a body moves against its parent: "slide" along an axis, "hinge" about it, or "free".

    Attributes:
        kind: `SLIDE`, `HINGE` or `FREE`.
        place: Of its first number among all positions.
        axis: In the frame of the body.
        anchor: In the frame of the body.
        zero: Its number where the body is as drawn.
    """

    kind: int
    place: int
    axis: np.ndarray
    anchor: np.ndarray
    zero: float


class Body(NamedTuple):
    """A body: its parent, where it is in that, and its joints, outermost first."""

    parent: int
    offset: np.ndarray
    turn: np.ndarray  # [3, 3]
    joints: tuple[Joint, ...]


class Rod(NamedTuple):
    """A capsule of a body: both ends in its frame, and the radius; a ball if they are one."""

    body: int
    ends: np.ndarray  # [2, 3]
    radius: float


def rotation_of(quaternion: Float[Array, "4"]) -> Float[Array, "3 3"]:
    """Returns the rotation matrix of a quaternion (w, x, y, z) of any length."""
    w, x, y, z = quaternion / jnp.sqrt(jnp.sum(quaternion**2))
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row) for row in rows])


def rotation_about(axis: np.ndarray, angle: Float[Array, ""]) -> Float[Array, "3 3"]:
    """Returns the rotation by an angle about a unit vector."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], np.float32)
    return (
        jnp.eye(3, dtype=jnp.float32)
        + jnp.sin(angle) * cross
        + (1 - jnp.cos(angle)) * jnp.asarray(cross @ cross)
    )


def frames(
    bodies: tuple[Body, ...], positions: Float[Array, " n"]
) -> tuple[list[Float[Array, "3"]], list[Float[Array, "3 3"]]]:
    """Returns where every body is, and how it is turned; the first one is the world."""
    places, turns = [jnp.zeros(3)], [jnp.eye(3)]
    for body in bodies[1:]:
        turn = turns[body.parent] @ jnp.asarray(body.turn, jnp.float32)
        place = places[body.parent] + turns[body.parent] @ jnp.asarray(body.offset, jnp.float32)
        for joint in body.joints:
            place, turn = _moved(joint, positions, place, turn)
        places.append(place)
        turns.append(turn)
    return places, turns


def _moved(
    joint: Joint, positions: Float[Array, " n"], place: Array, turn: Array
) -> tuple[Float[Array, "3"], Float[Array, "3 3"]]:
    """Returns place and turn of a body after one of its joints."""
    first = joint.place
    if joint.kind == FREE:
        return positions[first : first + 3], rotation_of(positions[first + 3 : first + 7])
    number = positions[first] - joint.zero
    if joint.kind == SLIDE:
        return place + number * (turn @ jnp.asarray(joint.axis, jnp.float32)), turn
    new = turn @ rotation_about(joint.axis, number)
    anchor = jnp.asarray(joint.anchor, jnp.float32)  # stays where it is
    return place + turn @ anchor - new @ anchor, new


def rods_in_space(
    bodies: tuple[Body, ...], rods: tuple[Rod, ...], positions: Float[Array, " n"]
) -> Float[Array, "rods 2 3"]:
    """Returns both ends of every rod."""
    places, turns = frames(bodies, positions)
    ends = [
        [places[rod.body] + turns[rod.body] @ jnp.asarray(end, jnp.float32) for end in rod.ends]
        for rod in rods
    ]
    return jnp.stack([jnp.stack(pair) for pair in ends])
