"""Source networks: trained here before the shift, or published ones read from a file."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from common import stages
from common.config import complete
from common.evaluation import SumCount, classification_values, sums_over
from common.experiment import Experiment, Metrics
from common.files.data_dir import data_file
from common.files.storage import digest
from common.nets.published_resnets import read_resnet
from common.networks import StatefulNetwork, from_stateful_linen
from common.steps import TrainState
from common.supervised import stateful_training, take
from finetune.surgical import data as shift_data
from finetune.surgical.networks import make_network

PyTree = Any


class Sources(NamedTuple):
    """Networks before the shift, one for each source seed.

    Attributes:
        params: Of all of them, along the first axis.
        model_state: Running statistics, likewise.
    """

    params: PyTree
    model_state: PyTree


def source(config: ConfigDict) -> Experiment:
    """Trains a network on the source.

    Source: Lee et al. (2023), Sec. 3: pre-training, whose details the paper takes from others.
    """
    spec = _spec(config)
    net = network_of(config)
    counts = shift_data.abstract_source(spec)["train"]["label"].shape[0]
    trained = stateful_training(config, net.init, _loss(net), num_train=counts)
    values = partial(accuracy_values, net)

    def evaluate(state: TrainState, data: PyTree, key: Array) -> dict[str, SumCount]:
        del key
        one = partial(values, state.params, state.model_state)
        return sums_over(one, data["test"], chunk=config.evaluate_chunk, prefix="test_")

    def predict(state: TrainState, data: PyTree, inputs: Array) -> Array:
        del data
        return net.apply(state.params, state.model_state, inputs)[0]

    return Experiment(
        data=lambda: shift_data.source(spec),
        **trained._asdict(),
        evaluate=evaluate,
        predict=predict,
        abstract_data=lambda: shift_data.abstract_source(spec),
        describe=lambda: shift_data.describe(spec),
        identity=lambda: shift_data.identity(spec),
    )


def _spec(config: ConfigDict) -> shift_data.ShiftSpec:
    clean = ConfigDict(dict(name="clean", severity=1))
    return shift_data.shift_spec(config.data, config.pixels, clean)


def network_of(config: ConfigDict) -> StatefulNetwork:
    """Returns the network of a config of `source`: of a file, if it names one.

    Raises:
        MissingData: If the file is not in $DATA_DIR.
    """
    side = (config.data.size, config.data.size, config.data.channels)
    if config.file:
        module = read_resnet(data_file(config.file))[0]
        return from_stateful_linen(module, jax.ShapeDtypeStruct((2, *side), jnp.float32))
    return make_network(config.model, side)


def trained(config: ConfigDict, count: int) -> Sources:
    """Returns the networks of the source seeds 0, 1, ...: trained, or those of the file."""
    if config.file:
        _, params, model_state = read_resnet(data_file(config.file))
        states = [(params, model_state)]
    else:
        runs = [stages.trained(_of_seed(config, seed)) for seed in range(count)]
        states = [(run.state.params, run.state.model_state) for run in runs]
    rows = jax.tree.map(lambda *x: np.stack([np.asarray(v) for v in x]), *states)
    return Sources(*rows)


def section(config: ConfigDict) -> ConfigDict:
    """Returns the section `source` of a config as a config of its own."""
    return stages.section(config, "source", seed=0)


def identity(config: ConfigDict, count: int) -> dict[str, Any]:
    """Returns what the networks are: of a file its SHA-256, of stages their hashes."""
    if config.file:
        return {"file": digest(data_file(config.file))}
    return {str(seed): stages.identity(_of_seed(config, seed)) for seed in range(count)}


def describe(config: ConfigDict) -> dict[str, Any]:
    """Returns which network the first source is, for result files."""
    return {"file": config.file} if config.file else stages.describe(_of_seed(config, 0))


def _of_seed(config: ConfigDict, seed: int) -> ConfigDict:
    return complete(config, config.config_dir, seed=seed)


def abstract_sources(config: ConfigDict, count: int) -> Sources:
    """Returns the shapes of `trained`, without training anything."""
    shapes = jax.eval_shape(network_of(config).init, jax.random.key(0))
    number = 1 if config.file else count
    like = lambda x: jax.ShapeDtypeStruct((number, *x.shape), x.dtype)
    return Sources(*jax.tree.map(like, shapes))


def accuracy_values(
    net: StatefulNetwork, params: PyTree, model_state: PyTree, rows: PyTree
) -> dict[str, Array]:
    """Returns loss and accuracy in percent of every example."""
    logits, _ = net.apply(params, model_state, rows["image"])
    return classification_values(logits, rows["label"])


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns the mean cross-entropy of a batch."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _loss(net: StatefulNetwork) -> Any:
    def loss(
        params: PyTree, model_state: PyTree, data: PyTree, batch: PyTree, key: Array
    ) -> tuple[Array, Metrics, PyTree]:
        del key
        rows = take(data["train"], batch["index"])
        logits, after = net.apply(params, model_state, rows["image"], train=True)
        return cross_entropy(logits, rows["label"]), {}, after

    return loss
