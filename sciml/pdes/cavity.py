"""Flow in a square box under a sliding lid, by finite differences for vorticity and streamfunction.

w_t + u w_x + v w_y = nu (w_xx + w_yy), psi_xx + psi_yy = -w, (u, v) = (psi_y, -psi_x); psi = 0 on
the walls and u = lid speed on y = 1. The fluid starts at rest, with a vortex sheet under the lid.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.pdes.solution import Ends, Solution


class Poisson(NamedTuple):
    """Sine transform and inverse eigenvalues of the five-point operator on interior points."""

    sine: Float[Array, "n n"]
    inverse: Float[Array, "n n"]


def stable_step(solver_points: int, *, nu: float, max_speed: float) -> float:
    """Returns the longest stable time step of Heun's method on this grid.

    Diffusion: h² / (4 nu). Advection: h / (2 max_speed), which holds for cells with
    max_speed h / nu <= 8 (`solve_cavity` refuses larger ones).
    """
    h = 1 / (solver_points - 1)
    return min(h**2 / (4 * nu), h / (2 * max_speed))


def solve_cavity(
    lid: Float[Array, " batch"],
    points: int,
    times: Float[Array, " time"],
    *,
    nu: float,
    solver_points: int,
    max_speed: float,
    time_step: float | None = None,
) -> Solution:
    """Returns the vorticity v_x - u_y on points x points grid points, axes [batch, x, y, time].

    Second-order central differences, Thom's wall vorticity, Heun's method with the same number of
    steps of equal length between two frames for the whole batch. The corners under the lid have
    the vorticity of its sheet, -2 lid / h, and the others 0: then the circulation, the integral of
    the vorticity by the trapezoidal rule, is -lid at all times. The corners enter nothing else.
    Wall values of the sheet depend on the solver's spacing h, as 1 / h. The loop over the steps has
    a length that depends on `times`, so that gradients are forward-mode only.

    Source: Saad et al. (2023), the lid-driven cavity, by Thom (1933) and E and Liu (1996).

    Args:
        lid: Lid speeds (side lengths per unit of time); the Reynolds number is lid / nu.
        points: Grid points along each side, both ends included: every s-th of the solver's.
        times: Times t >= 0, not decreasing.
        nu: Viscosity (length²/time).
        solver_points: Grid points of the solver along each side, both ends included.
        max_speed: Upper bound of the lid speeds, for the limit of the time step (not checked).
        time_step: Longest time step; None: 0.8 of the stability limit.

    Raises:
        ValueError: If the grid cannot be subsampled or is too coarse, or the step is too long.
    """
    stride = _stride(points, solver_points)
    step = _checked_step(solver_points, nu, max_speed, time_step)
    h = 1 / (solver_points - 1)
    poisson = poisson_solver(solver_points - 2, lid.dtype)
    speed = lid[None, :]

    def rate(w: Array) -> Array:
        psi = streamfunction(w, poisson)
        return _rate(_add_walls(w, psi, speed, h), jnp.pad(psi, ((1, 1), (1, 1), (0, 0))), nu, h)

    def heun(dt: Array, w: Array) -> Array:
        first = rate(w)
        return w + dt / 2 * (first + rate(w + dt * first))

    def to_frame(w: Array, gap: Array) -> tuple[Array, Array]:
        count = jnp.ceil(gap / step * (1 - 1e-5)).astype(jnp.int32)  # rounding adds no step
        dt = gap / jnp.maximum(count, 1)
        w = jax.lax.fori_loop(0, count, lambda _, w: heun(dt, w), w)
        return w, _add_walls(w, streamfunction(w, poisson), speed, h)[::stride, ::stride]

    rest = jnp.zeros((solver_points - 2, solver_points - 2, lid.size), lid.dtype)
    gaps = jnp.diff(times, prepend=0).astype(lid.dtype)
    _, frames = jax.lax.scan(to_frame, rest, gaps)
    frames = jnp.transpose(frames, (3, 1, 2, 0))  # [batch, x, y, time]
    initial = jnp.transpose(_add_walls(rest, rest, speed, h)[::stride, ::stride], (2, 0, 1))
    sides = Ends(frames[:, 0], frames[:, -1]), Ends(frames[:, :, 0], frames[:, :, -1])
    return Solution(initial, frames, sides)


def poisson_solver(n: int, dtype: np.dtype) -> Poisson:
    """Returns what `streamfunction` needs on a box with n x n interior points, of side 1."""
    k = np.arange(1, n + 1)
    sine = math.sqrt(2 / (n + 1)) * np.sin(np.pi * k[:, None] * k[None, :] / (n + 1))
    eigenvalue = (2 * (n + 1) * np.sin(np.pi * k / (2 * (n + 1)))) ** 2
    inverse = 1 / (eigenvalue[:, None] + eigenvalue[None, :])
    return Poisson(jnp.asarray(sine, dtype), jnp.asarray(inverse, dtype))


def streamfunction(w: Float[Array, "n n batch"], poisson: Poisson) -> Float[Array, "n n batch"]:
    """Returns psi with -(psi_xx + psi_yy) = w by five-point differences, and 0 on the walls."""

    def transform(field: Array) -> Array:
        return jnp.einsum("ki,ijb,jl->klb", poisson.sine, field, poisson.sine)

    return transform(transform(w) * poisson.inverse[:, :, None])


def _add_walls(
    w: Float[Array, "n n batch"],
    psi: Float[Array, "n n batch"],
    lid: Float[Array, "1 batch"],
    h: float,
) -> Float[Array, "m m batch"]:
    """Returns the vorticity with its values on the walls, from psi one point away (Thom)."""
    wall = -2 / h**2 * psi
    sheet = -2 / h * lid
    w = jnp.concatenate([wall[:1], w, wall[-1:]], axis=0)
    bottom = jnp.pad(wall[:, 0], ((1, 1), (0, 0)))
    top = jnp.pad(wall[:, -1], ((1, 1), (0, 0))) + sheet
    return jnp.concatenate([bottom[:, None], w, top[:, None]], axis=1)


def _rate(
    w: Float[Array, "m m batch"], psi: Float[Array, "m m batch"], nu: float, h: float
) -> Float[Array, "n n batch"]:
    """Returns dw/dt at the interior points."""

    def x_difference(f: Array) -> Array:
        return f[2:, 1:-1] - f[:-2, 1:-1]

    def y_difference(f: Array) -> Array:
        return f[1:-1, 2:] - f[1:-1, :-2]

    neighbors = w[2:, 1:-1] + w[:-2, 1:-1] + w[1:-1, 2:] + w[1:-1, :-2]
    diffusion = nu / h**2 * (neighbors - 4 * w[1:-1, 1:-1])
    turning = y_difference(psi) * x_difference(w) - x_difference(psi) * y_difference(w)
    return diffusion - turning / (4 * h**2)


def _stride(points: int, solver_points: int) -> int:
    if solver_points < 4 or points < 2 or (solver_points - 1) % (points - 1):
        raise ValueError(
            f"points={points}, solver_points={solver_points}: points - 1 >= 1 must divide "
            "solver_points - 1 >= 3"
        )
    return (solver_points - 1) // (points - 1)


def _checked_step(
    solver_points: int, nu: float, max_speed: float, time_step: float | None
) -> float:
    if nu <= 0 or max_speed <= 0:
        raise ValueError(f"nu={nu}, max_speed={max_speed}: expected both above 0")
    cell = max_speed / (solver_points - 1) / nu
    if cell > 8:
        raise ValueError(
            f"solver_points={solver_points}: max_speed h / nu is {cell:.3g}, central differences "
            f"need at most 8; raise solver_points to {math.ceil(max_speed / nu / 8) + 1} or nu"
        )
    limit = stable_step(solver_points, nu=nu, max_speed=max_speed)
    step = 0.8 * limit if time_step is None else time_step
    if not 0 < step <= limit:
        raise ValueError(
            f"time_step={step}: expected above 0 and at most {limit:.4g}, the stability limit "
            "min(h² / (4 nu), h / (2 max_speed)); lower time_step or solver_points"
        )
    return step
