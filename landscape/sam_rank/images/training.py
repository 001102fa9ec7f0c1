"""The experiment `images`: classifiers trained by SAM or plainly, and their features at the end."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from ml_collections import ConfigDict

from common.data import image_sets
from common.data.image_sets import CLASSES
from common.evaluation import SumCount, classification_values, sums_over
from common.experiment import Experiment, Metrics
from common.nets.features import features
from common.steps import StatefulLoss, TrainState
from common.supervised import stateful_training, take
from landscape.costs import Cost, cost_named
from landscape.sam_rank.images import data as image_data
from landscape.sam_rank.images import measures
from landscape.sam_rank.images.networks import ImageNetwork, make_network, places

PyTree = Any


def images(config: ConfigDict) -> Experiment:
    """Trains a network on some classes; measures its features of these and of other classes.

    Source: Andriushchenko et al. (2023), for the training of ResNet-18 on images. "cost=squared" is
    regression on the one-hot label of every image.
    """
    spec = image_data.split_spec(config.data)
    side = (spec.base.size, spec.base.size, spec.base.channels)
    net = make_network(config.model, config.pixels, side, spec.seen)
    cost = cost_named(config.cost)
    trained = stateful_training(
        config,
        net.network.init,
        _loss(config, net, cost, spec.seen),
        num_train=image_data.counts(spec)["train"],
    )
    errors = partial(_errors, config, net, cost, spec.seen)

    def evaluate(state: TrainState, data: PyTree, key: Array) -> dict[str, SumCount]:
        del key
        return errors(state, data["valid"], "valid_")

    def final(state: TrainState, data: PyTree, key: Array) -> dict[str, SumCount]:
        del key
        found = errors(state, data["train"], "train_") | errors(state, data["test"], "test_")
        if not config.measure.samples:
            return found
        return found | measures.as_numbers(_measured(config, net, spec, state, data))

    def predict(state: TrainState, data: PyTree, inputs: Array) -> Array:
        del data
        return net.network.apply(state.params, state.model_state, net.prepared(inputs))[0]

    return Experiment(
        data=lambda: image_data.load(spec),
        **trained._asdict(),
        evaluate=evaluate,
        final=final,
        predict=predict,
        abstract_data=lambda: image_data.abstract(spec),
        describe=lambda: image_data.describe(spec),
        identity=lambda: image_data.identity(spec),
    )


def _loss(config: ConfigDict, net: ImageNetwork, cost: Cost, num_classes: int) -> StatefulLoss:
    """Returns the mean cost of a batch; both passes of SAM see the same augmented images."""

    def loss(
        params: PyTree, statistics: PyTree, data: PyTree, batch: PyTree, key: Array
    ) -> tuple[Array, Metrics, PyTree]:
        rows = take(data["train"], batch["index"])
        x = net.prepared(rows["image"])
        if config.augment:
            x = image_sets.augmented(x, key)
        outputs, after = net.network.apply(params, statistics, x, train=True)
        targets = jax.nn.one_hot(rows["label"], num_classes)
        return jnp.mean(cost.value(outputs, targets)), {}, after

    return loss


def _errors(
    config: ConfigDict,
    net: ImageNetwork,
    cost: Cost,
    num_classes: int,
    state: TrainState,
    rows: PyTree,
    prefix: str,
) -> dict[str, SumCount]:
    """Returns the cost of every image, and whether it is classified wrongly, in percent."""

    def values(rows: PyTree) -> dict[str, Array]:
        x = net.prepared(rows["image"])
        outputs, _ = net.network.apply(state.params, state.model_state, x)
        targets = jax.nn.one_hot(rows["label"], num_classes)
        accuracy = classification_values(outputs, rows["label"])["accuracy"]
        return {"loss": cost.value(outputs, targets), "error": 100 - accuracy}

    return sums_over(values, rows, chunk=config.evaluate_chunk, prefix=prefix)


def _measured(
    config: ConfigDict,
    net: ImageNetwork,
    spec: image_data.SplitSpec,
    state: TrainState,
    data: PyTree,
) -> dict[str, Any]:
    """Returns ranks, active units and transfer errors of a network, by its running statistics."""
    measure, named = config.measure, places(config.model)

    def of(asked: tuple[str, ...], pixels: Any) -> dict[str, Array]:
        return features(
            net.network,
            state.params,
            state.model_state,
            net.prepared(pixels),
            asked,
            chunk=config.evaluate_chunk,
        )

    found = measures.of_places(partial(of, named), data["train"], named, net.behind_relu, measure)
    if spec.seen == CLASSES:
        return found
    transfer = {number: named[number - 1] for number in measure.transfer}
    return found | measures.of_transfer(
        partial(of, tuple(transfer.values())),
        data["transfer"],
        data["transfer_test"],
        transfer,
        num_classes=CLASSES - spec.seen,
        neighbors=measure.neighbors,
    )
