"""Dropout."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def dropout(
    key: PRNGKeyArray,
    x: Float[Array, "*shape"],
    *,
    rate: float | Float[Array, ""],
    shape: Sequence[int] | None = None,
) -> Float[Array, "*shape"]:
    """Returns `x` with entries set to 0 and the rest scaled up, so that its mean is `x`.

    Args:
        key: Draws the entries.
        x: Any array.
        rate: Probability that an entry is dropped, in [0, 1).
        shape: Of what is drawn, with axes of 1 along which entries share their fate; default: each
            has its own.
    """
    is_kept = jax.random.bernoulli(key, 1 - rate, x.shape if shape is None else tuple(shape))
    return jnp.where(is_kept, x / (1 - rate), 0)
