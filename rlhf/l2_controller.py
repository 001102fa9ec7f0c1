"""The weight of an l2 penalty, moved until validation loss over training loss is in a band."""

import jax.numpy as jnp
from jaxtyping import Array, Float

LOW, HIGH = 1.1, 1.5  # validation loss / training loss
SMALLEST, LARGEST = 1e-8, 1.0  # of the coefficient


def adjust(
    coefficient: Float[Array, "*members"],
    train_loss: Float[Array, "*members"],
    valid_loss: Float[Array, "*members"],
    *,
    factor: Float[Array, ""] | float = 0.1,
    low: float = LOW,
    high: float = HIGH,
) -> Float[Array, "*members"]:
    """Returns the coefficient, larger where a member overfits and smaller where it does not.

    Source: Christiano et al. (2017), Sec. 2.2.3, which gives the band only.

    Args:
        coefficient: Of every member.
        train_loss: Mean over in-bag labels; a sum would change the ratio with their number.
        valid_loss: Mean over out-of-bag labels; nan where there are none.
        factor: Share by which a coefficient moves; 0 leaves all as they are.
        low: Below this ratio of validation loss over training loss it shrinks.
        high: Above this ratio it grows.
    """
    ratio = valid_loss / train_loss
    grown = jnp.where(ratio > high, coefficient * (1 + factor), coefficient)
    moved = jnp.where(ratio < low, coefficient * (1 - factor), grown)
    is_on = (coefficient > 0) & (factor > 0)  # a coefficient of 0 stays 0: no regularization
    return jnp.where(is_on, jnp.clip(moved, SMALLEST, LARGEST), coefficient)
