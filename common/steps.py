"""Steps that follow a gradient: parameters, optimizer and model state, one update a step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from common import precision
from common.gradient_types import (
    Gradient,
    Loss,
    Remembered,
    Renewed,
    init_gradient_state,
    with_state,
)
from common.plain_gradient import plain
from common.subtrees import at_gaps, join

PyTree = Any
Metrics = dict[str, jax.Array]
# (params, model_state, data, batch, key) -> (scalar, metrics, new model_state)
StatefulLoss = Callable[
    [PyTree, PyTree, PyTree, PyTree, jax.Array], tuple[jax.Array, Metrics, PyTree]
]


class TrainState(NamedTuple):
    """What a gradient step changes.

    Attributes:
        params: Parameters.
        opt_state: State of the optimizer.
        model_state: What a network keeps of the batches it has seen, such as the statistics of
            batch normalization; () of one that keeps nothing.
        gradient_state: What the gradient function keeps of the steps before
            (`common.gradient_types.GradientState`); () of most of them.
    """

    params: PyTree
    opt_state: PyTree
    model_state: PyTree = ()
    gradient_state: PyTree = ()


Step = Callable[[TrainState, PyTree, PyTree, jax.Array], tuple[TrainState, Metrics]]


def init_train_state(
    params: PyTree,
    optimizer: optax.GradientTransformation,
    model_state: PyTree = (),
    *,
    gradient: Gradient = plain,
) -> TrainState:
    """Returns the state of a fresh run; `gradient` is that of its step."""
    gradient_state = init_gradient_state(gradient, params)
    return TrainState(params, optimizer.init(params), model_state, gradient_state)


def gradient_step(
    loss: Loss, optimizer: optax.GradientTransformation, *, gradient: Gradient = plain
) -> Step:
    """Returns the step of an Experiment: one update of `optimizer` along `gradient(loss)`.

    Parameters without a gradient (`masked`) keep their bits, whatever the optimizer would do to
    them (decay, momentum, noise), and so does its state of them. Metrics are those of the loss,
    plus "loss" and "grad_norm".
    """
    value_and_grad = with_state(gradient, loss)

    def step(
        state: TrainState, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        kept = state.gradient_state
        (value, metrics), grads, kept = value_and_grad(state.params, kept, data, batch, key)
        state = _updated(state, grads, optimizer)._replace(gradient_state=kept)
        return state, {**metrics, "loss": value, "grad_norm": precision.norm(grads)}

    return step


def stateful_step(
    loss: StatefulLoss, optimizer: optax.GradientTransformation, *, gradient: Gradient = plain
) -> Step:
    """Returns `gradient_step` of a loss that also reads and renews `model_state`.

    Of gradients in several passes it is renewed as their metrics are: `sam` keeps that of the
    unperturbed parameters unless its `statistics` say otherwise, `accumulated` and `ordered` the
    mean over their slices.
    """

    def of_both(
        params: PyTree, both: Remembered, batch: PyTree, key: jax.Array
    ) -> tuple[Any, Renewed]:
        model_state, data = both
        value, metrics, model_state = loss(params, model_state, data, batch, key)
        return value, Renewed(metrics, model_state)

    value_and_grad = with_state(gradient, of_both)

    def step(
        state: TrainState, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        both, kept = Remembered(state.model_state, data), state.gradient_state
        (value, renewed), grads, kept = value_and_grad(state.params, kept, both, batch, key)
        state = _updated(state, grads, optimizer)
        state = state._replace(model_state=renewed.model_state, gradient_state=kept)
        return state, {**renewed.metrics, "loss": value, "grad_norm": precision.norm(grads)}

    return step


def _updated(
    state: TrainState, grads: PyTree, optimizer: optax.GradientTransformation
) -> TrainState:
    """Returns the state after one update; where `grads` has gaps, nothing changes."""
    frozen = at_gaps(grads, state.params)
    whole = join(grads, jax.tree.map(jnp.zeros_like, frozen))
    updates, opt_state = optimizer.update(whole, state.opt_state, state.params)
    params = join(frozen, optax.apply_updates(state.params, updates))
    if jax.tree.leaves(frozen):
        opt_state = _keep_at_gaps(grads, state.params, state.opt_state, opt_state)
    return state._replace(params=params, opt_state=opt_state)


def _keep_at_gaps(grads: PyTree, params: PyTree, old: PyTree, new: PyTree) -> PyTree:
    """Returns the new optimizer state with the old moments where `grads` has gaps.

    Moments are the parts of the state that have the shape of the parameters.
    """
    structure = jax.tree.structure(params)

    def is_moment(tree: PyTree) -> bool:
        return jax.tree.structure(tree) == structure

    def kept(before: PyTree, after: PyTree) -> PyTree:
        return join(at_gaps(grads, before), after) if is_moment(before) else after

    return jax.tree.map(kept, old, new, is_leaf=is_moment)
