"""The experiments of the paper: one network; and two that differ in their batch size only."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array
from ml_collections import ConfigDict

from common.data import image_sets
from common.evaluation import SumCount, classification_values, sums_over
from common.experiment import Batch, Experiment, Measure, Metrics
from common.precision import norm
from common.steps import StatefulLoss, TrainState
from common.supervised import Training, stateful_training, take
from landscape.directions import random_plane
from landscape.surfaces import values_at
from landscape.visualizing.networks import (
    FROZEN,
    STATISTICS,
    Network,
    NetworkSpec,
    cross_entropy,
    make_network,
    scores,
)

PyTree = Any


class Pair(NamedTuple):
    """Two networks that see the same examples, in small batches and in large ones."""

    small: TrainState
    large: TrainState

    @property
    def params(self) -> PyTree:
        """The parameters of both."""
        return {name: state.params for name, state in self._asdict().items()}


def depth(config: ConfigDict) -> Experiment:
    """Trains one network, whose surface the table looks at."""
    spec, network = image_sets.data_spec(config.data), network_of(config)
    training = _training(config, network, spec)
    return _experiment(config, network, lambda state: {"": state}, **training._asdict())


def published(config: ConfigDict) -> Experiment:
    """Trains one network by the recipe of the published ResNets; cells read those themselves."""
    return depth(config)


def batch_size(config: ConfigDict) -> Experiment:
    """Trains two networks from the same weights on the same examples, in small and large batches.

    A step is one update of the one with `batch_size` examples, and of the other an update for every
    `small_batch` of them.
    """
    spec, network = image_sets.data_spec(config.data), network_of(config)
    ratio = config.batch_size // config.small_batch
    large = _training(config, network, spec)
    small = _training(config, network, spec, updates=ratio)

    def init(key: jax.Array) -> Pair:
        return Pair(small.init(key), large.init(key))

    def step(state: Pair, data: PyTree, batch: PyTree, key: jax.Array) -> tuple[Pair, Metrics]:
        # Rows of a small batch lie `ratio` apart: devices that hold parts of the large batch then
        # hold parts of every small one.
        rows = batch["index"].reshape(config.small_batch, ratio).T  # [ratio, small_batch]
        keys = jax.random.split(key, ratio + 1)

        def update(state: TrainState, these: tuple[Array, Array]) -> tuple[TrainState, Metrics]:
            index, key = these
            return small.step(state, data, {"index": index}, key)

        small_state, metrics = jax.lax.scan(update, state.small, (rows, keys[1:]))
        found = {f"small_{name}": jnp.mean(value) for name, value in metrics.items()}
        large_state, metrics = large.step(state.large, data, batch, keys[0])
        found |= {f"large_{name}": value for name, value in metrics.items()}
        return Pair(small_state, large_state), {**found, "loss": found["large_loss"]}

    states = lambda pair: {"small_": pair.small, "large_": pair.large}
    return _experiment(config, network, states, init=init, step=step, batch=large.batch)


def network_of(config: ConfigDict) -> Network:
    """Returns the network of `config.model`.

    Raises:
        ValueError: If there is none; names field and value.
    """
    model, data = config.model, config.data
    return make_network(
        NetworkSpec(
            kind=model.kind,
            depth=model.depth,
            width=model.width,
            shortcuts=model.shortcuts,
            mean=tuple(data.mean),
            deviation=tuple(data.deviation),
        )
    )


def variables_of(state: TrainState) -> PyTree:
    """Returns what the network of a training state takes: parameters and running statistics."""
    return {"params": state.params, STATISTICS: state.model_state}


def _training(
    config: ConfigDict, network: Network, spec: image_sets.DataSpec, *, updates: int = 1
) -> Training:
    """Returns how a network is trained with `updates` in every step of the loop."""
    shapes = image_sets.abstract(spec)["train"]["image"]

    def init(key: jax.Array) -> tuple[PyTree, PyTree]:
        variables = network.init(key, shapes)
        return variables["params"], variables[STATISTICS]

    with_updates = ConfigDict({**config.to_dict(), "num_steps": updates * config.num_steps})
    loss = _loss(network, augment=config.data.augment)
    return stateful_training(with_updates, init, loss, num_train=spec.num_train)


def _loss(network: Network, *, augment: bool) -> StatefulLoss:
    """Returns the mean cross-entropy of a batch; weight decay is the optimizer's."""

    def loss(
        params: PyTree, model_state: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[Array, Metrics, PyTree]:
        rows = take(data["train"], batch["index"])
        images = rows["image"]
        if augment:
            images = image_sets.augmented(jnp.asarray(images, jnp.float32), key)
        logits, model_state = network.train({"params": params, STATISTICS: model_state}, images)
        values = classification_values(logits, rows["label"])
        error = 100 - jnp.mean(values["accuracy"])
        return jnp.mean(cross_entropy(logits, rows["label"])), {"error": error}, model_state

    return loss


def _experiment(
    config: ConfigDict,
    network: Network,
    states: Callable[[Any], dict[str, TrainState]],
    *,
    init: Callable[[jax.Array], Any],
    step: Callable[..., Any],
    batch: Callable[[int], Batch],
) -> Experiment:
    """Returns an experiment with its data and measures: those of every network it trains.

    Args:
        config: The config.
        network: The network.
        states: State of the loop -> state of every network, by the prefix of its metrics.
        init: Of the experiment, as are the next two.
        step: One step of the loop: an update of every network, or several.
        batch: What a step sees.
    """
    spec = image_sets.data_spec(config.data)

    def errors(state: Any, rows: PyTree, part: str) -> dict[str, SumCount]:
        found: dict[str, SumCount] = {}
        for prefix, one in states(state).items():
            measure = partial(_measure, network, variables_of(one))
            found |= sums_over(measure, rows, chunk=config.evaluate_chunk, prefix=prefix + part)
        return found

    def final(state: Any, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        norms = {
            f"{prefix}weight_norm": (norm(one.params), jnp.float32(1))
            for prefix, one in states(state).items()
        }
        return {**errors(state, data["test"], "test_"), **norms}

    def predict(state: Any, data: PyTree, images: Array) -> PyTree:
        del data
        logits = {
            prefix.rstrip("_"): network.apply(variables_of(one), images)
            for prefix, one in states(state).items()
        }
        return logits.get("", logits)

    return Experiment(
        data=lambda: image_sets.load(spec),
        init=init,
        step=step,
        batch=batch,
        evaluate=lambda state, data, key: errors(state, data["train"], "train_"),
        final=final,
        # A stage trains networks that several surfaces are of.
        measures=(_plane(config, network, states),) if "surface" in config else (),
        predict=predict,
        abstract_data=lambda: image_sets.abstract(spec),
        describe=lambda: image_sets.describe(spec),
        identity=lambda: image_sets.identity(spec),
    )


def _plane(
    config: ConfigDict, network: Network, states: Callable[[Any], dict[str, TrainState]]
) -> Measure:
    """Returns the program behind the planes of a table, which `surface` calls in parts."""
    section = config.surface

    def plane(state: Any, data: PyTree, key: jax.Array) -> dict[str, Array]:
        variables = variables_of(next(iter(states(state).values())))
        along = jnp.linspace(-section.span, section.span, section.points)
        points = jnp.stack(jnp.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)
        return values_at(
            partial(scores, network),
            variables,
            random_plane(key, variables, rules=FROZEN),
            points,
            jax.tree.map(lambda x: x[: section.images], data["train"]),
            chunk=section.chunk,
            at_once=section.at_once,
        )

    of_both = 2 if config.experiment.endswith(":batch_size") else 1
    return Measure("plane", plane, calls=of_both * section.planes)


def _measure(network: Network, variables: PyTree, rows: PyTree) -> dict[str, Array]:
    """Returns loss and error in percent of every row."""
    values = scores(network, variables, rows)
    return {"loss": values["loss"], "error": 100 - values["accuracy"]}


EXPERIMENTS = {"depth": depth, "batch_size": batch_size, "published": published}
