"""Viscous Burgers equation with a shock: a travelling front, and a step that is let go at t = 0.

u_t + u u_x = nu u_xx on 0 < x < 1, u = u_left far on the left and u_right on the right of x = 1/2,
u_left > u_right, values given at both ends.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.pdes.solution import Solution, dirichlet_solution

CENTER = 0.5  # where the step is at t = 0


class BurgersParams(NamedTuple):
    """Velocity behind the shock."""

    u_left: Float[Array, " batch"]


def sample_burgers(
    key: PRNGKeyArray, num: int, *, low: float = 0.75, high: float = 0.85
) -> BurgersParams:
    """Draws velocities U[low, high); the authors' later code: U[0.75, 0.85)."""
    return BurgersParams(jax.random.uniform(key, (num,), minval=low, maxval=high))


def front_velocity(
    u_left: Float[Array, ""],
    x: Float[Array, ""],
    t: Float[Array, ""],
    *,
    nu: float,
    u_right: float = 0.0,
) -> Float[Array, ""]:
    """Returns the front that travels at speed (u_left + u_right) / 2, at one point.

    (u_left + u_right) / 2 - (jump / 2) tanh(jump (x - 1/2 - speed t) / (4 nu)), as a logistic
    function, which keeps the digits of a velocity near u_right = 0.
    """
    jump, speed = u_left - u_right, (u_left + u_right) / 2
    return u_right + jump * jax.nn.sigmoid(-jump * (x - CENTER - speed * t) / (2 * nu))


def step_velocity(
    u_left: Float[Array, ""],
    x: Float[Array, ""],
    t: Float[Array, ""],
    *,
    nu: float,
    u_right: float = 0.0,
) -> Float[Array, ""]:
    """Returns the velocity at one point and t >= 0 after a step at x = 1/2.

    Cole-Hopf transform in logarithms: u_right + jump / (1 + f), z = x - 1/2,
    f = exp[jump (z - speed t) / (2 nu)] Φ[(z - u_right t) / σ] / Φ[(u_left t - z) / σ] with the
    normal distribution function Φ and σ² = 2 nu t. For a shock, u_left > u_right, the logarithms
    cancel nowhere that u depends on them. At t = 0 and x = 1/2 it is the limit, the mean.
    """
    jump, speed, z = u_left - u_right, (u_left + u_right) / 2, x - CENTER
    started = t > 0
    sigma = jnp.sqrt(2 * nu * jnp.where(started, t, 1))
    log_f = (
        jump * (z - speed * t) / (2 * nu)
        + log_ndtr((z - u_right * t) / sigma)
        - log_ndtr((u_left * t - z) / sigma)
    )
    step = (1 - jnp.sign(z)) / 2
    return u_right + jump * jnp.where(started, jax.nn.sigmoid(-log_f), step)


def solve_burgers_front(
    params: BurgersParams,
    points: int,
    times: Float[Array, " time"],
    *,
    nu: float,
    u_right: float = 0.0,
) -> Solution:
    """Returns the exact travelling front on `points` grid points.

    Args:
        params: Velocities on the left.
        points: Grid points, both ends included; the front is about 8 nu / jump wide.
        times: Any times.
        nu: Viscosity (length²/time).
        u_right: Velocity on the right.
    """

    def velocity(u_left: Array, x: Array, t: Array) -> Array:
        return front_velocity(u_left, x, t, nu=nu, u_right=u_right)

    return dirichlet_solution(velocity, params.u_left, points, times)


def solve_burgers(
    params: BurgersParams,
    points: int,
    times: Float[Array, " time"],
    *,
    nu: float,
    u_right: float = 0.0,
) -> Solution:
    """Returns the exact solution for a step of the initial velocity, on `points` grid points.

    Source: Cole (1951), Hopf (1950). Which of this and the front the authors of BOON used is not
    known. float32 is accurate to 1e-5 for nu >= 1e-3.

    Args:
        params: Velocities on the left.
        points: Grid points, both ends included.
        times: Times t >= 0.
        nu: Viscosity (length²/time).
        u_right: Velocity on the right, below that on the left.
    """

    def velocity(u_left: Array, x: Array, t: Array) -> Array:
        return step_velocity(u_left, x, t, nu=nu, u_right=u_right)

    return dirichlet_solution(velocity, params.u_left, points, times)
