"""INR classification as pure functions: loss, evaluation, and what symmetries change."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from common.evaluation import SumCount, classification_values, sums_over
from common.experiment import Experiment, Metrics
from common.gradients import Loss
from common.networks import Network
from common.steps import TrainState
from common.supervised import take, training
from nfn.equivariant.classification.model import (
    ClassifierSpec,
    SirenFunction,
    classifier,
    main_features,
)
from nfn.features import permute_networks
from nfn.stack import stack_space
from nfn.symmetry import random_sine_symmetry
from nfn.tasks import sirens
from nfn.weights import WeightSpace

PyTree = Any


def inr_classification(config: ConfigDict) -> Experiment:
    """Classifies images by the weights of the SIRENs fitted to them (Table 3)."""
    spec, model = sirens.siren_set_spec(config.data), ClassifierSpec(**config.model.to_dict())
    space, function = sirens.siren_space(spec), SirenFunction(spec.omega, spec.sine)
    network = classifier(space, model, num_classes=sirens.num_classes(spec), function=function)
    statistics = sirens.statistics_of(
        lambda params: main_features(space, model, params, function=function),
        stack_space(space, model.kind),
        normalize=config.data.normalize,
    )
    num_train, chunk = sirens.num_examples(spec)["train"], config.evaluate_chunk
    trained = training(config, network.init, _loss(network), num_train=num_train)
    measure = partial(_measure, network, chunk=chunk)

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        return {
            **measure(state.params, data, "train"),
            **measure(state.params, data, "test"),
            **_measure_moved(network, state.params, data, key, space, spec.omega, chunk),
        }

    return Experiment(
        data=lambda: sirens.siren_data(spec, statistics),
        **trained._asdict(),
        evaluate=lambda state, data, key: measure(state.params, data, "valid"),
        final=final,
        predict=lambda state, data, weights: network.apply(
            state.params, weights, data["statistics"]
        ),
        abstract_data=lambda: sirens.abstract_siren_data(spec, statistics),
        describe=lambda: sirens.describe(spec),
        identity=lambda: sirens.identity(spec),
    )


def _loss(network: Network) -> Loss:
    """Returns the mean cross-entropy of the training networks that the batch points to."""

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        train = take(data["train"], batch["index"])
        logits = network.apply(params, train["params"], data["statistics"], key)
        values = classification_values(logits, train["label"])
        return jnp.mean(values["loss"]), {"accuracy": jnp.mean(values["accuracy"])}

    return loss


def _measure(
    network: Network, params: PyTree, data: PyTree, part: str, chunk: int
) -> dict[str, SumCount]:
    """Returns accuracy and loss on all networks of "train", "valid" or "test"."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        logits = network.apply(params, rows["params"], data["statistics"])
        return classification_values(logits, rows["label"])

    return sums_over(values, data[part], chunk=chunk, prefix=f"{part}_")


def _measure_moved(
    network: Network,
    params: PyTree,
    data: PyTree,
    key: jax.Array,
    space: WeightSpace,
    omega: float,
    chunk: int,
) -> dict[str, SumCount]:
    """Compares the test networks with others that compute the same.

    permuted: their hidden neurons in another order; equivalent: those with the signs and half
    turns of their sine neurons changed as well.
    """

    def values(rows: PyTree, key: jax.Array) -> dict[str, jax.Array]:
        key_order, key_signs = jax.random.split(key)
        permuted = permute_networks(key_order, space, rows["params"])
        equivalent = random_sine_symmetry(key_signs, permuted, omega=omega)
        before = network.apply(params, rows["params"], data["statistics"])
        metrics = {}
        for name, weights in (("permuted", permuted), ("equivalent", equivalent)):
            after = network.apply(params, weights, data["statistics"])
            correct = classification_values(after, rows["label"])["accuracy"]
            agrees = 100.0 * (before.argmax(-1) == after.argmax(-1))
            metrics |= {
                f"{name}_test_accuracy": correct,
                f"{name}_test_agreement": agrees,
                f"{name}_logit_change": jnp.max(jnp.abs(before - after), axis=-1),
            }
        return metrics

    return sums_over(values, data["test"], chunk=chunk, key=key)
