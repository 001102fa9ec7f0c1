"""The editing experiment as pure functions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common.data.epochs import epoch_indices
from common.evaluation import SumCount, sums_over
from common.experiment import Batch, Experiment, Metrics
from common.networks import Network
from common.optim import make_optimizer
from common.steps import Loss, TrainState, base_gradient, gradient_step, init_train_state
from nfn.equivariant import data as inr_data
from nfn.equivariant.editing.data import EditSpec, abstract_editing_data, editing_data
from nfn.equivariant.editing.models import EditorSpec, editor, inputs
from nfn.equivariant.models import permute_networks
from nfn.equivariant.stack import stack_space
from nfn.siren import SirenParams, coordinate_grid, siren
from nfn.siren_sets import SirenSetSpec
from nfn.weights import WeightSpace

PyTree = Any


def editing(config: ConfigDict) -> Experiment:
    """Changes the weights of SIRENs so that they show the edited image (Table 6)."""
    spec, chunk = inr_data.siren_set_spec(config.data), config.evaluate_chunk
    space, sizes = inr_data.siren_space(spec), EditorSpec(**config.model.to_dict())
    network = editor(space, sizes, omega=spec.omega)
    statistics = inr_data.statistics_of(
        partial(inputs, space, sizes, omega=spec.omega),
        stack_space(space, sizes.kind),
        normalize=config.data.normalize,
    )
    optimizer = make_optimizer(num_steps=config.num_steps, **config.optimizer)
    gradient = base_gradient(
        deterministic=config.deterministic, logical_shards=config.logical_shards
    )
    num_train = inr_data.num_examples(spec)["train"]

    def batch(step: int) -> Batch:
        shape = {"num_examples": num_train, "batch_size": config.batch_size}
        return {"index": epoch_indices(config.seed, step, **shape)}

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        return _measure(network, state.params, data, "valid", spec, chunk)

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        measured = _measure(network, state.params, data, "test", spec, chunk)
        moved = _measure_permuted(network, state.params, data, key, space, spec, chunk)
        return {**measured, **moved}

    return Experiment(
        data=lambda: editing_data(spec, edit_spec(config), statistics),
        init=lambda key: init_train_state(network.init(key), optimizer),
        step=gradient_step(_loss(network, spec), optimizer, gradient=gradient),
        batch=batch,
        evaluate=evaluate,
        final=final,
        predict=lambda state, data, weights: network.apply(
            state.params, weights, data["statistics"]
        ),
        abstract_data=lambda: abstract_editing_data(spec, statistics),
        describe=lambda: inr_data.describe(spec),
    )


def edit_spec(config: ConfigDict) -> EditSpec:
    """Returns the edit of `config.data`."""
    return EditSpec(config.data.edit, tuple(config.data.shift), config.data.degrees)


def renderings(weights: SirenParams, spec: SirenSetSpec) -> Float[Array, "batch pixels c"]:
    """Returns what a batch of networks shows, in the [-1, 1] scale."""
    show = partial(siren, coordinates=coordinate_grid(spec.size), omega=spec.omega, sine=spec.sine)
    return jax.vmap(lambda single: show(single))(weights)


def _errors(weights: SirenParams, target: jax.Array, spec: SirenSetSpec) -> Float[Array, " batch"]:
    return jnp.mean((renderings(weights, spec) - target) ** 2, axis=(1, 2))


def _loss(network: Network, spec: SirenSetSpec) -> Loss:
    """Returns the mean square error of the training networks that the batch points to."""

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        train = jax.tree.map(lambda x: x[batch["index"]], data["train"])
        edited = network.apply(params, train["params"], data["statistics"], key)
        return jnp.mean(_errors(edited, train["target"], spec)), {}

    return loss


def _measure(
    network: Network, params: PyTree, data: PyTree, part: str, spec: SirenSetSpec, chunk: int
) -> dict[str, SumCount]:
    """Returns the mean square errors of the edited and of the untouched networks of a part."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        edited = network.apply(params, rows["params"], data["statistics"])
        return {
            f"{part}_mse": _errors(edited, rows["target"], spec),
            f"{part}_do_nothing_mse": _errors(rows["params"], rows["target"], spec),
        }

    return sums_over(values, data[part], chunk=chunk)


def _measure_permuted(
    network: Network,
    params: PyTree,
    data: PyTree,
    key: jax.Array,
    space: WeightSpace,
    spec: SirenSetSpec,
    chunk: int,
) -> dict[str, SumCount]:
    """Compares the edited test networks with those whose hidden neurons were in another order."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        moved = permute_networks(jax.random.fold_in(key, rows["row"][0]), space, rows["params"])
        after = network.apply(params, moved, data["statistics"])
        before = network.apply(params, rows["params"], data["statistics"])
        change = renderings(after, spec) - renderings(before, spec)
        return {
            "permuted_test_mse": _errors(after, rows["target"], spec),
            "permuted_change": jnp.mean(change**2, axis=(1, 2)),
        }

    rows = {**data["test"], "row": jnp.arange(data["test"]["target"].shape[0])}
    return sums_over(values, rows, chunk=chunk)
