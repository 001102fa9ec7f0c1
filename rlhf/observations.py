"""Observations as networks take them."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def as_numbers(observations: Shaped[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Returns observations as floats: bytes over 255, booleans as 0 and 1, others as they are."""
    if jnp.issubdtype(observations.dtype, jnp.floating):
        return observations
    scale = 255 if observations.dtype == jnp.uint8 else 1
    return observations.astype(jnp.float32) / scale
