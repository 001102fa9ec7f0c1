"""How many units of a layer are on, active at all, and different from one another."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from landscape.rank import AnyArray, check_features, check_finite
from landscape.vectors import HIGHEST

SHARES = (0.0, 0.01, 0.05, 0.1)
ACTIVATIONS = ("relu", "abs", "tanh")
SMALL = 0.05  # what |a| or tanh reaches at least, for a unit to be active


def active_counts(
    features: Float[AnyArray, "*batch n d"], shares: Sequence[float] = SHARES
) -> Int[Array, "*batch shares"]:
    """Returns how many units are on for more than each share of the examples.

    Source: Andriushchenko et al. (2023), released code: a unit is on for an example where its
    activation exceeds a twentieth of the largest one in the whole matrix.

    Args:
        features: Activations after a ReLU; every column is a unit.
        shares: 0 counts units that are on for any example.

    Raises:
        ValueError: If a share is not in [0, 1), or features are not finite or too few.
    """
    check_features(features, q=0.99)
    for share in shares:
        if not 0 <= share < 1:
            raise ValueError(f"shares has {share}: expected numbers from 0 to below 1")
    x = jnp.asarray(features)
    is_on = x > jnp.max(x, axis=(-2, -1), keepdims=True) / 20
    times = jnp.sum(is_on, axis=-2)  # [*batch, d]
    # Whole numbers: a share of float32 examples would be a rounding above or below.
    return jnp.stack([jnp.sum(times > share * x.shape[-2], axis=-1) for share in shares], axis=-1)


def is_active(
    activations: Float[AnyArray, "*batch n units"], activation: str = "relu"
) -> Bool[Array, "*batch units"]:
    """Returns which units of a two-layer network do something on some example.

    Source: Andriushchenko et al. (2023), released code: after a ReLU, above 0; after |.| or tanh,
    at least 0.05 in absolute value.

    Args:
        activations: Of the hidden layer, after the activation function.
        activation: Which it was: one of `ACTIVATIONS`.

    Raises:
        ValueError: If the activation is unknown, or activations are not finite.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: expected one of {', '.join(ACTIVATIONS)}")
    _check(activations)
    x = jnp.asarray(activations)
    does = x > 0 if activation == "relu" else jnp.abs(x) >= SMALL
    return jnp.any(does, axis=-2)


def active_units(
    activations: Float[AnyArray, "*batch n units"], activation: str = "relu"
) -> Int[Array, "*batch"]:
    """Returns how many units `is_active` finds."""
    return jnp.sum(is_active(activations, activation), axis=-1)


def is_distinct(
    activations: Float[AnyArray, "*batch n units"], *, threshold: float | Float[Array, ""] = 0.999
) -> Bool[Array, "*batch units"]:
    """Returns the units that are left when those like another one are deleted.

    Source: Andriushchenko et al. (2023), released code: units that are never above 0 go first;
    then, one after another, units whose correlation with another remaining one exceeds 0.999 in
    absolute value. A unit that is the same on all examples has no correlation, and stays.

    Args:
        activations: Of the hidden layer, after the activation function.
        threshold: Of the absolute correlation over examples.

    Raises:
        ValueError: If activations are not finite.
    """
    _check(activations)
    x = jnp.asarray(activations)
    rest = x - jnp.mean(x, axis=-2, keepdims=True)
    length = jnp.linalg.norm(rest, axis=-2, keepdims=True)
    unit = jnp.where(length > 0, rest / jnp.where(length > 0, length, 1), 0)
    like = jnp.abs(jnp.einsum("...ni,...nj->...ij", unit, unit, precision=HIGHEST)) > threshold
    like = like & jnp.broadcast_to(~jnp.eye(x.shape[-1], dtype=bool), like.shape)

    def delete(i: Array, remaining: Array) -> Array:  # [*batch, units]
        has_twin = jnp.any(like[..., i, :] & remaining, axis=-1)
        return remaining.at[..., i].set(remaining[..., i] & ~has_twin)

    return lax.fori_loop(0, x.shape[-1], delete, jnp.any(x > 0, axis=-2))


def distinct_units(
    activations: Float[AnyArray, "*batch n units"], *, threshold: float | Float[Array, ""] = 0.999
) -> Int[Array, "*batch"]:
    """Returns how many units `is_distinct` finds."""
    return jnp.sum(is_distinct(activations, threshold=threshold), axis=-1)


def _check(activations: Any) -> None:
    if not isinstance(activations, jax.core.Tracer):
        check_finite(activations, name="activations")
