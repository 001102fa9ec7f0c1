"""Stokes' second problem: a viscous fluid above a wall that oscillates in its own plane.

u_t = nu u_xx on 0 < x < 1, u(0, t) = amplitude cos(omega t), values given at both ends.
"""

import jax.numpy as jnp

from sciml.pdes.jets import Scalar


def stokes_velocity(omega: Scalar, x: Scalar, t: Scalar, *, nu: float, amplitude: float) -> Scalar:
    """Returns amplitude e^{-kx} cos(kx - omega t) with k = sqrt(omega / (2 nu)) at one point.

    Source: Saad et al. (2023), Stokes' second problem (Stokes 1851), with amplitude 2.

    Args:
        omega: Angular frequency of the wall (radians per unit of time).
        x: Distance from the wall.
        t: Any time.
        nu: Viscosity (length²/time).
        amplitude: Largest velocity of the wall.
    """
    depth = jnp.sqrt(omega / (2 * nu)) * x
    return amplitude * jnp.exp(-depth) * jnp.cos(depth - omega * t)
