"""The experiment: two towers, trained to tell which of their inputs belong together."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from ml_collections import ConfigDict

from common.contrastive import contrastive_loss
from common.experiment import Experiment, Metrics, SumCount
from common.gradients import make_gradient
from common.nets.features import features
from common.nets.transformer_sharding import transformer_rules
from common.optim import make_optimizer
from common.steps import TrainState, gradient_step, init_train_state
from landscape.sam_rank.contrastive import measures, pairs
from landscape.sam_rank.contrastive.forgetful import forgetful
from landscape.sam_rank.contrastive.towers import make_towers, places

PyTree = Any


def contrastive(config: ConfigDict) -> Experiment:
    """Trains two towers, whose outputs are to be alike for pairs and for nothing else.

    Source: Andriushchenko et al. (2023), released code of the contrastive run: Adam along a cosine,
    temperature 0.05. Its optimizer has lost its state at every step, see `forgetful`.
    """
    spec, model, watch = pairs.pair_spec(config.data), config.model, config.watch
    network = make_towers(model, _example(spec))
    optimizer = make_optimizer(num_steps=config.num_steps, **config.optimizer)
    gradient = make_gradient(config)
    if not config.keep_optimizer_state:
        optimizer = forgetful(optimizer)

    def loss(params: PyTree, data: PyTree, batch: PyTree, key: Array) -> tuple[Array, Metrics]:
        rows = pairs.take(data["train"], batch["index"])
        if config.split_parameters:  # whole for the step, or activations would be exchanged
            params = jax.tree.map(_whole, params)
        outputs = network.apply(params, *pairs.inputs_of(rows, key))
        return contrastive_loss(*outputs, temperature=model.temperature), {}

    def evaluate(state: TrainState, data: PyTree, key: Array) -> dict[str, SumCount]:
        del key
        paths = places(watch.layers)
        found = features(
            network,
            state.params,
            (),
            pairs.inputs_of(data["test"]),
            tuple(paths.values()),
            chunk=watch.chunk,
        )
        named = {name: found[path] for name, path in paths.items()}
        outputs = (named[f"{side}_head"] for side in ("first", "second"))
        numbers = measures.of_pairs(*outputs, group=watch.group, temperature=model.temperature)
        one = {name: (jnp.float32(x), jnp.float32(1)) for name, x in measures.ranks(named).items()}
        return {**numbers, **one}

    def predict(state: TrainState, data: PyTree, inputs: PyTree) -> PyTree:
        del data
        return network.apply(state.params, *inputs)

    return Experiment(
        data=lambda: pairs.load(spec),
        init=lambda key: init_train_state(network.init(key), optimizer, gradient=gradient),
        step=gradient_step(loss, optimizer, gradient=gradient),
        batch=pairs.batches(config.seed, spec, config.batch_size),
        evaluate=evaluate,
        rules=_rules(is_split=config.split_parameters),
        predict=predict,
        abstract_data=lambda: pairs.abstract(spec),
        describe=lambda: pairs.describe(spec),
        identity=lambda: pairs.identity(spec),
    )


def _example(spec: pairs.Spec) -> Any:
    """Returns the shapes of what the towers get."""
    test = pairs.abstract(spec)["test"]
    return jax.eval_shape(pairs.inputs_of, test)


def _whole(leaf: Array) -> Array:
    mesh = jax.sharding.get_abstract_mesh()
    return leaf if mesh.empty else jax.lax.with_sharding_constraint(leaf, jax.P())


def _rules(*, is_split: bool) -> tuple[tuple[str, Any], ...]:
    """Returns where things lie: shards of the data with their rows, large parameters in parts."""

    def rows(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> jax.P:
        size = mesh.shape.get("data", 1)  # [..., shards, rows], seeds of a group before them
        axis = next((i for i in (-2, -1) if shape[i] % size == 0), None)
        spec: list[str | None] = [None] * len(shape)
        if axis is not None and size > 1:
            spec[axis] = "data"
        return jax.P(*spec)

    def shards(shape: tuple[int, ...], mesh: jax.sharding.Mesh) -> jax.P:
        size = mesh.shape.get("data", 1)
        return jax.P("data") if size > 1 and shape[0] % size == 0 else jax.P()

    split = transformer_rules() if is_split else []
    return ((r"^batch/index", rows), (r"^data/train/", shards), *split)
