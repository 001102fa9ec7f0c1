"""Errors of predicted fields, one number for each sample."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def relative_l2(
    predicted: Float[Array, " batch *grid"], true: Float[Array, " batch *grid"]
) -> Float[Array, " batch"]:
    """Returns ||predicted - true|| / ||true|| over all grid points and times."""
    axes = tuple(range(1, true.ndim))
    return jnp.sqrt(jnp.sum((predicted - true) ** 2, axis=axes) / jnp.sum(true**2, axis=axes))
