"""What gradient functions take and return, and what some of them keep from step to step.

Most are functions of their arguments. One that depends on the number of the step, or on what it saw
in the step before, is a `StatefulGradient`; what it keeps travels as a network's statistics do: in
with the data (`WithState`), out with the metrics (`WithMemory`). So it passes through every other
gradient function that wraps it, which only has to say so by `carrying`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any
Loss = Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[jax.Array, Any]]
ValueAndGrad = Callable[[PyTree, PyTree, PyTree, Any], tuple[Any, PyTree]]  # key: or None
Gradient = Callable[[Loss], ValueAndGrad]


class Remembered(NamedTuple):
    """The data of a loss whose network remembers its batches, as batch normalization does."""

    model_state: PyTree
    data: PyTree


class Renewed(NamedTuple):
    """The metrics of a loss that was given `Remembered` data, and the new model state."""

    metrics: PyTree
    model_state: PyTree


class GradientState(NamedTuple):
    """What a gradient function keeps from step to step.

    Attributes:
        step: How many were taken, int32.
        memory: What it remembers of them, a tree of floats; () of one that only counts.
    """

    step: jax.Array
    memory: PyTree = ()


class WithState(NamedTuple):
    """The data that the function of a stateful gradient takes."""

    state: GradientState
    data: PyTree


class WithMemory(NamedTuple):
    """The metrics that the function of a stateful gradient returns, and its new memory."""

    metrics: PyTree
    memory: PyTree


class StatefulGradient(NamedTuple):
    """A gradient function that depends on the steps before.

    Attributes:
        memory: params -> what it remembers before the first step.
        gradient: The function: its data are `WithState`, its metrics `WithMemory`.
    """

    memory: Callable[[PyTree], PyTree]
    gradient: Gradient

    def __call__(self, loss: Loss) -> ValueAndGrad:
        """Returns the gradient function of a loss."""
        return self.gradient(loss)


def carrying(
    base: Gradient, gradient: Gradient, part: Callable[[PyTree], PyTree] = lambda params: params
) -> Gradient:
    """Returns `gradient`, which wraps `base`, with what `base` keeps from step to step.

    Args:
        base: What is wrapped.
        gradient: What wraps it; hands data on as they are, and metrics or their mean.
        part: params -> those that `base` sees.
    """
    if not isinstance(base, StatefulGradient):
        return gradient
    return StatefulGradient(lambda params: base.memory(part(params)), gradient)


def init_gradient_state(gradient: Gradient, params: PyTree) -> PyTree:
    """Returns what a gradient function keeps before the first step; () of most of them."""
    if not isinstance(gradient, StatefulGradient):
        return ()
    return GradientState(jnp.zeros((), jnp.int32), gradient.memory(params))


def with_state(
    gradient: Gradient, loss: Loss
) -> Callable[..., tuple[tuple[jax.Array, Any], PyTree, PyTree]]:
    """Returns (params, state, data, batch, key) -> ((value, metrics), grads, new state).

    The same for all gradient functions, with the state of `init_gradient_state`.
    """
    value_and_grad = gradient(loss)

    def stateless(
        params: PyTree, state: PyTree, data: PyTree, batch: PyTree, key: Any
    ) -> tuple[Any, PyTree, PyTree]:
        return (*value_and_grad(params, data, batch, key), state)

    def stateful(
        params: PyTree, state: PyTree, data: PyTree, batch: PyTree, key: Any
    ) -> tuple[Any, PyTree, PyTree]:
        given = WithState(state, data)
        (value, (metrics, memory)), grads = value_and_grad(params, given, batch, key)
        return (value, metrics), grads, GradientState(state.step + 1, memory)

    return stateful if isinstance(gradient, StatefulGradient) else stateless
