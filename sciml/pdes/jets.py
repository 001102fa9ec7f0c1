"""A function of time and place with its derivatives at one point, for residuals of PDEs."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]
Field = Callable[[Array, Array], Array]  # u(t, x) of two scalars


class Jet(NamedTuple):
    """Value and derivatives of a field at one point."""

    u: Scalar
    u_t: Scalar
    u_x: Scalar
    u_xx: Scalar


def jet(fn: Field, t: Scalar, x: Scalar) -> Jet:
    """Returns u, u_t, u_x and u_xx of a scalar function fn(t, x) at one point.

    Forward mode, so that a loss of them is differentiated backwards through `fn` once; inside
    `jit` the derivatives that nobody reads cost nothing.
    """
    one = jnp.ones_like(x)

    def along_x(place: Array) -> tuple[Array, Array]:
        return jax.jvp(lambda s: fn(t, s), (place,), (one,))

    (u, u_x), (_, u_xx) = jax.jvp(along_x, (x,), (one,))
    _, u_t = jax.jvp(lambda s: fn(s, x), (t,), (jnp.ones_like(t),))
    return Jet(u, u_t, u_x, u_xx)
