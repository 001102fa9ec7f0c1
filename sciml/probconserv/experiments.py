"""The experiment of the paper: an attentive neural process, and updates that make it conserve."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from common.evaluation import SumCount, values_over
from common.experiment import Experiment, Metrics
from common.gradients import Loss
from common.steps import TrainState
from common.supervised import training
from sciml.pdes.conservation import LAWS
from sciml.probconserv import data as data_sets
from sciml.probconserv.anp import (
    AnpBatch,
    AnpParams,
    AnpSpec,
    anp,
    check_spec,
    encode_latent,
    init_anp,
    negative_elbo,
)
from sciml.probconserv.data import DataSpec
from sciml.probconserv.measure import MeasureSpec, measured, predicted
from sciml.probconserv.normal import sample
from sciml.probconserv.updates import UpdateSpec, check_update

PyTree = Any


def neural_process(config: ConfigDict) -> Experiment:
    """Trains a neural process on a conservation law; its updates are measured at the end."""
    spec = data_sets.data_spec(config.data, config.constraint.cells)
    model = model_spec(config.model)
    measure = measure_spec(config, spec, model)
    quiet = model._replace(dropout=0.0)
    soft = (config.model.soft_weight, config.model.soft_points)
    loss = _loss(spec, model, config.batch_size, *soft)
    init_params = partial(init_anp, spec=model)
    trained = training(config, init_params, loss, num_train=spec.counts[0])

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        rows = data["valid"]
        count = jnp.float32(rows.targets.values.size)
        return {"valid_loss": (negative_elbo(state.params, rows, key, spec=quiet), count)}

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        rows = data["test"]  # of all parameters, one after the other: one program for all

        def values(part: PyTree) -> dict[str, Array]:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, part[1])
            return measured(state.params, part[0], keys, spec=measure)

        number = jnp.arange(rows.mass.size)
        found = values_over(values, (rows, number), chunk=config.evaluate_chunk)
        return {
            f"test_{data_sets.label(spec, param)}_{name}": (jnp.sum(value), jnp.float32(value.size))
            for name, all_values in found.items()
            for param, value in zip(
                spec.test_params, jnp.split(all_values, len(spec.test_params)), strict=True
            )
        }

    def predict(state: TrainState, data: PyTree, rows: PyTree) -> PyTree:
        del data
        keys = jax.random.split(jax.random.key(0), rows.mass.size)
        return predicted(state.params, rows, keys, spec=measure)

    return Experiment(
        data=lambda: data_sets.load(spec),
        **trained._asdict(),
        evaluate=evaluate,
        final=final,
        predict=predict,
        abstract_data=lambda: data_sets.abstract(spec),
        describe=lambda: {"law": spec.name, "functions": spec.counts},
        identity=lambda: data_sets.identity(spec),
    )


def model_spec(section: ConfigDict) -> AnpSpec:
    """Returns the network of `config.model`.

    Raises:
        ValueError: If a size or rate makes no sense.
    """
    spec = AnpSpec(
        width=section.width,
        latent=section.latent,
        heads=section.heads,
        dropout=section.dropout,
    )
    check_spec(spec)
    return spec


def measure_spec(config: ConfigDict, data: DataSpec, model: AnpSpec) -> MeasureSpec:
    """Returns what is measured at the end.

    Raises:
        ValueError: If a field of `config.constraint` is out of range.
    """
    section = config.constraint
    update = UpdateSpec(section.sigma, section.correlation, section.cells)
    check_update(update, config.data.points)
    if section.shock_samples > 0 and LAWS[config.data.name].front is None:
        raise ValueError(
            f"config.constraint.shock_samples={section.shock_samples}: {config.data.name} has no "
            "front, expected 0"
        )
    return MeasureSpec(
        data=data,
        model=model,
        update=update,
        num_samples=config.model.num_samples,
        dropouts=tuple(bool(x) for x in config.model.inference_dropouts),
        shock_samples=section.shock_samples,
        sigmas=tuple(section.sigmas),
    )


def pde_penalty(
    params: AnpParams,
    batch: AnpBatch,
    param: Float[Array, " batch"],
    key: PRNGKeyArray,
    *,
    spec: DataSpec,
    model: AnpSpec,
) -> Float[Array, ""]:
    """Returns the mean squared PDE residual of the predicted mean at the targets (SoftC-ANP).

    Each function has its own parameter: the released code broadcasts every parameter against every
    function for advection. z is from the contexts, dropout off.

    Source: Hansen et al. (2023), SoftC-ANP: the soft constraint of the released code.
    """
    law = LAWS[spec.name]

    def of_function(part: AnpBatch, param: Array, key: PRNGKeyArray) -> Array:
        contexts = jax.tree.map(lambda x: x[None], part.contexts)
        z = sample(encode_latent(params, contexts, spec=model), key)

        def mean(t: Array, x: Array) -> Array:
            at = jnp.stack([t, x])[None, None]
            return anp(params, contexts, at, spec=model, latent=z).mean[0, 0]

        def residual(point: Array) -> Array:
            return law.residual(mean, param, point[0], point[1])

        return jnp.mean(jax.vmap(residual)(part.targets.points) ** 2)

    keys = jax.random.split(key, param.size)
    return jnp.mean(jax.vmap(of_function)(batch, param, keys))


def _loss(
    spec: DataSpec, model: AnpSpec, batch_size: int, soft_weight: float, soft_points: int
) -> Loss:
    """Returns the negative ELBO summed over the batch, as released, plus the soft constraint."""

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        del data  # drawn here
        param, rows = data_sets.functions(batch["index"], spec=spec, stream=data_sets.TRAIN)
        key_elbo, key_soft = jax.random.split(key)
        count = param.size
        elbo = negative_elbo(params, rows, key_elbo, spec=model) / count
        total = batch_size * elbo
        metrics = {"elbo_per_point": -elbo / rows.targets.values.shape[1]}
        if soft_weight > 0:
            targets = jax.tree.map(lambda x: x[:, :soft_points], rows.targets)
            some = rows._replace(targets=targets)
            penalty = pde_penalty(params, some, param, key_soft, spec=spec, model=model)
            total, metrics["residual"] = total + soft_weight * penalty, penalty
        return total, metrics

    return loss


EXPERIMENTS = {"neural_process": neural_process}
