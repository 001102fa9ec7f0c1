"""Two hyperbolic conservation laws with a jump: linear advection, and Burgers without viscosity.

Advection: u_t + a u_x = 0 on x of [0, 1], a step at x = 1/2 and inflow u(t, 0) = 1.
Burgers: u_t + (u^2 / 2)_x = 0 on x of [-1, 1], a ramp -a x on [-1, 0] at t = 0, 0 right of it,
inflow u(t, -1) = a. The ramp steepens to a shock at t = 1/a, which moves at speed a / 2.

All functions take scalars: one parameter a > 0, one time t >= 0, one place x; jumps may have left
the domain. The flux F is that of u_t + F_x = 0.

Source: Hansen et al. (2023), problems "Linear advection" and "Burgers".
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from sciml.pdes.fronts import is_behind
from sciml.pdes.jets import Field, Scalar, jet


def advection_front(a: Scalar, t: Scalar) -> Scalar:
    """Returns the jump 1/2 + a t, beyond which u = 0; it may leave [0, 1]."""
    return 0.5 + a * t


def advection(a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns 1 for x - a t <= 1/2, else 0."""
    return is_behind(x, advection_front(a, t)).astype(x.dtype)


def advection_flux(a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns a u."""
    return a * advection(a, t, x)


def advection_window(a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns the mass of [0, x], min(x, 1/2 + a t)."""
    return jnp.minimum(x, advection_front(a, t))


def advection_residual(fn: Field, a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns u_t + a u_x of u = fn(t, x) at one point."""
    at = jet(fn, t, x)
    return at.u_t + a * at.u_x


def burgers_front(a: Scalar, t: Scalar) -> Scalar:
    """Returns where u becomes 0: the foot x = 0 of the ramp, after t = 1/a the shock (at - 1)/2."""
    return jnp.maximum((a * t - 1) / 2, 0)


def _ramp_width(a: Scalar, t: Scalar) -> tuple[Bool[Array, ""], Scalar]:
    """Returns whether there still is a ramp, and its width 1 - a t (1 instead of 0 or less)."""
    has_ramp = a * t < 1 - 4 * float(jnp.finfo(t.dtype).eps)  # more than rounding errors wide
    return has_ramp, jnp.where(has_ramp, 1 - a * t, 1)


def burgers_shock(a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns a left of the ramp, -a x / (1 - a t) on it, or a up to the shock, and 0 beyond."""
    has_ramp, width = _ramp_width(a, t)
    ramp = a * jnp.clip(-x / width, 0, 1)
    return jnp.where(has_ramp, ramp, jnp.where(is_behind(x, burgers_front(a, t)), a, 0))


def burgers_flux(a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns u^2 / 2."""
    return burgers_shock(a, t, x) ** 2 / 2


def burgers_window(a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns the mass of [-1, x]; that of [-1, 1] is min((a / 2)(1 + a t), 2 a)."""
    has_ramp, width = _ramp_width(a, t)
    flat = jnp.where(has_ramp, -width, burgers_front(a, t))  # u = a up to here
    on_ramp = jnp.clip(x, -width, 0)
    ramp = jnp.where(has_ramp, a / 2 * (width - on_ramp**2 / width), 0)
    return a * (jnp.minimum(x, flat) + 1) + ramp


def burgers_residual(fn: Field, a: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns u_t + u u_x of u = fn(t, x) at one point."""
    at = jet(fn, t, x)
    return at.u_t + at.u * at.u_x
