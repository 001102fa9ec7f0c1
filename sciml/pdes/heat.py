"""Heat equation with a given flux: u_t = nu u_xx, u_x(0, t) = 0, u_x(1, t) = flux sin(pi t).

The initial data are cos(omega pi x); they miss the flux at x = 1, so that u_x jumps at t = 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.numbers import floating
from sciml.pdes.solution import Ends, Solution, uniform_grid


def solve_heat(
    omega: Float[Array, " batch"],
    points: int,
    times: Float[Array, " time"],
    *,
    nu: float,
    flux: float,
    terms: int = 512,
) -> Solution:
    """Returns the exact solution as a polynomial with the right flux and a cosine series.

    Source: Saad et al. (2023), the heat equation, by separation of variables.

    Args:
        omega: Half waves of the initial data per unit of length.
        points: Grid points, both ends included.
        times: Times t >= 0. Times with nu t (terms pi)² < 14, but not 0, miss a part of the series:
            0 < t < 5e-4 for nu = 0.01 and the default.
        nu: Diffusivity (length²/time).
        flux: Largest slope at x = 1.
        terms: Cosines of the series; later times miss up to 2 flux / (3 pi³ nu terms³), for
            BOON's numbers 8e-8, less than float32 rounds (6e-6 with the sum).

    Raises:
        ValueError: If there are less than 2 points or no terms.
    """
    if terms < 1:
        raise ValueError(f"terms={terms}: the series needs at least 1")
    times = floating(times)
    x = uniform_grid(points, dtype=times.dtype)
    wave, mean = flux * jnp.sin(jnp.pi * times), jnp.sinc(omega)
    heated = flux * nu / jnp.pi * (1 - jnp.cos(jnp.pi * times)) - wave / 6
    parabola = x[:, None] ** 2 / 2 * wave[None, :] + heated[None, :]  # [points, time]
    series = jnp.einsum(
        "bnt,nx->bxt",
        _amplitudes(omega, times, nu, flux, terms),
        _cosines(terms, points, times.dtype),
    )
    initial = jnp.cos(jnp.pi * omega[:, None] * x[None, :])
    frames = parabola[None] + mean[:, None, None] + series
    frames = jnp.where(times[None, None, :] > 0, frames, initial[..., None])
    slope = jnp.broadcast_to(wave[None, :], (omega.size, times.size))
    return Solution(initial, frames, (Ends(jnp.zeros_like(slope), slope),))


class Heated(NamedTuple):
    """Parameters of `solve_heat_flux`.

    Attributes:
        flux: Largest slope at x = 1.
        omega: Half waves of the initial data per unit of length.
    """

    flux: Float[Array, " batch"]
    omega: Float[Array, " batch"]


def solve_heat_flux(
    params: Heated, points: int, times: Float[Array, " time"], *, nu: float
) -> Solution:
    """Returns `solve_heat` where every sample has a flux of its own.

    The solution is linear in initial data and flux: that without flux, plus the flux times what a
    flux of 1 adds to it.
    """
    free, unit = (solve_heat(params.omega, points, times, nu=nu, flux=x) for x in (0.0, 1.0))
    flux = params.flux[:, None]
    frames = free.frames + flux[..., None] * (unit.frames - free.frames)
    (ends,) = unit.boundary
    return Solution(free.initial, frames, (Ends(flux * ends.low, flux * ends.high),))


def _amplitudes(
    omega: Float[Array, " batch"], times: Float[Array, " time"], nu: float, flux: float, terms: int
) -> Float[Array, "batch terms time"]:
    """Returns the factors of cos(n pi x), n = 1 .. terms.

    Each obeys c' = -rate c - forcing cos(pi t): an answer to the forcing, and a decay from the
    coefficients of the initial data.
    """
    n = np.arange(1, terms + 1)
    rate = nu * (n * np.pi) ** 2
    share = 2 * np.pi * flux * (-1.0) ** n / (n * np.pi) ** 2 / (rate**2 + np.pi**2)
    n, rate, share = (jnp.asarray(a, times.dtype)[:, None] for a in (n, rate, share))
    angle = jnp.pi * times[None, :]
    forced = share * (rate * jnp.cos(angle) + jnp.pi * jnp.sin(angle))
    decay = jnp.exp(-rate * times[None, :])
    start = jnp.sinc(omega[:, None] - n.T) + jnp.sinc(omega[:, None] + n.T) + (share * rate).T
    return start[:, :, None] * decay[None] - forced[None]


def _cosines(terms: int, points: int, dtype: np.dtype) -> Float[Array, "terms points"]:
    """Returns cos(n pi x) on the grid; its angles are reduced as integers, so exact."""
    half_turns = np.arange(1, terms + 1)[:, None] * np.arange(points)[None, :] % (2 * points - 2)
    return jnp.asarray(np.cos(np.pi * half_turns / (points - 1)), dtype)
