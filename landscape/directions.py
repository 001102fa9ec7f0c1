"""Directions of lines and planes in parameter space: random ones, and through other checkpoints.

Add them with `landscape.vectors.moved`: theta + a d + b e. Every function is pure and works under
`jit` and `vmap`. Directions along eigenvectors of the Hessian are the `vectors` of
`curvature.eigenpairs`; those of an optimizer's path the `axes` of `trajectories.path_axes`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from landscape.filters import FLAX_RULES, FilterRules, normalized
from landscape.vectors import PyTree, direction_of, dot, layout_of, moving, to_leaves


class Plane(NamedTuple):
    """A plane through checkpoints: theta(a, b) = theta_1 + a x + b y.

    Attributes:
        x: The first direction.
        y: The second direction.
        coordinates: Where the three checkpoints lie.
    """

    x: PyTree
    y: PyTree
    coordinates: Float[Array, "3 2"]


def gaussian(key: PRNGKeyArray, params: PyTree, *, frozen: str | None = None) -> PyTree:
    """Returns a direction of independent N(0, 1) entries, biases and norm layers included.

    Raises:
        ValueError: If `frozen` matches no parameter.
    """
    layout = layout_of(params, frozen=frozen)
    draws = jax.random.normal(key, (layout.size,), layout.dtype)
    return direction_of(layout, to_leaves(layout, draws))


def random_direction(
    key: PRNGKeyArray, params: PyTree, *, by: str = "filter", rules: FilterRules = FLAX_RULES
) -> PyTree:
    """Returns a Gaussian direction, normalized as `filters.normalized` says.

    Source: Li et al. (2018), Sec. 4 and released code, net_plotter.py. `by` is filter, layer,
    weight, dfilter, dlayer or none.

    Raises:
        ValueError: If `by` is unknown, or a regex of `rules` matches no parameter.
    """
    draws = gaussian(key, params, frozen=rules.frozen)
    return normalized(draws, params, by=by, rules=rules)


def filter_normalized(
    key: PRNGKeyArray, params: PyTree, *, rules: FilterRules = FLAX_RULES
) -> PyTree:
    """Returns a Gaussian direction each filter of which is as long as that of the parameters.

    Source: Li et al. (2018), Eq. 1.

    Raises:
        ValueError: If a regex of `rules` matches no parameter.
    """
    return random_direction(key, params, rules=rules)


def random_plane(
    key: PRNGKeyArray, params: PyTree, *, by: str = "filter", rules: FilterRules = FLAX_RULES
) -> tuple[PyTree, PyTree]:
    """Returns two independent directions; nearly, not exactly, at right angles.

    Source: Li et al. (2018), Sec. 4.
    """
    first, second = jax.random.split(key)
    draw = lambda key: random_direction(key, params, by=by, rules=rules)
    return draw(first), draw(second)


def towards(params: PyTree, other: PyTree, *, frozen: str | None = None) -> PyTree:
    """Returns theta_2 - theta_1: the direction of the line through two checkpoints.

    Source: Li et al. (2018), Sec. 3; theta(a) = theta_1 + a (theta_2 - theta_1).

    Raises:
        ValueError: If `other` is of another tree.
    """
    layout = layout_of(params, frozen=frozen)
    pairs = zip(moving(layout, other, name="other"), moving(layout, params), strict=True)
    return direction_of(layout, [b.astype(a.dtype) - a for b, a in pairs])


def plane_through(
    first: PyTree, second: PyTree, third: PyTree, *, orthogonal: bool = False
) -> Plane:
    """Returns the plane through three checkpoints, the first being its origin.

    Args:
        first: theta_1 = theta(0, 0).
        second: theta_2, on the first axis.
        third: theta_3.
        orthogonal: Make y orthogonal to x and as long as x, so that the picture keeps angles and
            distances; theta_3 then lies anywhere. Otherwise y = theta_3 - theta_1.

    Raises:
        ValueError: If they are of different trees.
    """
    x, y = towards(first, second), towards(first, third)
    if not orthogonal:
        return Plane(x, y, jnp.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    length = dot(x, x)
    along = _ratio(dot(x, y), length)
    across = jax.tree.map(lambda b, a: b - along * a, y, x)
    height = _ratio(jnp.sqrt(dot(across, across)), jnp.sqrt(length))
    y = jax.tree.map(lambda c: _ratio(c, height), across)
    zero, one = jnp.zeros_like(along), jnp.ones_like(along)
    corners = [[zero, zero], [one, zero], [along, height]]
    return Plane(x, y, jnp.stack([jnp.stack(corner) for corner in corners]))


def _ratio(x: Array, y: Array) -> Array:
    """Returns x / y, 0 where y is: of checkpoints that are equal, or on one line."""
    return jnp.where(y == 0, 0, x / jnp.where(y == 0, 1, y))
