"""Classifying images by the arrays of a trained INR2ARRAY encoder, which stays as it is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common import runs, stages
from common.evaluation import SumCount, classification_values, sums_over, values_over
from common.experiment import Experiment, Metrics
from common.networks import Network
from common.runs import Loaded
from common.steps import TrainState
from common.supervised import training
from nfn.features import permute_networks
from nfn.siren import SirenParams
from nfn.siren_sets import SirenSetSpec
from nfn.tasks import sirens
from nfn.transformer.classification.model import ClassifierSpec, array_classifier
from nfn.transformer.inr2array.experiment import METRICS

PyTree = Any


def inr_classification(config: ConfigDict) -> Experiment:
    """Classifies images by frozen arrays of the SIRENs fitted to them."""
    stage = stages.section(config, "encoder", seed=config.seed)
    spec, sizes = sirens.siren_set_spec(stage.data), stage.model
    network = array_classifier(
        ClassifierSpec(**config.model.to_dict()),
        num_latents=sizes.num_latents,
        latent_width=sizes.latent_width,
        num_classes=sirens.num_classes(spec),
    )
    num_train, chunk = sirens.num_examples(spec)["train"], config.evaluate_chunk
    loss = _loss(network, config.mixup)
    trained = training(config, network.init, loss, num_train=num_train)
    measure = partial(_measure, network, chunk=chunk)

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        encoder = {f"encoder_{k}": (v, jnp.float32(1)) for k, v in data["encoder"].items()}
        return {
            **measure(state.params, data, "train"),
            **measure(state.params, data, "test"),
            **_measure_permuted(network, state.params, data, chunk),
            **encoder,
        }

    return Experiment(
        data=lambda: array_sets(config, stage, spec),
        **trained._asdict(),
        evaluate=lambda state, data, key: measure(state.params, data, "valid"),
        final=final,
        predict=lambda state, data, array: network.apply(state.params, array),
        abstract_data=lambda: _abstract(
            spec, (sizes.num_latents, sizes.latent_width), config.array_dtype
        ),
        describe=lambda: {**sirens.describe(spec), "encoder": stages.describe(stage)},
        identity=lambda: {"sirens": sirens.identity(spec), "encoder": stages.identity(stage)},
    )


def array_sets(config: ConfigDict, stage: ConfigDict, spec: SirenSetSpec) -> PyTree:
    """Returns {"train" | "valid" | "test": {"array": [n, M, d], "label": [n]}, "encoder"}.

    The encoder is trained once. Test networks have "permuted" arrays too, those of the same
    networks with their hidden neurons in another order. "encoder": its own test metrics.
    """
    loaded = stages.trained(stage)
    weights = {part: loaded.data[part]["params"] for part in sirens.PARTS}
    permute = jax.jit(partial(permute_networks, space=sirens.siren_space(spec)))
    weights["permuted"] = permute(jax.random.key(config.seed), weights=weights["test"])
    arrays = {
        part: encode(loaded, params, config.encode_chunk).astype(jnp.dtype(config.array_dtype))
        for part, params in weights.items()
    }
    data: dict[str, Any] = {
        part: {"array": arrays[part], "label": np.asarray(loaded.data[part]["label"])}
        for part in sirens.PARTS
    }
    data["test"]["permuted"] = arrays["permuted"]
    result = runs.read(stages.stage_directory(stage)).result
    assert result is not None  # it is trained
    measured = result["metrics"]["best"]
    data["encoder"] = {name: np.float32(measured[name]) for name in metric_names(spec)}
    return data


def metric_names(spec: SirenSetSpec) -> tuple[str, ...]:
    """Returns what an encoder reports of itself; without second fits nothing can be retrieved."""
    return METRICS if spec.copies > 1 else METRICS[:-1]


def encode(loaded: Loaded, params: SirenParams, chunk: int) -> Float[np.ndarray, "n M d"]:
    """Returns the arrays of networks [n, ...], `chunk` in memory at a time."""
    predict = loaded.experiment.predict
    assert predict is not None

    def arrays(state: PyTree, data: PyTree, params: SirenParams) -> Float[Array, "n M d"]:
        def values(rows: PyTree) -> dict[str, jax.Array]:
            return {"array": predict(state, data, rows)["array"]}

        return values_over(values, params, chunk=chunk)["array"]

    return np.asarray(jax.jit(arrays)(loaded.state, loaded.data, params))


def _loss(network: Network, mixup: float) -> Callable[..., tuple[jax.Array, Metrics]]:
    """Returns the mean cross-entropy; mix-up: of arrays and labels mixed with others' in pairs."""

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        key_mix, key_dropout = jax.random.split(key)
        array, label = (data["train"][name][batch["index"]] for name in ("array", "label"))
        share = jax.random.beta(key_mix, mixup, mixup) if mixup > 0 else 1.0
        if mixup > 0:
            array = share * array + (1 - share) * array[::-1]
        logits = network.apply(params, array, train=True, rngs={"dropout": key_dropout})
        values = classification_values(logits, label)
        value = jnp.mean(values["loss"])
        if mixup > 0:
            mixed = jnp.mean(classification_values(logits, label[::-1])["loss"])
            value = share * value + (1 - share) * mixed
        return value, {"accuracy": jnp.mean(values["accuracy"])}

    return loss


def _measure(
    network: Network, params: PyTree, data: PyTree, part: str, chunk: int
) -> dict[str, SumCount]:
    """Returns accuracy and loss on all arrays of "train", "valid" or "test"."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        return classification_values(network.apply(params, rows["array"]), rows["label"])

    return sums_over(values, data[part], chunk=chunk, prefix=f"{part}_")


def _measure_permuted(
    network: Network, params: PyTree, data: PyTree, chunk: int
) -> dict[str, SumCount]:
    """Compares the answers to test networks and to the same with permuted hidden neurons."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        before = network.apply(params, rows["array"])
        after = network.apply(params, rows["permuted"])
        return {
            "permuted_test_agreement": 100.0 * (before.argmax(-1) == after.argmax(-1)),
            "permuted_logit_change": jnp.max(jnp.abs(before - after), axis=-1),
        }

    return sums_over(values, data["test"], chunk=chunk)


def _abstract(spec: SirenSetSpec, shape: tuple[int, int], dtype: str) -> PyTree:
    """Returns the shapes of `array_sets` without training anything."""

    def part(count: int) -> dict[str, jax.ShapeDtypeStruct]:
        array = jax.ShapeDtypeStruct((count, *shape), jnp.dtype(dtype))
        return {"array": array, "label": jax.ShapeDtypeStruct((count,), jnp.int32)}

    data: dict[str, Any] = {name: part(n) for name, n in sirens.num_examples(spec).items()}
    data["test"]["permuted"] = data["test"]["array"]
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    return {**data, "encoder": dict.fromkeys(metric_names(spec), scalar)}
