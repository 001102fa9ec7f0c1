"""Advantages of actions, where the end of a recording is not the end of the task."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def gae(
    rewards: Float[Array, "steps envs"],
    values: Float[Array, "steps envs"],
    next_values: Float[Array, "steps envs"],
    terminated: Bool[Array, "steps envs"],
    ended: Bool[Array, "steps envs"],
    *,
    discount: float | Float[Array, ""],
    decay: float | Float[Array, ""],
) -> Float[Array, "steps envs"]:
    """Returns generalized advantages; advantages plus values are returns to fit values to.

    Source: Schulman et al. (2016), Eq. 16, with δ = r + γ V(s') - V(s). Where the task ended, V(s')
    is 0; where only the recording ended, at the horizon or at the last step, it is `next_values`.
    Nothing after an end counts for what was before it.

    Args:
        rewards: Of every step.
        values: V of the state before it.
        next_values: V of the state after it, before any reset.
        terminated: Whether the task ended there.
        ended: Whether the episode ended there, for either reason.
        discount: γ.
        decay: λ; 0 gives the errors δ, 1 discounted sums.
    """
    errors = rewards + discount * next_values * ~terminated - values
    decays = discount * decay * (1.0 - ended)

    def before(after: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        error, factor = step
        advantage = error + factor * after
        return advantage, advantage

    return jax.lax.scan(before, jnp.zeros_like(errors[0]), (errors, decays), reverse=True)[1]
