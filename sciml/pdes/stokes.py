"""Stokes' second problem: a viscous fluid above a wall that oscillates in its own plane.

u_t = nu u_xx on 0 < x < 1, u(0, t) = amplitude cos(omega t), values given at both ends.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.pdes.solution import Solution, dirichlet_solution


class StokesParams(NamedTuple):
    """Angular frequency of the wall (radians per unit of time)."""

    omega: Float[Array, " batch"]


def sample_stokes(
    key: PRNGKeyArray, num: int, *, low: float = 3.0, high: float = 4.0
) -> StokesParams:
    """Draws frequencies U[low, high); BOON: U[3, 4)."""
    return StokesParams(jax.random.uniform(key, (num,), minval=low, maxval=high))


def stokes_velocity(
    omega: Float[Array, ""],
    x: Float[Array, ""],
    t: Float[Array, ""],
    *,
    nu: float,
    amplitude: float = 2.0,
) -> Float[Array, ""]:
    """Returns amplitude e^{-kx} cos(kx - omega t) with k = sqrt(omega / (2 nu)) at one point."""
    depth = jnp.sqrt(omega / (2 * nu)) * x
    return amplitude * jnp.exp(-depth) * jnp.cos(depth - omega * t)


def solve_stokes(
    params: StokesParams,
    points: int,
    times: Float[Array, " time"],
    *,
    nu: float,
    amplitude: float = 2.0,
) -> Solution:
    """Returns the exact velocity on `points` grid points.

    Source: Stokes (1851); the benchmark of BOON with amplitude 2.

    Args:
        params: Frequencies.
        points: Grid points, both ends included.
        times: Any times.
        nu: Viscosity (length²/time).
        amplitude: Largest velocity of the wall.
    """

    def velocity(omega: Array, x: Array, t: Array) -> Array:
        return stokes_velocity(omega, x, t, nu=nu, amplitude=amplitude)

    return dirichlet_solution(velocity, params.omega, points, times)
