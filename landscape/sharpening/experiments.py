"""The experiments of the paper: full-batch gradient descent, watched; and networks to compare."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from common.data import image_sets
from common.data.image_sets import DataSpec
from common.errors import UserError
from common.evaluation import SumCount, classification_values, sums_over
from common.experiment import Experiment, Metrics
from common.gradient_types import carrying
from common.gradients import Gradient, Loss, ValueAndGrad, make_gradient
from common.keys import INIT, root_key, stream
from common.optim import make_optimizer
from common.steps import StatefulLoss, TrainState, init_train_state, stateful_step
from common.supervised import stateful_training, take, training
from landscape import stability
from landscape.costs import Cost, cost_named
from landscape.curvature import eigenpairs
from landscape.jacobians import squared_frobenius
from landscape.products import hessian_product
from landscape.sharpening import data as data_sets
from landscape.sharpening import synthetic as cubes
from landscape.sharpening import watched
from landscape.sharpening.networks import Network, NetworkSpec, make_network
from landscape.tracking import TrackedState, init_tracked_state, start_vectors, tracked_step
from landscape.vectors import dot, layout_of, to_direction

PyTree = Any


class Parts(NamedTuple):
    """What the functions of an experiment are made of.

    Attributes:
        config: Its config.
        spec: Its data.
        network: Its network.
        cost: Of every sample, by targets.
    """

    config: ConfigDict
    spec: DataSpec
    network: Network
    cost: Cost

    def rows(self, data: PyTree, index: Any) -> PyTree:
        """Returns {"input", "target"} of training images, labels smoothed."""
        rows = take(data["train"], index)
        targets = data_sets.targets_of(rows["label"], smoothing=self.config.smoothing)
        return {"input": rows["input"], "target": targets}

    def loss(self, params: PyTree, statistics: PyTree, rows: PyTree) -> tuple[Array, PyTree]:
        """Returns the mean cost as training sees it, and the new running statistics."""
        outputs, statistics = self.network.apply(params, statistics, rows["input"], train=True)
        return jnp.mean(self.cost.value(outputs, rows["target"])), statistics

    def predict(self, params: PyTree, statistics: PyTree, inputs: Array) -> Array:
        """Returns outputs of samples that do not see one another."""
        return self.network.apply(params, statistics, inputs)[0]


def gradient_descent(config: ConfigDict) -> Experiment:
    """Follows the gradient of all training images; a step is `tracking.every` updates.

    Source: Cohen et al. (2021), whose protocol it is: the sharpness is that of the whole loss.
    """
    parts, tracking = parts_of_config(config), config.tracking
    optimizer = make_optimizer(num_steps=tracking.every * config.num_steps, **config.optimizer)
    gradient = _gradient(parts)
    tracked = tracked_step(
        _watched_loss(parts),
        optimizer,
        every=tracking.every,
        limit=stability.limit(**_rule(config)),
        gradient=gradient,
        make=stateful_step,
        tolerance=tracking.tolerance,
        max_rounds=tracking.products,
    )

    def init(key: jax.Array) -> TrackedState:
        key, vector_key = jax.random.split(key)
        params, statistics = parts.network.init(key)
        train = init_train_state(params, optimizer, statistics, gradient=gradient)
        return init_tracked_state(vector_key, train)

    def step(
        state: TrackedState, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[TrackedState, Metrics]:
        (vector,) = state.vectors["hessian"]  # of any length before the first step
        return tracked(state, (data, vector / jnp.linalg.norm(vector)), batch, key)

    index = np.arange(parts.spec.num_train, dtype=np.int32)
    experiment = _experiment(
        parts,
        init=init,
        step=step,
        batch=lambda step: {"index": index},
        parts_of=lambda state, key: (state.train, state.vectors["hessian"]),
    )
    if not tracking.times_limit:
        return experiment
    return experiment._replace(data=partial(_checked_data, parts, experiment))


def regularization(config: ConfigDict) -> Experiment:
    """Trains one network in small batches, with the regularizers that its config asks for."""
    parts = parts_of_config(config)
    init, num_train = parts.network.init, parts.spec.num_train
    trained = stateful_training(config, init, _mixed(parts), num_train=num_train)
    begin = lambda state, key: (state, start_vectors(key, state.params))
    return _experiment(parts, **trained._asdict(), parts_of=begin)


def synthetic(config: ConfigDict) -> Experiment:
    """Regression on the unit cube, all samples in every step."""
    spec = cubes.data_spec(config)
    sizes = {"dimension": spec.dimension, "depth": config.model.depth, "width": config.model.width}

    def loss(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> tuple[Array, Metrics]:
        del key
        return jnp.mean(cubes.costs_of(params, take(data["train"], batch["index"]))), {}

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        return {
            f"{part}_cost": (
                jnp.sum(cubes.costs_of(state.params, rows)),
                jnp.float32(len(rows["input"])),
            )
            for part, rows in data.items()
        }

    trained = training(config, partial(cubes.init, **sizes), loss, num_train=spec.num_train)
    return Experiment(
        data=lambda: cubes.load(spec),
        **trained._asdict(),
        evaluate=evaluate,
        predict=lambda state, data, inputs: cubes.predict(state.params, inputs),
        abstract_data=lambda: cubes.abstract(spec),
        identity=lambda: cubes.identity(spec),
    )


def parts_of_config(config: ConfigDict) -> Parts:
    """Returns what the functions of an experiment are made of, from its config.

    Raises:
        ValueError: If a field makes no sense; names it with its value.
    """
    data = image_sets.data_spec(config.data)
    spec = NetworkSpec(**{name: config.model[name] for name in NetworkSpec._fields})
    network = make_network(spec, (data.size, data.size, data.channels))
    return Parts(config, data, network, cost_named(config.cost))


def _rule(config: ConfigDict) -> dict[str, Any]:
    """Returns what the functions of `landscape.stability` want to know of an optimizer."""
    names = ("learning_rate", "momentum", "nesterov", "weight_decay")
    return {name: config.optimizer[name] for name in names}


def _watched_loss(parts: Parts) -> StatefulLoss:
    """Returns the mean cost over a batch; `data` comes with the tracked eigenvector."""

    def loss(
        params: PyTree, statistics: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[Array, Metrics, PyTree]:
        del key
        value, after = parts.loss(params, statistics, parts.rows(data[0], batch["index"]))
        return value, {"cost": value}, after

    return loss


def _gradient(parts: Parts) -> Gradient:
    """Returns the gradient that is followed: that of the loss, and of penalties if there are some.

    Penalties are ours: lambda_J E ||J||_F^2 / 2 of the outputs, by two random probes a sample and
    update, and lambda_S v^T H v / 2 for the eigenvector v of the sharpness as it was tracked last.
    """
    config, penalty = parts.config, parts.config.penalty
    base = make_gradient(config, num_steps=config.tracking.every * config.num_steps)
    if not penalty.jacobian and not penalty.sharpness:
        return base

    def penalties(params: PyTree, both: PyTree, batch: PyTree, key: jax.Array) -> Any:
        statistics, (data, vector) = both
        rows, total = parts.rows(data, batch["index"]), jnp.float32(0)
        if penalty.jacobian:
            predict = lambda params, inputs: parts.predict(params, statistics, inputs)
            squares = squared_frobenius(predict, params, rows["input"], key=key, num_probes=2)
            total += penalty.jacobian * jnp.mean(squares.values) / 2
        if penalty.sharpness:
            loss = lambda params, rows: parts.loss(params, statistics, rows)[0]
            direction = to_direction(layout_of(params), vector)
            bent = dot(direction, hessian_product(loss, params, rows, direction))
            total += penalty.sharpness * bent / 2
        return total

    def gradient(loss: Loss) -> ValueAndGrad:
        def total(params: PyTree, both: PyTree, batch: PyTree, key: jax.Array) -> tuple[Any, Any]:
            value, more = loss(params, both, batch, key)
            return value + penalties(params, both, batch, jax.random.clone(key)), more

        return base(total)

    return carrying(base, gradient)


def _mixed(parts: Parts) -> StatefulLoss:
    """Returns the mean cost of a batch, its images augmented and mixed if the config says so.

    Mixing has one share for a batch, of Beta(a, a), as Zhang et al. (2018) have it.
    """
    config = parts.config

    def loss(
        params: PyTree, statistics: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[Array, Metrics, PyTree]:
        rows = parts.rows(data, batch["index"])
        key_images, key_share, key_order = jax.random.split(key, 3)
        if config.augment:
            rows = {**rows, "input": image_sets.augmented(rows["input"], key_images)}
        if config.mixup:
            share = jax.random.beta(key_share, config.mixup, config.mixup)
            order = jax.random.permutation(key_order, len(rows["target"]))
            rows = jax.tree.map(lambda x: share * x + (1 - share) * x[order], rows)
        value, after = parts.loss(params, statistics, rows)
        return value, {}, after

    return loss


def _experiment(parts: Parts, *, init: Any, step: Any, batch: Any, parts_of: Any) -> Experiment:
    """Returns an experiment with its data, and what is measured of its network.

    Args:
        parts: What it is made of.
        init: Of the experiment, as are the next two.
        step: One step of the loop.
        batch: What a step sees.
        parts_of: (state of the loop, key) -> state of the network, and where the search for the
            largest eigenvalues begins.
    """
    config = parts.config

    def errors(state: TrainState, rows: PyTree, prefix: str) -> dict[str, SumCount]:
        def values(rows: PyTree) -> dict[str, Array]:
            outputs = parts.predict(state.params, state.model_state, rows["input"])
            cost = parts.cost.value(outputs, data_sets.targets_of(rows["label"]))
            accuracy = classification_values(outputs, rows["label"])["accuracy"]
            return {"loss": cost, "error": 100 - accuracy}

        return sums_over(values, rows, chunk=config.evaluate_chunk, prefix=prefix)

    def evaluate(state: Any, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        key, start_key = jax.random.split(key)
        train, start = parts_of(state, start_key)
        seen = watched.Watched(parts.network, parts.cost, train.model_state, config.watch)
        rows = parts.rows(data, jnp.arange(parts.spec.num_train))
        numbers = watched.numbers(seen, train.params, rows, start, key)
        found = {name: (value, jnp.float32(1)) for name, value in numbers.items()}
        found |= errors(train, data["train"], "train_") | errors(train, data["test"], "test_")
        return found

    def predict(state: Any, data: PyTree, inputs: Array) -> Array:
        del data
        train, _ = parts_of(state, jax.random.key(0))
        return parts.predict(train.params, train.model_state, inputs)

    return Experiment(
        data=lambda: data_sets.load(parts.spec),
        init=init,
        step=step,
        batch=batch,
        evaluate=evaluate,
        predict=predict,
        abstract_data=lambda: data_sets.abstract(parts.spec),
        describe=lambda: image_sets.describe(parts.spec),
        identity=lambda: data_sets.identity(parts.spec),
    )


def _checked_data(parts: Parts, experiment: Experiment) -> PyTree:
    """Returns the data, if the learning rate is not too far above the limit at the start.

    Raises:
        UserError: If it is; names the limit, and the largest learning rate below it.
    """
    config, data = parts.config, data_sets.load(parts.spec)
    train = jax.jit(experiment.init)(stream(root_key(config), INIT)).train
    rows = jax.jit(parts.rows)(data, np.arange(parts.spec.num_train))  # one program, not ten
    loss = lambda params, rows: parts.loss(params, train.model_state, rows)[0]
    top = eigenpairs(loss, train.params, [rows], key=jax.random.key(0), k=1, tolerance=1e-2)
    sharpness, times = float(top.values[0]), config.tracking.times_limit
    try:
        stability.check_start(sharpness, times=times, **_rule(config))
    except ValueError as error:
        raise UserError(f"config.optimizer.{error}") from error
    return data


EXPERIMENTS = {
    "gradient_descent": gradient_descent,
    "regularization": regularization,
    "synthetic": synthetic,
}
