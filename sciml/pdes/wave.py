"""Standing waves in a square box: u_tt = speed² (u_xx + u_yy), no slope at the walls."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml.numbers import floating
from sciml.pdes.jets import Scalar
from sciml.pdes.solution import Ends, Solution, uniform_grid


def wave_height(amplitude: Scalar, x: Scalar, y: Scalar, t: Scalar, *, speed: float) -> Scalar:
    """Returns amplitude cos(pi x) cos(pi y) cos(sqrt(2) pi speed t) at one point."""
    swing = jnp.cos(math.sqrt(2) * math.pi * speed * t)
    return amplitude * jnp.cos(jnp.pi * x) * jnp.cos(jnp.pi * y) * swing


def solve_wave(
    amplitude: Float[Array, " batch"], points: int, times: Float[Array, " time"], *, speed: float
) -> Solution:
    """Returns the exact standing wave on points x points grid points, axes [batch, x, y, time].

    Source: Saad et al. (2023), the wave equation. All solutions are multiples of one: an operator
    only has to find the amplitude.

    Args:
        amplitude: Heights at t = 0, where the waves are at rest.
        points: Grid points along each side, both ends included.
        times: Any times.
        speed: Speed of sound (length/time).
    """
    times = floating(times)
    x = uniform_grid(points, dtype=times.dtype)

    def height(times: Array) -> Array:
        u = lambda amplitude, x, y, t: wave_height(amplitude, x, y, t, speed=speed)
        over_time = jax.vmap(u, (None, None, None, 0))
        over_square = jax.vmap(jax.vmap(over_time, (None, None, 0, None)), (None, 0, None, None))
        return jax.vmap(over_square, (0, None, None, None))(amplitude, x, x, times)

    frames = height(times)
    still = jnp.zeros_like(frames[:, 0])
    initial = height(jnp.zeros_like(times, shape=(1,)))[..., 0]
    return Solution(initial, frames, (Ends(still, still), Ends(still, still)))
