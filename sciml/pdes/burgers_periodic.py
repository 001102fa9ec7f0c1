"""Viscous Burgers equation on a circle: u_t + u u_x = nu u_xx, u(0, t) = u(1, t), random start.

Exact up to rounding by the Cole-Hopf transform (Cole 1951, Hopf 1950): with the mean m of u and
the potential Ψ(y) = ∫ (u_0 - m) dy, u(x, t) is m plus the average of u_0(y) - m with the positive
weights G(x - m t - y, t) exp(-Ψ(y) / (2 nu)), where G is the heat kernel of the circle. An average
loses no digits, whereas the usual -2 nu φ_x / φ divides two small differences.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.numbers import floating
from sciml.pdes.solution import Ends, Solution


class PeriodicParams(NamedTuple):
    """Initial data mean + Σ_k cos_k cos(2 pi k x) + sin_k sin(2 pi k x), k = 1 .. modes."""

    mean: Float[Array, " batch"]
    cos: Float[Array, "batch modes"]
    sin: Float[Array, "batch modes"]


def sample_burgers_periodic(
    key: PRNGKeyArray, num: int, *, modes: int = 256, amplitude: float = 1.0
) -> PeriodicParams:
    """Draws initial data from the Gaussian distribution N(0, amplitude² 625 (25 I - d²/dx²)^-2).

    Source: Li et al. (2021) and Saad et al. (2023), periodic Burgers. Mode k has the standard
    deviation 25 / (4 pi² k² + 25), the mean (k = 0) amplitude.

    Args:
        key: Random key.
        num: Batch size.
        modes: Frequencies kept.
        amplitude: Factor of the field.

    Raises:
        ValueError: If no frequency is kept.
    """
    if modes < 1:
        raise ValueError(f"modes={modes}: expected at least 1")
    k = jnp.arange(1, modes + 1)
    scale = amplitude * math.sqrt(2) * 25 / (4 * jnp.pi**2 * k**2 + 25)
    key_mean, key_waves = jax.random.split(key)
    cos, sin = jax.random.normal(key_waves, (2, num, modes)) * scale[None, None, :]
    return PeriodicParams(amplitude * jax.random.normal(key_mean, (num,)), cos, sin)


def solve_burgers_periodic(
    params: PeriodicParams,
    points: int,
    times: Float[Array, " time"],
    *,
    nu: float = 0.1,
    resolution: int = 1024,
) -> Solution:
    """Returns the solution on `points` grid points, the last of which is the first.

    Source: Saad et al. (2023), periodic Burgers, by Cole (1951) and Hopf (1950).

    Exact up to rounding while exp(-Ψ / (2 nu)) is in the range of the precision. Where it is not
    (float32: nu below about 0.005 for draws of `sample_burgers_periodic`), values are NaN.

    Args:
        params: Initial data.
        points: Grid points, both ends included.
        times: Times t >= 0. Between 0 and 1 / (2 nu resolution²) small φ lose digits.
        nu: Viscosity (length²/time).
        resolution: Least number of points of the inner grid, a multiple of points - 1.

    Raises:
        ValueError: If a grid is too coarse for the modes of the initial data.
    """
    modes = params.cos.shape[-1]
    if points < 2:
        raise ValueError(f"points={points}: a grid with both ends needs at least 2")
    if resolution < 4 * modes:
        raise ValueError(
            f"resolution={resolution}: {modes} modes of the initial data need at least {4 * modes}"
        )
    times = floating(times)
    stride = -(-resolution // (points - 1))
    nodes = stride * (points - 1)
    offset = (stride * jnp.arange(points - 1)[:, None] - jnp.arange(nodes)[None, :]) % nodes
    kernel = heat_kernel(times, nodes, nu)[:, offset]  # [time, points - 1, nodes]

    velocity, potential = _at_nodes(params, times, nodes)  # [batch, time, nodes]
    exponent = -potential / (2 * nu)
    weight = jnp.exp(exponent - exponent.max(axis=-1, keepdims=True))
    phi = jnp.einsum("tij,btj->bit", kernel, weight) / nodes
    flow = jnp.einsum("tij,btj->bit", kernel, weight * velocity) / nodes
    limits = jnp.finfo(phi.dtype)
    phi = jnp.where(phi > nodes * limits.tiny / limits.eps, phi, jnp.nan)

    start = _at_nodes(params, jnp.zeros_like(times, shape=(1,)), nodes)[0][:, 0, ::stride]
    frames = jnp.where(times[None, None, :] > 0, flow / phi, start[..., None])
    frames = params.mean[:, None, None] + jnp.concatenate([frames, frames[:, :1]], axis=1)
    initial = params.mean[:, None] + jnp.concatenate([start, start[:, :1]], axis=1)
    zero = jnp.zeros_like(frames[:, 0])
    return Solution(initial, frames, (Ends(zero, zero),))


def heat_kernel(times: Float[Array, " time"], nodes: int, nu: float) -> Float[Array, "time nodes"]:
    """Returns the heat kernel of a circle of length 1 at the distances 0, 1 / nodes, ...

    A sum of bells where it is narrow but resolved, so that its tails keep their digits; elsewhere
    its Fourier series, which for t -> 0 becomes trigonometric interpolation.
    """
    spread = jnp.sqrt(2 * nu * times)
    resolved = (spread * nodes >= 1) & (spread <= 0.2)
    sigma = jnp.where(resolved, spread, 1)[:, None, None]
    distance = jnp.arange(nodes) / jnp.asarray(nodes, times.dtype)
    images = jnp.arange(-2, 2)[:, None] + distance[None, :]  # beyond: exp(-25) at most
    bells = jnp.exp(-0.5 * (images[None] / sigma) ** 2).sum(axis=1)
    bells /= sigma[:, 0] * math.sqrt(2 * math.pi)
    k = jnp.arange(nodes // 2 + 1)
    damping = jnp.exp(-((2 * jnp.pi * k[None, :]) ** 2) * nu * times[:, None])
    series = jnp.fft.irfft(damping, n=nodes, axis=-1) * nodes
    return jnp.where(resolved[:, None], bells, series)


def _at_nodes(
    params: PeriodicParams, times: Float[Array, " time"], nodes: int
) -> tuple[Float[Array, "batch time nodes"], Float[Array, "batch time nodes"]]:
    """Returns u_0 - m and its potential Ψ at j / nodes - m t."""
    k = jnp.arange(1, params.cos.shape[-1] + 1)
    turns = params.mean[:, None, None] * times[None, :, None] * k[None, None, :]
    shift = jnp.exp(-2j * jnp.pi * turns)
    waves = shift * jax.lax.complex(params.cos, -params.sin)[:, None, :]

    def field(waves: Array) -> Array:
        padded = jnp.pad(waves * (nodes / 2), ((0, 0), (0, 0), (1, 0)))  # no mean
        return jnp.fft.irfft(padded, n=nodes, axis=-1)

    return field(waves), field(waves / (2j * jnp.pi * k[None, None, :]))
