"""The norm of the gradient as a penalty: what SAM adds to the loss, to first order."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from common import precision
from common.gradients import Gradient, Loss, ValueAndGrad, plain

PyTree = Any


def norm_penalized(weight: float, *, base: Gradient = plain) -> Gradient:
    """Returns the gradient of loss + weight |gradient of the loss|, through both terms.

    Source: Andriushchenko et al. (2023), Sec. 5: max over a ball of radius rho of the loss is loss
    + rho |gradient| + O(rho^2). Value and metrics are those of the loss alone. Where the gradient
    vanishes its norm has no derivative, and none is taken.

    Raises:
        ValueError: If the weight is negative.
    """
    if not weight >= 0:
        raise ValueError(f"weight={weight}: expected at least 0")

    def gradient(loss: Loss) -> ValueAndGrad:
        def total(params: PyTree, data: PyTree, batch: PyTree, key: Array) -> tuple[Array, Any]:
            (value, metrics), slope = jax.value_and_grad(loss, has_aux=True)(
                params, data, batch, key
            )
            squares = (jnp.sum(leaf**2) for leaf in jax.tree.leaves(precision.widened(slope)))
            return value + weight * safe_root(sum(squares, jnp.float32(0))), (value, metrics)

        value_and_grad = base(total)

        def of_loss(params: PyTree, data: PyTree, batch: PyTree, key: Array) -> tuple[Any, PyTree]:
            (_, seen), grads = value_and_grad(params, data, batch, key)
            return seen, grads

        return of_loss

    return gradient


def safe_root(squared: Array) -> Array:
    """Returns the root, with derivative 0 at 0."""
    is_zero = squared == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squared)))
