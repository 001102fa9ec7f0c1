"""The experiments of the paper: learn the solution at one time, or at many times at once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common.data import cache
from common.evaluation import SumCount, sums_over, values_over
from common.experiment import Experiment, Metrics
from common.gradients import Loss
from common.steps import TrainState
from common.supervised import take, training
from sciml.boon import data as data_sets
from sciml.boon.data import DataSpec
from sciml.boon.model import (
    METHODS,
    ModelSpec,
    boundary_misses,
    check_model,
    init_model,
    predict,
    worst_conditioning,
)
from sciml.boundary import BoundaryCondition, check_condition
from sciml.metrics import relative_l2
from sciml.operators import OperatorSpec, check_operator
from sciml.pdes.problems import PROBLEMS

PyTree = Any


def operator_learning(config: ConfigDict) -> Experiment:
    """Learns the map from the state at time 0 to later states, with boundary data given."""
    spec = data_sets.data_spec(config.data)
    model = model_spec(config, spec)
    loss = _loss(model, config.batch_size)
    init_params = partial(init_model, spec=model)
    trained = training(config, init_params, loss, num_train=spec.counts[0])

    def measure(params: PyTree, rows: PyTree, prefix: str) -> dict[str, SumCount]:
        return _measure(model, params, rows, prefix, config.evaluate_chunk)

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        return measure(state.params, data["valid"], "valid_")

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        measured = measure(state.params, data["test"], "test_")
        for name, rows in data["scaled"].items():
            measured |= measure(state.params, rows, f"test_{name}_")
        number = worst_conditioning(state.params, _grid(spec, model), spec=model)
        return {**measured, "condition_number": (number, jnp.float32(1))}

    return Experiment(
        data=lambda: data_sets.load(spec),
        **trained._asdict(),
        evaluate=evaluate,
        final=final,
        predict=lambda state, data, rows: _answer(model, state.params, rows),
        abstract_data=lambda: data_sets.abstract(spec),
        describe=lambda: data_sets.describe(spec),
        identity=lambda: data_sets.identity(spec),
    )


def shifted_operator_learning(config: ConfigDict) -> Experiment:
    """`operator_learning`, measured at the end on boundary data outside the range of training too.

    The test sets of all shifts are one after the other: one program measures them all.
    """
    spec = data_sets.data_spec(config.data)
    moved, model = data_sets.shift_spec(spec, config.data.shifts), model_spec(config, spec)
    base = operator_learning(config)
    in_range = base.final
    assert in_range is not None

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        measured = in_range(state, data, key)
        values = _values(model, state.params)
        for name, found in values_over(
            values, data["shifted"], chunk=config.evaluate_chunk
        ).items():
            parts = jnp.split(found, len(moved.shifts))
            for shift, part in zip(moved.shifts, parts, strict=True):
                label = f"test_{data_sets.shift_name(shift)}_{name}"
                measured[label] = (jnp.sum(part), jnp.float32(part.size))
        return measured

    return base._replace(
        data=lambda: {**base.data(), "shifted": data_sets.load_shifted(moved)},
        final=final,
        abstract_data=lambda: {
            **data_sets.abstract(spec),
            "shifted": data_sets.abstract_shifted(moved),
        },
        identity=lambda: {
            **data_sets.identity(spec),
            "shifted": cache.identity(moved, data_sets.generate_shifted),
        },
    )


def model_spec(config: ConfigDict, spec: DataSpec) -> ModelSpec:
    """Returns the network of a config.

    Raises:
        ValueError: If sizes, grid and conditions do not fit together; names the field.
    """
    section, problem = config.model, PROBLEMS[spec.pde.name]
    conditions = tuple(
        BoundaryCondition(problem.kind, axis, order=section.stencil_order)
        for axis in range(problem.space_axes)
    )
    operator = OperatorSpec(
        base=section.base,
        modes=tuple(section.modes),
        width=section.width,
        num_layers=section.num_layers,
        projection=section.projection,
        padding=tuple(section.padding),
        discards_last=METHODS[section.kind].discards_last,
        wavelet_order=section.wavelet_order,
    )
    model = ModelSpec(
        kind=section.kind,
        operator=operator,
        conditions=conditions,
        refined_axes=tuple(section.refined_axes),
        damping=section.damping,
    )
    check_model(model)
    for scale in (1.0, *spec.scales):
        grid = _grid(spec._replace(points=round(scale * spec.points)), model)
        check_operator(operator, grid)
        for condition in conditions:
            check_condition(condition, grid)
    return model


def _loss(model: ModelSpec, batch_size: int) -> Loss:
    """Returns the sum over the batch of relative L2 errors.

    The released code sums, which scales the gradient against weight decay.
    """

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        del key  # nothing is random
        rows = take(data["train"], batch["index"])
        error = jnp.mean(relative_l2(_answer(model, params, rows), _target(model, rows)))
        return batch_size * error, {"relative_l2": error}

    return loss


def _measure(
    model: ModelSpec, params: PyTree, rows: PyTree, prefix: str, chunk: int
) -> dict[str, SumCount]:
    """Returns sums and counts of `_values` over all rows."""
    return sums_over(_values(model, params), rows, chunk=chunk, prefix=prefix)


def _values(model: ModelSpec, params: PyTree) -> Callable[[PyTree], dict[str, jax.Array]]:
    """Returns rows -> relative L2, the largest and the root mean square error at the boundary."""

    def values(rows: PyTree) -> dict[str, jax.Array]:
        field = _answer(model, params, rows)
        misses = boundary_misses(field, rows["boundary"], spec=model)
        return {
            "relative_l2": relative_l2(field, _target(model, rows)),
            "boundary_error": jnp.max(misses, axis=-1),
            "boundary_rmse": jnp.sqrt(jnp.mean(misses**2, axis=-1)),
        }

    return values


def _answer(model: ModelSpec, params: PyTree, rows: PyTree) -> Float[Array, " batch *grid"]:
    return predict(params, rows["initial"], rows["boundary"], spec=model)


def _target(model: ModelSpec, rows: PyTree) -> Float[Array, " batch *grid"]:
    return rows["frames"] if _has_time(model) else rows["frames"][..., -1]


def _has_time(model: ModelSpec) -> bool:
    return len(model.operator.modes) > len(model.conditions)


def _grid(spec: DataSpec, model: ModelSpec) -> tuple[int, ...]:
    space = (spec.points,) * len(model.conditions)
    return (*space, spec.kept) if _has_time(model) else space


EXPERIMENTS = {
    "single_step": operator_learning,
    "multi_step": operator_learning,
    "shift": shifted_operator_learning,
}
