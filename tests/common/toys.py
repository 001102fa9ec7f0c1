"""Two small experiments and a bare loop, for tests of everything between a loss and a run."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common import sharding
from common.evaluation import SumCount, means, sums_over
from common.experiment import Batch, Experiment, Metrics
from common.gradients import Loss
from common.keys import root_key
from common.loop import program
from common.loop_fields import LOOP_DEFAULTS
from common.steps import TrainState
from common.supervised import take, training
from nfn.encodings import normalization_statistics
from nfn.equivariant.classification.model import ClassifierSpec, SirenFunction, classifier
from nfn.features import features_from_params
from nfn.weights import mlp_space

PyTree = Any
NUM_EXAMPLES = 48


def toy_config(builder: str = "regression", **changes: Any) -> ConfigDict:
    """Returns the config of an experiment of this file with all fields of the loop."""
    config = ConfigDict({**LOOP_DEFAULTS, "num_steps": 8, "batch_size": 16})
    config.experiment, config.config_dir = f"toys.py:{builder}", str(Path(__file__).parent)
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-2))
    config.update(changes)
    return config.lock()


def regression(config: ConfigDict) -> Experiment:
    """Fits a tanh network to noisy inputs; the noise comes from the key of the step."""

    def data() -> PyTree:
        random = np.random.default_rng(0)
        x = random.standard_normal((NUM_EXAMPLES, 4)).astype(np.float32)
        return {"x": x, "y": np.sin(x @ random.standard_normal((4, 2))).astype(np.float32)}

    def init_params(key: jax.Array) -> PyTree:
        one, two = jax.random.split(key)
        return {
            "hidden": {"kernel": jax.random.normal(one, (4, 16)) / 2, "bias": jnp.zeros(16)},
            "out": {"kernel": jax.random.normal(two, (16, 2)) / 4, "bias": jnp.zeros(2)},
        }

    def errors(params: PyTree, x: jax.Array, y: jax.Array) -> jax.Array:
        hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
        output = hidden @ params["out"]["kernel"] + params["out"]["bias"][None]
        return jnp.mean((output - y) ** 2, axis=-1)

    def loss(params: PyTree, data: PyTree, batch: Batch, key: jax.Array) -> Any:
        x, y = data["x"][batch["index"]], data["y"][batch["index"]]
        noise = jax.random.normal(key, x.shape)
        return jnp.mean(errors(params, x + 0.1 * noise, y)), {"noise": noise[0, 0]}

    def values(params: PyTree, rows: PyTree) -> dict[str, jax.Array]:
        return {"error": errors(params, rows["x"], rows["y"])}

    return _experiment(config, data, init_params, loss, values)


def attention(config: ConfigDict) -> Experiment:
    """Sums the four numbers of an input that exceed their mean, by attention and a norm."""

    def data() -> PyTree:
        x = np.random.default_rng(2).standard_normal((NUM_EXAMPLES, 4)).astype(np.float32)
        return {"x": x, "y": np.maximum(x - x.mean(1, keepdims=True), 0).sum(1)}

    def init_params(key: jax.Array) -> PyTree:
        one, two, three = jax.random.split(key, 3)
        return {
            "token": jax.random.normal(one, (4, 8)),
            "qkv": jax.random.normal(two, (3, 8, 8)) / 3,
            "out": jax.random.normal(three, (8,)) / 3,
        }

    def normalized(tokens: jax.Array) -> jax.Array:
        centered = tokens - jnp.mean(tokens, axis=-1, keepdims=True)
        return centered / jnp.sqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + 1e-5)

    def errors(params: PyTree, x: jax.Array, y: jax.Array) -> jax.Array:
        tokens = normalized(x[..., None] * params["token"][None])
        query, key, value = jnp.einsum("btc,kcd->kbtd", tokens, params["qkv"])
        looks = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", query, key))
        mixed = normalized(tokens + jnp.einsum("bqk,bkd->bqd", looks, value))
        return (jnp.mean(mixed, axis=1) @ params["out"] - y) ** 2

    def loss(params: PyTree, data: PyTree, batch: Batch, key: jax.Array) -> Any:
        del key
        x, y = data["x"][batch["index"]], data["y"][batch["index"]]
        return jnp.mean(errors(params, x, y)), {}

    def values(params: PyTree, rows: PyTree) -> dict[str, jax.Array]:
        return {"error": errors(params, rows["x"], rows["y"])}

    return _experiment(config, data, init_params, loss, values)


def weights(config: ConfigDict) -> Experiment:
    """Classifies random weights by an NFN_NP with dropout, as the first paper does."""
    space = mlp_space((2, 5, 3))
    spec = ClassifierSpec(
        kind="np",
        inputs="weights",
        num_probes=1,
        channels=6,
        num_layers=1,
        frequencies=2,
        fourier_scale=1.0,
        io_bands=2,
        io_max_frequency=3.0,
        head_widths=(8,),
        head_dropout=0.2,
        channel_dropout=0.1,
        mlp_widths=(8,),
        dtype="float32",
        remat=False,
    )
    network = classifier(space, spec, num_classes=3, function=SirenFunction(omega=1.0))

    def data() -> PyTree:
        random = np.random.default_rng(1)
        params: PyTree = {}
        for tensor in space.tensors:
            layer, _, name = tensor.path.partition("/")
            draws = random.standard_normal((NUM_EXAMPLES, *tensor.shape)).astype(np.float32)
            params.setdefault(layer, {})[name] = draws
        features = features_from_params(space, params)
        statistics = normalization_statistics(features, space=space)
        labels = random.integers(0, 3, NUM_EXAMPLES).astype(np.int32)
        return {"params": params, "label": labels, "statistics": statistics}

    def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]

    def loss(params: PyTree, data: PyTree, batch: Batch, key: jax.Array) -> Any:
        rows = take((data["params"], data["label"]), batch["index"])
        logits = network.apply(params, rows[0], data["statistics"], key)
        return jnp.mean(cross_entropy(logits, rows[1])), {"logit": logits[0, 0]}

    def values(params: PyTree, rows: PyTree) -> dict[str, jax.Array]:
        logits = network.apply(params, rows["params"], rows["statistics"])
        return {"error": cross_entropy(logits, rows["label"])}

    return _experiment(config, data, network.init, loss, values)


def _experiment(
    config: ConfigDict, data: Any, init_params: Any, loss: Loss, values: Any
) -> Experiment:
    init, step, batch = training(config, init_params, loss, num_train=NUM_EXAMPLES)

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        shared = {name: data[name] for name in data.keys() & {"statistics"}}
        rows = {name: data[name] for name in data.keys() - {"statistics"}}
        return sums_over(lambda part: values(state.params, {**part, **shared}), rows, chunk=32)

    return Experiment(data=data, init=init, step=step, batch=batch, evaluate=evaluate)


def train(experiment: Experiment, config: ConfigDict) -> tuple[PyTree, Metrics]:
    """Returns the state after `config.num_steps` and the metrics [num_steps] of all steps."""
    mesh = sharding.make_mesh(dict(config.mesh))
    host_data = jax.tree.map(np.asarray, experiment.data())
    layout = program.layout(experiment, config, mesh, data=host_data)
    data = sharding.place(host_data, jax.tree.map(lambda x: x.sharding, layout.data))
    key = jax.device_put(root_key(config), sharding.replicated(mesh))
    state = program.lower_init(experiment, layout).compile()(key)
    compiled = program.lower_step(experiment, config, layout).compile()
    calls = []
    for step in range(0, config.num_steps, config.steps_per_call):
        batches = program.stack_batches(experiment, config, step)
        placed = program.place_batches(batches, layout)
        state, metrics = compiled(state, data, placed, key, np.int32(step))
        calls.append(jax.device_get(metrics))
    return state, jax.tree.map(lambda *rows: np.concatenate(rows), *calls)


def evaluate(experiment: Experiment, config: ConfigDict, state: PyTree) -> dict[str, float]:
    """Returns the means of `experiment.evaluate` on all devices of the mesh."""
    mesh = sharding.make_mesh(dict(config.mesh))
    host_data = jax.tree.map(np.asarray, experiment.data())
    layout = program.layout(experiment, config, mesh, data=host_data)
    data = sharding.place(host_data, jax.tree.map(lambda x: x.sharding, layout.data))
    compiled = program.lower_evaluate(experiment.evaluate, layout).compile()
    return means(compiled(state, data, program.place_key(config, mesh)))


def digest(tree: PyTree) -> str:
    """Returns the SHA-256 of all leaves: equal for equal bits only."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        host = np.asarray(leaf)
        total.update(f"{host.dtype}{host.shape}".encode() + host.tobytes())
    return total.hexdigest()
