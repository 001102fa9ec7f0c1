"""The Stefan problem: diffusion that stops where u falls below a threshold, so that a front forms.

u_t = (k(u) u_x)_x with k = 1 for u >= u* and 0 below, u = 0 at t = 0, u(t, 0) = 1, 0 < u* < 1. The
solution on x >= 0, of which [0, 1] is looked at, jumps from u* to 0 at x = 2 z sqrt(t).

All functions take scalars: the threshold u*, one time t >= 0, one place x >= 0. The flux F is that
of u_t + F_x = 0.

Source: Hansen et al. (2023), problem "Stefan".
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import erf
from jaxtyping import Array

from sciml.pdes.fronts import is_behind
from sciml.pdes.jets import Field, Scalar, jet

# Of log z: from 1 - u* = 1e-25, less than any float64 below 1 leaves, to the least u* there is.
BRACKET = (math.log(1e-13), math.log(1e15))
BISECTIONS = 66  # halve the bracket to below one rounding error of float64


def stefan_root(threshold: Scalar) -> Scalar:
    """Returns z > 0 of u* erf(z) z e^{z^2} = (1 - u*) / sqrt(pi), half the front's x / sqrt(t).

    Source: Hansen et al. (2023), the front of the Stefan problem.

    The equation is solved in logarithms, where it is monotone and overflows for no z, by bisection;
    derivatives of any order are those of the implicit function.
    """
    wanted = jnp.log1p(-threshold) - jnp.log(threshold) - math.log(math.pi) / 2

    def excess(log_z: Array) -> Array:
        z = jnp.exp(log_z)
        return jnp.log(erf(z)) + log_z + z**2 - wanted

    def bisect(f: Callable[[Array], Array], start: Array) -> Array:
        def halve(_: Array | int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = (low + high) / 2
            is_above = f(middle) > 0
            return jnp.where(is_above, low, middle), jnp.where(is_above, middle, high)

        ends = (jnp.full_like(start, BRACKET[0]), jnp.full_like(start, BRACKET[1]))
        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, ends)
        return (low + high) / 2

    def divide(slope: Callable[[Array], Array], value: Array) -> Array:
        return value / slope(jnp.ones_like(value))

    return jnp.exp(jax.lax.custom_root(excess, jnp.zeros_like(threshold), bisect, divide))


def stefan_front(threshold: Scalar, t: Scalar) -> Scalar:
    """Returns the front 2 z sqrt(t), beyond which u = 0; it may leave [0, 1]."""
    return 2 * stefan_root(threshold) * jnp.sqrt(t)


def _width(t: Scalar) -> Scalar:
    """Returns 2 sqrt(t); 1 at t = 0, where the medium is empty and no length is needed."""
    return 2 * jnp.sqrt(jnp.where(t > 0, t, 0.25))


def _scale(threshold: Scalar) -> Scalar:
    """Returns c = (1 - u*) / erf(z) of the profile 1 - c erf(x / 2 sqrt(t))."""
    return (1 - threshold) / erf(stefan_root(threshold))


def stefan(threshold: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns 1 - c erf(x / 2 sqrt(t)) up to the front, where it is u*, and 0 beyond."""
    profile = 1 - _scale(threshold) * erf(x / _width(t))
    return jnp.where(is_behind(x, stefan_front(threshold, t)), profile, 0)


def stefan_flux(threshold: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns -k(u) u_x = c e^{-x^2 / 4t} / sqrt(pi t) up to the front; infinite at x = t = 0."""
    width = _width(t)
    flux = 2 * _scale(threshold) * jnp.exp(-((x / width) ** 2)) / (math.sqrt(math.pi) * width)
    started = jnp.where(t > 0, flux, jnp.inf)
    return jnp.where(is_behind(x, stefan_front(threshold, t)), started, 0)


def stefan_window(threshold: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns the mass of [0, x]; beyond the front it is 2 c sqrt(t / pi)."""
    width = _width(t)
    filled = jnp.minimum(x, stefan_front(threshold, t))
    y = filled / width
    # The integral of erf from 0 to y; expm1 keeps the digits of small y.
    lost = y * erf(y) + jnp.expm1(-(y**2)) / math.sqrt(math.pi)
    return filled - _scale(threshold) * width * lost


def stefan_residual(fn: Field, threshold: Scalar, t: Scalar, x: Scalar) -> Scalar:
    """Returns u_t - k(u) u_xx of u = fn(t, x) at one point.

    The derivative of the step k is 0 almost everywhere: what happens at the front, the jump and
    its speed, is invisible to this residual, and it has no derivative towards the threshold.
    """
    at = jet(fn, t, x)
    return at.u_t - jnp.where(at.u >= threshold, at.u_xx, 0)
