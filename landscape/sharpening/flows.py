"""Gradient descent next to two flows: gradient flow, and the central flow of its time average.

A function `config -> metrics` of cells, and the courses that their figure draws.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common import stages
from common.keys import INIT, root_key, stream
from landscape.flows import central_flow, gradient_flow
from landscape.products import Loss
from landscape.sharpening.experiments import parts_of_config
from landscape.sharpening.measures import course
from landscape.tracking import start_vectors, track
from landscape.vectors import layout_of, to_vector

PyTree = Any
DESCENT, CENTRAL, GRADIENT = "gradient descent", "central flow", "gradient flow"
LAST_HALF = 0.5
PRODUCTS = 12  # for the sharpness of gradient flow


class Flow(NamedTuple):
    """A path over the time of gradient descent.

    Attributes:
        updates: How many updates of gradient descent take as long.
        loss: Training loss there; of gradient descent, the mean of the updates before.
        sharpness: The sharpness there.
        end: The last parameters.
    """

    updates: np.ndarray
    loss: np.ndarray
    sharpness: np.ndarray
    end: PyTree


def flows(config: ConfigDict) -> dict[str, float]:
    """Returns how far both flows are from gradient descent, over the last half of the training.

    Source: Cohen et al. (2025), central flows: the loss of gradient descent is on average that of
    the flow and tr(Sigma) / eta more, which is added here.
    """
    found = paths(config)
    descent = found[DESCENT]
    late = descent.updates > LAST_HALF * descent.updates[-1]
    vector = lambda flow: np.asarray(to_vector(layout_of(flow.end), flow.end))
    numbers = {"sharpness": float(np.mean(descent.sharpness[late]))}
    for label, name in ((CENTRAL, "central"), (GRADIENT, "gradient")):
        flow = found[label]
        apart = flow.loss[late] / descent.loss[late] - 1
        numbers |= {
            f"{name}_loss_apart": float(np.sqrt(np.mean(apart**2))),
            f"{name}_sharpness": float(np.mean(flow.sharpness[late])),
            f"{name}_distance": float(np.linalg.norm(vector(flow) - vector(descent))),
        }
    return numbers


def paths(config: ConfigDict) -> dict[str, Flow]:
    """Returns gradient descent and both flows from where it starts, by name.

    Raises:
        ValueError: If the optimizer is more than gradient descent.
    """
    optimizer = config.optimizer
    if optimizer.momentum or optimizer.weight_decay:
        raise ValueError(
            f"config.optimizer.momentum={optimizer.momentum}, weight_decay="
            f"{optimizer.weight_decay}: expected 0, the flows are those of gradient descent"
        )
    descent = _descent(config)
    run = stages.trained(config)
    parts = parts_of_config(config)
    start = jax.jit(run.experiment.init)(stream(root_key(config), INIT)).train
    rows = parts.rows(run.data, jnp.arange(parts.spec.num_train))
    loss = lambda params, rows: parts.loss(params, start.model_state, rows)[0]
    key = jax.random.key(config.seed)
    return {
        DESCENT: descent,
        CENTRAL: _central(loss, config, start.params, rows, key),
        GRADIENT: _gradient(loss, config, start.params, rows, key),
    }


def _descent(config: ConfigDict) -> Flow:
    """Returns the course of the training: loss and sharpness around every evaluation of steps."""
    found = course(config)
    end = stages.trained(config).state.params
    updates = found.updates + config.tracking.every
    return Flow(updates, found.cost, found.sharpness, end)


def _central(loss: Loss, config: ConfigDict, params: PyTree, rows: PyTree, key: Any) -> Flow:
    rate, every = config.optimizer.learning_rate, config.tracking.every

    @jax.jit
    def path(params: PyTree, rows: PyTree) -> Any:
        flow = central_flow(
            loss,
            params,
            rows,
            learning_rate=rate,
            num_steps=config.num_steps * every,
            key=key,
            every=every,
            k=2,
            substeps=2,
        )
        losses = jax.lax.map(lambda at: loss(at, rows), flow.params)
        return losses + flow.variance / rate, flow.sharpness[:, 0], _last(flow.params)

    return _flow(config, path(params, rows))


def _gradient(loss: Loss, config: ConfigDict, params: PyTree, rows: PyTree, key: Any) -> Flow:
    every = config.tracking.every
    times = config.optimizer.learning_rate * every * jnp.arange(config.num_steps + 1)

    @jax.jit
    def path(params: PyTree, rows: PyTree) -> Any:
        found = gradient_flow(loss, params, rows, times)
        after = jax.tree.map(lambda x: x[1:], found)

        def at(vectors: jax.Array, params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            value, _, top = track(loss, params, rows, vectors, max_rounds=PRODUCTS)
            return top.vectors, (value, top.values[0])

        _, (losses, sharpness) = jax.lax.scan(at, start_vectors(key, params), after)
        return losses, sharpness, _last(after)

    return _flow(config, path(params, rows))


def _flow(config: ConfigDict, found: tuple[jax.Array, jax.Array, PyTree]) -> Flow:
    losses, sharpness, end = found
    updates = config.tracking.every * np.arange(1, config.num_steps + 1)
    return Flow(updates, np.asarray(losses), np.asarray(sharpness), end)


_last = partial(jax.tree.map, lambda x: x[-1])
