"""Diffusion with a constant coefficient, and the porous medium equation.

Diffusion: u_t = k u_xx, periodic in x of [0, 2 pi], u = sin x at t = 0.
Porous medium (PME): u_t = (u^m u_x)_x on x of [0, 1], u = 0 at t = 0, u(t, 0) = (m t)^(1/m); its
coefficient vanishes with u, so the medium fills at a finite speed.

All functions take scalars: one parameter, one time t >= 0, one place x. The flux F is that of
u_t + F_x = 0.

Source: Hansen et al. (2023), problems "Diffusion" and "PME".
"""

import jax.numpy as jnp

from sciml.pdes.jets import Field, Scalar, jet


def diffusion(k: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns e^{-kt} sin x."""
    return jnp.exp(-k * t) * jnp.sin(x)


def diffusion_flux(k: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns -k u_x = -k e^{-kt} cos x."""
    return -k * jnp.exp(-k * t) * jnp.cos(x)


def diffusion_window(k: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns the mass of [0, x], e^{-kt} (1 - cos x), without its cancellation near 0 and 2 pi."""
    return 2 * jnp.exp(-k * t) * jnp.sin(x / 2) ** 2


def diffusion_residual(fn: Field, k: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns u_t - k u_xx of u = fn(t, x) at one point."""
    at = jet(fn, t, x)
    return at.u_t - k * at.u_xx


def _power(base: Scalar, exponent: Scalar, floor: float = 0.0) -> Scalar:
    """Returns base^exponent above `floor` and 0 below, where derivatives are 0 and not NaN."""
    is_wet = base > floor
    return jnp.where(is_wet, jnp.where(is_wet, base, 1) ** exponent, 0)


def porous_medium(m: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns [m max(t - x, 0)]^{1/m}; for m > 1 the slope at the front x = t is infinite."""
    return _power(m * (t - x), 1 / m)


def porous_medium_flux(m: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns -u^m u_x, which is u itself: the medium moves at speed 1."""
    return porous_medium(m, t, x)


def porous_medium_window(m: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns the mass of [0, x], [(m t)^{1 + 1/m} - (m max(t - x, 0))^{1 + 1/m}] / (m + 1)."""
    exponent = 1 + 1 / m
    return (_power(m * t, exponent) - _power(m * (t - x), exponent)) / (m + 1)


def porous_medium_front(m: Scalar, t: Scalar) -> Scalar:
    """Returns where u becomes 0: x = t for every m."""
    del m
    return t


def porous_medium_residual(fn: Field, m: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns u_t - u^m u_xx - m u^{m-1} u_x^2 of u = fn(t, x) at one point.

    Where u is below one rounding error of 1, or negative, it counts as dry: no diffusion, and
    finite derivatives (those of u^{m-1} are unbounded there for m < 2).
    """
    at = jet(fn, t, x)
    floor = float(jnp.finfo(at.u.dtype).eps)
    spread = _power(at.u, m, floor) * at.u_xx
    return at.u_t - spread - m * _power(at.u, m - 1, floor) * at.u_x**2
