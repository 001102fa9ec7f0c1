"""Viscous Burgers equation with a shock: a travelling front, and a step that is let go at t = 0.

u_t + u u_x = nu u_xx on 0 < x < 1, u = u_left far on the left and u_right on the right of x = 1/2,
u_left > u_right, values given at both ends.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from sciml.pdes.jets import Scalar

CENTER = 0.5  # where the step is at t = 0


def front_velocity(
    u_left: Scalar, x: Scalar, t: Scalar, *, nu: float, u_right: float = 0.0
) -> Scalar:
    """Returns the front that travels at speed (u_left + u_right) / 2, at one point and any time.

    (u_left + u_right) / 2 - (jump / 2) tanh(jump (x - 1/2 - speed t) / (4 nu)), as a logistic
    function, which keeps the digits of a velocity near u_right = 0. It is about 8 nu / jump wide.
    """
    jump, speed = u_left - u_right, (u_left + u_right) / 2
    return u_right + jump * jax.nn.sigmoid(-jump * (x - CENTER - speed * t) / (2 * nu))


def step_velocity(
    u_left: Scalar, x: Scalar, t: Scalar, *, nu: float, u_right: float = 0.0
) -> Scalar:
    """Returns the velocity at one point and t >= 0 after a step at x = 1/2.

    Cole-Hopf transform in logarithms: u_right + jump / (1 + f), z = x - 1/2,
    f = exp[jump (z - speed t) / (2 nu)] Φ[(z - u_right t) / σ] / Φ[(u_left t - z) / σ] with the
    normal distribution function Φ and σ² = 2 nu t. For a shock, u_left > u_right, the logarithms
    cancel nowhere that u depends on them: float32 is accurate to 1e-5 for nu >= 1e-3. At t = 0 and
    x = 1/2 it is the limit, the mean.

    Source: Saad et al. (2023), Burgers' equation, by Cole (1951) and Hopf (1950). Which of this and
    the front the authors used is not known.
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
