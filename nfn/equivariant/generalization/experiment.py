"""Predicting generalization as pure functions: loss, rank correlation, invariance."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from common.data.epochs import epoch_indices
from common.evaluation import SumCount, sums_over, values_over
from common.experiment import Batch, Experiment, Metrics
from common.networks import Network
from common.optim import make_optimizer
from common.steps import Loss, TrainState, base_gradient, gradient_step, init_train_state
from nfn.equivariant.generalization.data import (
    abstract_zoo_data,
    describe,
    num_examples,
    zoo_data,
    zoo_space,
)
from nfn.equivariant.generalization.model import PredictorSpec, normalization, predictor
from nfn.equivariant.models import permute_networks
from nfn.kendall import kendall_tau, r_squared
from nfn.weights import WeightSpace

PyTree = Any


def generalization(config: ConfigDict) -> Experiment:
    """Predicts the test accuracy of networks from their weights (Tables 2 and 19)."""
    section, spec = config.data, PredictorSpec(**config.model.to_dict())
    space, chunk = zoo_space(section), config.evaluate_chunk
    network = predictor(space, spec)
    optimizer = make_optimizer(num_steps=config.num_steps, **config.optimizer)
    gradient = base_gradient(
        deterministic=config.deterministic, logical_shards=config.logical_shards
    )
    num_train = num_examples(section)["train"]

    def statistics(weights: PyTree) -> PyTree:
        return normalization(space, spec, weights, normalize=section.normalize)

    def batch(step: int) -> Batch:
        sizes = {"num_examples": num_train, "batch_size": config.batch_size}
        return {"index": epoch_indices(config.seed, step, **sizes)}

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        return _measure(network, state.params, data, "valid", chunk)

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        return {
            **_measure(network, state.params, data, "train", chunk),
            **_measure(network, state.params, data, "test", chunk),
            **_measure_permuted(network, state.params, data, key, space, chunk),
        }

    return Experiment(
        data=lambda: zoo_data(section, statistics, seed=config.seed),
        init=lambda key: init_train_state(network.init(key), optimizer),
        step=gradient_step(_loss(network), optimizer, gradient=gradient),
        batch=batch,
        evaluate=evaluate,
        final=final,
        predict=lambda state, data, weights: jax.nn.sigmoid(
            network.apply(state.params, weights, data["statistics"])
        ),
        abstract_data=lambda: abstract_zoo_data(section, statistics),
        describe=lambda: describe(section),
    )


def _loss(network: Network) -> Loss:
    """Returns the mean cross-entropy between accuracy and prediction, both taken as chances."""

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        train = jax.tree.map(lambda x: x[batch["index"]], data["train"])
        logits = network.apply(params, train["params"], data["statistics"], key)
        error = jnp.mean(jnp.abs(jax.nn.sigmoid(logits) - train["accuracy"]))
        losses = optax.sigmoid_binary_cross_entropy(logits, train["accuracy"])
        return jnp.mean(losses), {"error": error}

    return loss


def _measure(
    network: Network, params: PyTree, data: PyTree, part: str, chunk: int
) -> dict[str, SumCount]:
    """Returns tau, R^2 and mean absolute error on all networks of "train", "valid" or "test"."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        return {"logit": network.apply(params, rows["params"], data["statistics"])}

    logits = values_over(values, data[part], chunk=chunk)["logit"]
    truth = data[part]["accuracy"]
    predictions, one = jax.nn.sigmoid(logits), jnp.float32(1)
    return {
        # Of logits: sigmoid rounds distinct ones to equal predictions.
        f"{part}_tau": (kendall_tau(logits, truth), one),
        f"{part}_r2": (r_squared(predictions, truth), one),
        f"{part}_error": (jnp.mean(jnp.abs(predictions - truth)), one),
    }


def _measure_permuted(
    network: Network, params: PyTree, data: PyTree, key: jax.Array, space: WeightSpace, chunk: int
) -> dict[str, SumCount]:
    """Compares the test networks with themselves, their hidden neurons in another order."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        key_rows = jax.random.fold_in(key, rows["row"][0])
        weights = permute_networks(key_rows, space, rows["params"])
        before, after = (
            jax.nn.sigmoid(network.apply(params, w, data["statistics"]))
            for w in (rows["params"], weights)
        )
        return {"permuted_change": jnp.abs(before - after)}

    rows = {**data["test"], "row": jnp.arange(data["test"]["accuracy"].shape[0])}
    return sums_over(values, rows, chunk=chunk)
