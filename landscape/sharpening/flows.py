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
from common.config import canonical_json, from_json
from common.data.cache import Arrays, cached
from common.experiment import build
from common.keys import INIT, root_key, stream
from landscape.flows import central_flow, gradient_flow
from landscape.products import Loss
from landscape.sharpening.experiments import parts_of_config
from landscape.sharpening.measures import course
from landscape.tracking import start_vectors, track
from landscape.vectors import layout_of, to_vector

PyTree = Any
DESCENT, CENTRAL, GRADIENT = "gradient descent", "central flow", "gradient flow"
LABELS = {CENTRAL: "central", GRADIENT: "gradient"}  # in names of metrics and arrays
LAST_HALF = 0.5
PRODUCTS = 12  # for the sharpness of gradient flow


class Flow(NamedTuple):
    """A path over the time of gradient descent.

    Attributes:
        updates: How many updates of gradient descent take as long; of itself, in the middle of
            those that its loss is the mean of.
        loss: Training loss there.
        sharpness: The sharpness there.
        end: The last parameters, as one vector.
    """

    updates: np.ndarray
    loss: np.ndarray
    sharpness: np.ndarray
    end: np.ndarray


class PathSpec(NamedTuple):
    """What both flows are made of.

    Attributes:
        config: The config of the training, as JSON, without the place of its file.
        version: Raised when `flow_arrays` changes what it returns.
    """

    config: str
    version: int = 1


def flows(config: ConfigDict) -> dict[str, float]:
    """Returns how far both flows are from gradient descent, over the last half of the training.

    Source: Cohen et al. (2025), central flows: the loss of gradient descent is on average that of
    the flow and tr(Sigma) / eta more, which is added here.
    """
    found = paths(config)
    descent = found[DESCENT]
    late = descent.updates > LAST_HALF * descent.updates[-1]
    numbers = {"sharpness": float(np.mean(descent.sharpness[late]))}
    for name, label in LABELS.items():
        flow = found[name]
        there = np.interp(descent.updates, flow.updates, flow.loss)
        apart = there[late] / descent.loss[late] - 1
        numbers |= {
            f"{label}_loss_apart": float(np.sqrt(np.mean(apart**2))),
            f"{label}_sharpness": float(np.mean(flow.sharpness[late])),
            f"{label}_distance": float(np.linalg.norm(flow.end - descent.end)),
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
    found = course(config)
    end = _vector(stages.trained(config).state.params)
    every = config.tracking.every
    descent = Flow(found.updates + (every - 1) / 2, found.cost, found.sharpness, end)
    fields = {name: value for name, value in config.to_dict().items() if name != "config_dir"}
    arrays = cached(PathSpec(canonical_json(fields)), flow_arrays)
    both = {
        name: Flow(
            found.updates + every, *(arrays[f"{label}_{field}"] for field in Flow._fields[1:])
        )
        for name, label in LABELS.items()
    }
    return {DESCENT: descent, **both}


def flow_arrays(spec: PathSpec) -> Arrays:
    """Returns "central_loss", "gradient_loss", and so on: all but the updates of both flows."""
    config = from_json(spec.config)
    parts, experiment = parts_of_config(config), build(config)
    start = jax.jit(experiment.init)(stream(root_key(config), INIT)).train
    data = jax.tree.map(jnp.asarray, experiment.data())
    rows = parts.rows(data, jnp.arange(parts.spec.num_train))
    loss = lambda params, rows: parts.loss(params, start.model_state, rows)[0]
    arrays: Arrays = {}
    for label, flow in (("central", _central), ("gradient", _gradient)):
        key = jax.random.key(config.seed)
        losses, sharpness, end = flow(loss, config, start.params, rows, key)
        arrays |= {
            f"{label}_loss": np.asarray(losses),
            f"{label}_sharpness": np.asarray(sharpness),
            f"{label}_end": _vector(end),
        }
    return arrays


def _central(loss: Loss, config: ConfigDict, params: PyTree, rows: PyTree, key: Any) -> Any:
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

    return path(params, rows)


def _gradient(loss: Loss, config: ConfigDict, params: PyTree, rows: PyTree, key: Any) -> Any:
    every = config.tracking.every
    times = config.optimizer.learning_rate * every * jnp.arange(config.num_steps + 1)

    @jax.jit
    def path(params: PyTree, rows: PyTree) -> Any:
        found = gradient_flow(loss, params, rows, times)
        after = jax.tree.map(lambda x: x[1:], found)

        def at(vectors: jax.Array, params: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            value, _, top = track(loss, params, rows, vectors, max_rounds=PRODUCTS)
            return top.vectors, (value, top.values[0])

        # Two eigenvectors: the second one is there when it overtakes the first.
        _, (losses, sharpness) = jax.lax.scan(at, start_vectors(key, params, 2), after)
        return losses, sharpness, _last(after)

    return path(params, rows)


def _vector(params: PyTree) -> np.ndarray:
    return np.asarray(to_vector(layout_of(params), params))


_last = partial(jax.tree.map, lambda x: x[-1])
