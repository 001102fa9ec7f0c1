"""Adam, RMSprop and SGD for networks that differ in their optimizer and are trained together.

Not optax: which optimizer a network has is a value here, so that one program trains them all, under
`vmap` too. A choice among states of optax would keep the moments of each; these three share theirs.
tests/nfn/test_zoo.py takes the same steps with optax.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nfn.zoo_recipes import OPTIMIZERS

MOMENTUM, SECOND_MOMENT, EPSILON = 0.9, 0.999, 1e-8


class Training(NamedTuple):
    """All weights of a network as one vector, and running means of gradients and their squares."""

    weights: Float[Array, " w"]
    first: Float[Array, " w"]
    second: Float[Array, " w"]


def descend(
    state: Training,
    gradient: Float[Array, " w"],
    *,
    step: Int[Array, ""],
    optimizer: Int[Array, ""],
    learning_rate: Float[Array, ""],
) -> Training:
    """Returns the training after an update.

    Args:
        state: Before.
        gradient: At its weights.
        step: Number of updates before this one.
        optimizer: Place in `OPTIMIZERS`.
        learning_rate: Its step size.
    """
    first = MOMENTUM * state.first + (1 - MOMENTUM) * gradient
    second = SECOND_MOMENT * state.second + (1 - SECOND_MOMENT) * gradient**2
    count = step.astype(jnp.float32) + 1
    root = jnp.sqrt(second / (1 - SECOND_MOMENT**count)) + EPSILON  # RMS, started without bias
    updates = {
        "adam": first / (1 - MOMENTUM**count) / root,
        "rmsprop": gradient / root,
        "sgd": first / (1 - MOMENTUM),  # heavy ball: the sum of decayed gradients
    }
    chosen = sum(
        jnp.where(optimizer == place, updates[name], 0) for place, name in enumerate(OPTIMIZERS)
    )
    return Training(state.weights - learning_rate * chosen, first, second)
