"""Predicting the accuracy of networks from their weights: the experiment for any predictor."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from common.evaluation import SumCount, sums_over, values_over
from common.experiment import Experiment, Metrics
from common.gradients import Loss
from common.steps import TrainState
from common.supervised import take, training
from nfn import encodings, features
from nfn.kendall import kendall_tau, r_squared
from nfn.readers import ReaderParams, invariant_reader
from nfn.tasks.zoos import abstract_zoo_data, describe, identity, num_examples, zoo_data, zoo_space
from nfn.trunk import Trunk
from nfn.weights import Params, WeightSpace

PyTree = Any


class Predictor(NamedTuple):
    """A network that reads weights; weights are params trees with a leading batch axis.

    Attributes:
        init: key -> params.
        apply: (params, weights, statistics, key=None) -> logit of the accuracy [batch]; with a
            `key` dropout is on.
        statistics: weights of training networks -> mean and deviation of what is read of them.
    """

    init: Callable[[PRNGKeyArray], PyTree]
    apply: Callable[..., Float[Array, " batch"]]
    statistics: Callable[[Params], encodings.NormalizationStatistics]


def trunk_predictor(
    trunk: Trunk, *, head_widths: tuple[int, ...], head_dropout: float
) -> Predictor:
    """Returns trunk, invariant pool and MLP, reading the weights; see `invariant_reader`.

    Source: Zhou et al. (2023a), App. D.1.
    """
    reader = invariant_reader(
        trunk, head_widths=head_widths, num_outputs=1, head_dropout=head_dropout
    )

    def apply(
        params: ReaderParams,
        weights: Params,
        statistics: encodings.NormalizationStatistics,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " batch"]:
        x = features.features_from_params(trunk.space, weights)
        return reader.apply(params, encodings.normalize(statistics, x), None, key)[:, 0]

    def statistics(weights: Params) -> encodings.NormalizationStatistics:
        x = features.features_from_params(trunk.space, weights)
        return encodings.normalization_statistics(x, space=trunk.space)

    return Predictor(reader.init, apply, statistics)


def predict_accuracy(config: ConfigDict, predictor: Predictor) -> Experiment:
    """Trains a predictor of test accuracies; measures rank correlation and invariance.

    Source: Zhou et al. (2023a), App. D.1: binary cross-entropy on the accuracy.

    Reads `config.data` (see `zoos.zoo_spec`), `config.optimizer` and sizes of batches.
    """
    section, chunk = config.data, config.evaluate_chunk
    space = zoo_space(section)

    def statistics(weights: PyTree) -> PyTree:
        values = predictor.statistics(weights)
        return values if section.normalize else encodings.no_normalization(values)

    num_train = num_examples(section)["train"]
    trained = training(config, predictor.init, _loss(predictor), num_train=num_train)
    measure = partial(_measure, predictor, chunk=chunk)

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        return {
            **measure(state.params, data, "train"),
            **measure(state.params, data, "test"),
            **_measure_permuted(predictor, state.params, data, key, space, chunk),
        }

    return Experiment(
        data=lambda: zoo_data(section, statistics, seed=config.seed),
        **trained._asdict(),
        evaluate=lambda state, data, key: measure(state.params, data, "valid"),
        final=final,
        predict=lambda state, data, weights: jax.nn.sigmoid(
            predictor.apply(state.params, weights, data["statistics"])
        ),
        abstract_data=lambda: abstract_zoo_data(section, statistics),
        describe=lambda: describe(section),
        identity=lambda: identity(section),
    )


def _loss(predictor: Predictor) -> Loss:
    """Returns the mean cross-entropy between accuracy and prediction, both taken as chances."""

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        train = take(data["train"], batch["index"])
        logits = predictor.apply(params, train["params"], data["statistics"], key)
        error = jnp.mean(jnp.abs(jax.nn.sigmoid(logits) - train["accuracy"]))
        losses = optax.sigmoid_binary_cross_entropy(logits, train["accuracy"])
        return jnp.mean(losses), {"error": error}

    return loss


def _measure(
    predictor: Predictor, params: PyTree, data: PyTree, part: str, chunk: int
) -> dict[str, SumCount]:
    """Returns tau, R^2 and mean absolute error on all networks of "train", "valid" or "test"."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        return {"logit": predictor.apply(params, rows["params"], data["statistics"])}

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
    predictor: Predictor,
    params: PyTree,
    data: PyTree,
    key: jax.Array,
    space: WeightSpace,
    chunk: int,
) -> dict[str, SumCount]:
    """Compares the test networks with themselves, their hidden neurons in another order."""

    def values(rows: PyTree, key: PRNGKeyArray) -> dict[str, jax.Array]:
        weights = features.permute_networks(key, space, rows["params"])
        before, after = (
            jax.nn.sigmoid(predictor.apply(params, w, data["statistics"]))
            for w in (rows["params"], weights)
        )
        return {"permuted_change": jnp.abs(before - after)}

    return sums_over(values, data["test"], chunk=chunk, key=key)
