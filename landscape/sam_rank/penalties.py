"""The norm of the gradient as a penalty: what SAM adds to the loss, to first order."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from common import precision
from common.gradient_types import (
    Gradient,
    Loss,
    StatefulGradient,
    ValueAndGrad,
    WithMemory,
    WithState,
)
from common.plain_gradient import plain

PyTree = Any


def norm_penalized(weight: Callable[[Array], Any], *, base: Gradient = plain) -> StatefulGradient:
    """Returns the gradient of loss + weight(step) |gradient of the loss|, through both terms.

    Source: Andriushchenko et al. (2023), released code of two-layer networks. The largest loss in a
    ball of radius rho is loss + rho |gradient| + O(rho^2). Value and metrics are those of the loss
    alone. Where the gradient vanishes its norm has no derivative, and none is taken.
    """
    is_stateful = isinstance(base, StatefulGradient)

    def gradient(loss: Loss) -> ValueAndGrad:
        def penalized(
            params: PyTree, given: WithState, batch: PyTree, key: Array
        ) -> tuple[Any, PyTree]:
            total = _with_norm(loss, weight(given.state.step))
            data = given if is_stateful else given.data
            (_, seen), grads = base(total)(params, data, batch, key)
            (value, metrics), memory = seen if is_stateful else (seen, ())
            return (value, WithMemory(metrics, memory)), grads

        return penalized

    return StatefulGradient(base.memory if is_stateful else lambda params: (), gradient)


def _with_norm(loss: Loss, weight: Any) -> Loss:
    """Returns the loss with its penalty; its metrics are value and metrics of the loss alone."""

    def total(params: PyTree, data: PyTree, batch: PyTree, key: Array) -> tuple[Array, Any]:
        (value, metrics), slope = jax.value_and_grad(loss, has_aux=True)(params, data, batch, key)
        squares = (jnp.sum(leaf**2) for leaf in jax.tree.leaves(precision.widened(slope)))
        return value + weight * _root(sum(squares, jnp.float32(0))), (value, metrics)

    return total


def _root(squared: Array) -> Array:
    """Returns the root, with derivative 0 at 0."""
    is_zero = squared == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squared)))
