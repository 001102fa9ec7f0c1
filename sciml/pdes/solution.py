"""What every problem returns: values on a grid at the asked times, with the boundary data."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.numbers import floating


class Ends(NamedTuple):
    """Boundary data of one space axis, at its first and its last point.

    The axes of a face are the other space axes and then time.
    """

    low: Float[Array, " batch *face"]
    high: Float[Array, " batch *face"]


class Solution(NamedTuple):
    """A batch of solutions.

    Attributes:
        initial: u(., 0).
        frames: u at the asked times.
        boundary: For every space axis the values (Dirichlet), the derivatives along the axis, at
            both ends alike (Neumann), or zeros (periodic).
    """

    initial: Float[Array, " batch *space"]
    frames: Float[Array, "batch *space time"]
    boundary: tuple[Ends, ...]


def uniform_grid(
    points: int, length: float = 1.0, dtype: jnp.dtype | None = None
) -> Float[Array, " points"]:
    """Returns equidistant coordinates from 0 to `length`, both included.

    Raises:
        ValueError: If there are less than 2 points.
    """
    if points < 2:
        raise ValueError(f"points={points}: a grid with both ends needs at least 2")
    return jnp.asarray(np.linspace(0, length, points), dtype)


def frame_times(final_time: float, *, stored: int, kept: int) -> Float[Array, " kept"]:
    """Returns the last `kept` of `stored` equidistant times from 0 to `final_time`.

    Source: Saad et al. (2023), the released notebooks, which learn the last 25 stored frames.

    Raises:
        ValueError: If the times do not exist.
    """
    if not (0 < final_time < float("inf")):
        raise ValueError(f"final_time={final_time}: expected a finite time above 0")
    if stored < 2 or not 1 <= kept <= stored:
        raise ValueError(
            f"kept={kept} of stored={stored}: expected 1 <= kept <= stored, stored > 1"
        )
    return jnp.asarray(np.linspace(0, final_time, stored)[-kept:])


def tabulate(
    u: Callable[[Array, Array, Array], Array],
    params: Float[Array, " batch"],
    x: Float[Array, " points"],
    times: Float[Array, " time"],
) -> Float[Array, "batch points time"]:
    """Returns u(parameter, x, t) for all combinations of three scalars."""
    over_time = jax.vmap(u, (None, None, 0))
    over_space = jax.vmap(over_time, (None, 0, None))
    return jax.vmap(over_space, (0, None, None))(params, x, times)


def dirichlet_solution(
    u: Callable[[Array, Array, Array], Array],
    params: Float[Array, " batch"],
    points: int,
    times: Float[Array, " time"],
) -> Solution:
    """Returns the solution u(parameter, x, t) on [0, 1], with its end values as boundary data."""
    times = floating(times)  # the grid is in its type
    x = uniform_grid(points, dtype=times.dtype)
    initial = tabulate(u, params, x, jnp.zeros_like(times, shape=(1,)))[..., 0]
    frames = tabulate(u, params, x, times)
    return Solution(initial, frames, (Ends(frames[:, 0], frames[:, -1]),))
