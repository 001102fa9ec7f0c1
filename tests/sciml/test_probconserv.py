"""The experiment of ProbConserv: its data, its updates, what is measured, and refusals."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from common.config import load_config
from common.errors import UserError
from common.experiment import build
from common.steps import TrainState
from sciml.conservation import trapezoid_weights
from sciml.pdes.conservation import LAWS
from sciml.probconserv import data as data_sets
from sciml.probconserv import updates
from sciml.probconserv.anp import init_anp, negative_elbo
from sciml.probconserv.experiments import measure_spec, model_spec, pde_penalty
from sciml.probconserv.measure import measured, predicted
from sciml.probconserv.normal import Normal
from sciml.probconserv.updates import BOUNDED, METHODS, Slice, UpdateSpec
from tests.small_runs import draws_like, last_metrics, train

CONFIG = "sciml/probconserv/configs/neural_process.py:cpu"
SMALL = {
    "num_steps": "4",
    "eval_every": "2",
    "steps_per_call": "2",
    "batch_size": "8",
    "data.num_train": "16",
    "data.num_valid": "4",
    "data.num_test": "4",
    "data.points": "21",
    "data.context_grid": "(3,4)",
    "data.target_grid": "(3,4)",
    "model.width": "8",
    "model.latent": "8",
    "model.heads": "2",
    "model.num_samples": "3",
    "constraint.shock_samples": "6",
}
UPDATE = UpdateSpec(cells=4)


def small(spec: str = CONFIG, **fields: str):
    return load_config(spec, SMALL | fields)


def spec_of(pde: str, **fields: str) -> data_sets.DataSpec:
    config = small(f"{CONFIG},pde={pde}", **fields)
    return data_sets.data_spec(config.data, config.constraint.cells)


def a_slice() -> tuple[jax.Array, jax.Array, Slice]:
    x = jnp.linspace(-1, 1, 21)
    key_mean, key_scale = jax.random.split(jax.random.key(0))
    mean = jnp.exp(-(x**2)) + 0.1 * jax.random.normal(key_mean, x.shape)
    scale = 0.05 + 0.1 * jax.random.uniform(key_scale, x.shape)
    cells = jnp.asarray([0.2, 0.5, 0.4, 0.1])
    return mean, scale, Slice(x, jnp.sum(cells), cells)


@partial(jax.jit, static_argnums=0)
def applied(
    method: str, mean: jax.Array, scale: jax.Array, known: Slice
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns mean and variance after a method's update, and 4000 draws."""
    predicted = Normal(mean, scale)
    profiles = updates.draws(method, predicted, known, UPDATE, jax.random.key(1), count=4_000)
    return *updates.updated(method, predicted, known, UPDATE), profiles


@pytest.mark.parametrize("method", METHODS)
def test_an_update_has_the_mass_and_draws_have_it_too(method: str) -> None:
    mean, scale, known = a_slice()
    weights = np.asarray(trapezoid_weights(known.x), np.float64)
    new, variance, profiles = (np.asarray(a) for a in applied(method, mean, scale, known))
    missed = abs(weights @ np.asarray(new, np.float64) - float(known.mass))
    spread = np.std(np.asarray(profiles, np.float64) @ weights)

    assert (missed < 1e-6) == (method != "anp")
    assert (spread < 1e-6) == (method not in ("anp", "hard"))
    # 4 000 draws: three standard errors of a mean and of a variance.
    np.testing.assert_allclose(profiles.mean(0), new, atol=3 * 0.15 / 4_000**0.5)
    np.testing.assert_allclose(profiles.var(0), variance, rtol=0.12)
    if method == "diffused":  # the shape first: fewer kinks than the mass alone leaves
        plain = np.asarray(applied("probconserv", mean, scale, known)[0])
        assert np.std(np.diff(new, 2)) < 0.5 * np.std(np.diff(plain, 2))
    if method == "hard":
        np.testing.assert_allclose(variance, scale**2, rtol=1e-6)
        np.testing.assert_allclose(np.diff(new - mean)[1:-1], 0, atol=1e-6)


def test_local_rows_give_every_cell_its_mass() -> None:
    mean, scale, known = a_slice()
    new, *_ = applied("local", mean, scale, known)
    for cell in range(4):
        part = slice(5 * cell, 5 * cell + 6)
        found = np.trapezoid(np.asarray(new[part], np.float64), np.asarray(known.x[part]))
        assert found == pytest.approx(float(known.cell_masses[cell]), abs=1e-6)


def test_a_mixture_has_the_moments_of_its_draws() -> None:
    means = jnp.asarray([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    mean, variance = updates.mixture(means, jnp.asarray([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
    np.testing.assert_allclose(mean, [2, 1])
    np.testing.assert_allclose(variance, [2 + 4, 1e-8])  # sample variance of 0, 2, 4


def test_a_shock_is_at_the_first_point_that_is_not_above_zero() -> None:
    x = jnp.linspace(0, 1, 5)
    profiles = jnp.asarray([[1, 1, -1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]], jnp.float32)
    np.testing.assert_allclose(updates.shock_positions(profiles, x), [0.5, 1.0, 0.0])


def test_functions_are_numbered_and_contexts_cover_all_times() -> None:
    spec = spec_of("burgers_shock", **{"data.context_grid": "(5,4)"})
    made = jax.jit(data_sets.functions, static_argnames=("spec", "stream"))
    fourth = jnp.full(6, 4)
    found = (
        made(jnp.arange(6), spec=spec, stream=data_sets.TRAIN),
        made(fourth, spec=spec, stream=data_sets.TRAIN),
        made(fourth, spec=spec, stream=data_sets.VALID),
    )
    (param, rows), (again, same), (_, other) = jax.tree.map(np.asarray, found)

    np.testing.assert_array_equal(same.contexts.points[0], rows.contexts.points[4])
    assert (
        again[0] == param[4] and np.abs(other.contexts.points - same.contexts.points).max() > 0.01
    )
    assert ((param >= 1) & (param <= 4)).all() and np.std(param) > 0.1
    times = np.asarray(rows.contexts.points[..., 0]).reshape(6, 5, 4)
    assert (np.floor(times * 5) == np.arange(5)[None, :, None]).all()  # one in every fifth
    law = LAWS["burgers_shock"]
    t, x = rows.targets.points[..., 0], rows.targets.points[..., 1]
    wanted = law.solution(*(jnp.asarray(a) for a in (param, t, x)))
    np.testing.assert_allclose(rows.targets.values, wanted, atol=1e-6 * param.max())
    assert x.min() < 0 < x.max() <= 1


@pytest.mark.parametrize(
    "pde", [pytest.param(x, marks=[pytest.mark.slow] * (x != "stefan")) for x in LAWS]
)
def test_masses_of_test_slices_are_those_of_their_profiles(pde: str) -> None:
    spec = spec_of(pde, **{"data.points": "401"})
    law, param = LAWS[pde], spec.test_params[-1]
    slices = jax.jit(lambda: data_sets.slices_at(param, law.report_time, spec=spec))
    rows = jax.tree.map(np.asarray, slices())
    found = np.trapezoid(rows.targets.values, rows.targets.points[..., 1], axis=1)
    np.testing.assert_allclose(found, rows.mass, atol=1e-2)  # O(h) at a shock
    np.testing.assert_allclose(rows.cell_masses.sum(1), rows.mass, atol=2e-6)
    for cell in range(4):
        part = slice(100 * cell, 100 * cell + 101)
        found = np.trapezoid(rows.targets.values[:, part], rows.targets.points[:, part, 1], axis=1)
        np.testing.assert_allclose(found, rows.cell_masses[:, cell], atol=1e-2)
    if law.front is not None:
        values, x = rows.targets.values[0], rows.targets.points[0, :, 1]
        assert (values[x < rows.front[0] - 1e-6] > 0).all()
        np.testing.assert_allclose(values[x > rows.front[0] + 1e-6], 0, atol=1e-6)


@pytest.mark.slow
def test_a_penalty_knows_the_parameter_of_every_function() -> None:
    spec = spec_of("advection")
    model = model_spec(small().model)

    params = draws_like(jax.eval_shape(partial(init_anp, spec=model), jax.random.key(0)))

    @jax.jit
    def penalties(params):
        param, rows = data_sets.functions(jnp.arange(2), spec=spec, stream=data_sets.TRAIN)
        some = jnp.stack([param, param[::-1], 100 * param])
        part = lambda p: pde_penalty(params, rows, p, jax.random.key(1), spec=spec, model=model)
        return jax.vmap(part)(some)

    # A broadcast of all parameters against all functions would not see the order.
    right, swapped, fast = (float(x) for x in penalties(params))
    assert abs(right - swapped) > 1e-3 * right > 0
    assert fast > 100 * right  # u_t + a u_x


def numbers_of(
    moments: tuple[np.ndarray, np.ndarray], shocks: np.ndarray | None, rows: data_sets.Slices
) -> dict[str, np.ndarray]:
    """Returns what is measured of a method's predictions, [batch] each, by definition."""
    (mean, variance), true = moments, np.asarray(rows.targets.values)
    scale, x = np.sqrt(variance), np.asarray(rows.targets.points[..., 1])
    error = np.trapezoid(mean, x, axis=1) - np.asarray(rows.mass)
    numbers = {
        "ce": error,
        "abs_ce": np.abs(error),
        "mse": (mean - true) ** 2,
        "sd": scale,
        "ll": stats.norm.logpdf(true, mean, scale),
        "coverage": np.abs(true - mean) <= stats.norm.ppf(0.95) * scale,
        "outside": np.maximum(0, np.maximum(-mean, mean - 1)).max(axis=1),
    }
    if shocks is not None:
        missed = shocks - np.asarray(rows.front)[:, None]
        numbers |= {
            "shock_bias": np.abs(missed.mean(axis=1)),
            "shock_sd": shocks.std(axis=1),
            "shock_rmse": np.sqrt((missed**2).mean(axis=1)),
        }
    return {name: a if a.ndim == 1 else a.mean(axis=1) for name, a in numbers.items()}


@pytest.mark.slow  # all methods in one program; each conserves in a test above
def test_measures_are_those_of_predictions_and_only_updates_conserve() -> None:
    fields = {"constraint.shock_samples": "3", "model.inference_dropouts": "(0,)"}
    config = small(f"{CONFIG},pde=stefan", **fields)
    spec, model = spec_of("stefan"), model_spec(config.model)
    measure = measure_spec(config, spec, model)

    params = draws_like(jax.eval_shape(partial(init_anp, spec=model), jax.random.key(0)))

    @jax.jit
    def measured_and_predicted(params):
        rows = data_sets.slices_at(0.6, 0.05, spec=spec)
        keys = jax.random.split(jax.random.key(1), spec.counts[2])
        # Numbers are measured with a key of their own for every mode, the first of which is 0.
        first = jax.vmap(partial(jax.random.fold_in, data=0))(jax.random.clone(keys))
        numbers = measured(params, rows, keys, spec=measure)
        return rows, numbers, predicted(params, rows, first, spec=measure)

    rows, found, (moments, shocks) = measured_and_predicted(params)
    assert set(shocks) == set(METHODS) and set(moments) == {*METHODS, *BOUNDED}
    for method, moment in moments.items():
        mean, variance = (np.asarray(a) for a in moment)
        positions = np.asarray(shocks[method]) if method in shocks else None
        wanted = numbers_of((mean, variance), positions, rows)
        miss = float(found[f"{method}_abs_ce"].max())
        assert (miss < 1e-6) == (method not in ("anp", "bounds")), (method, miss)
        assert wanted["mse"].min() > 1e-3 and wanted.get("shock_rmse", np.ones(1)).max() > 1e-3
        assert (wanted["outside"].max() == 0) == (method in BOUNDED), method
        for name, values in wanted.items():
            # float32 sums of 21 numbers of size 1; likelihoods divide by variances of 0.5.
            np.testing.assert_allclose(
                found[f"{method}_{name}"], values, rtol=1e-4, atol=1e-6, err_msg=name
            )


@pytest.mark.slow  # compiles for 30 s; its measures have a test above
@pytest.mark.parametrize(("dropouts", "shocks"), [("(0,)", "0"), ("(0,1)", "6")])
def test_a_short_training_measures_every_method_and_only_updates_conserve(dropouts, shocks) -> None:
    fields = {"model.inference_dropouts": dropouts, "constraint.shock_samples": shocks}
    experiment, data, state = train(small(f"{CONFIG},pde=stefan", **fields))
    assert experiment.final is not None
    sums: dict[str, Any] = jax.jit(experiment.final)(state, data, jax.random.key(0))
    found = {name: float(total / count) for name, (total, count) in sums.items()}

    for param in ("u*=0.6", "u*=0.5"):
        for prefix in ("", "dropout_") if "1" in dropouts else ("",):
            for method in METHODS:
                miss = found[f"test_{param}_{prefix}{method}_abs_ce"]
                assert (miss < 1e-6) == (method != "anp"), (param, prefix, method, miss)
    # "hard" leaves variances as they were, but not the spread of means over draws of z.
    assert found["test_u*=0.6_hard_sd"] == pytest.approx(found["test_u*=0.6_anp_sd"], rel=0.05)
    if "1" in dropouts:
        assert found["test_u*=0.6_anp_mse"] != found["test_u*=0.6_dropout_anp_mse"]
        assert found["test_u*=0.6_probconserv_shock_rmse"] > 0


def test_the_validation_loss_is_the_negative_elbo_of_a_target_without_dropout() -> None:
    config = small(f"{CONFIG},pde=stefan")
    experiment = build(config)
    rows = jax.tree.map(jnp.asarray, experiment.data()["valid"])
    key = jax.random.key(4)
    params = draws_like(jax.eval_shape(experiment.init, jax.random.key(0)).params)
    quiet = model_spec(config.model)._replace(dropout=0.0)

    @jax.jit
    def both(params: Any) -> tuple[Any, jax.Array]:
        state = TrainState(params, ())
        pair = experiment.evaluate(state, {"valid": rows}, key)["valid_loss"]
        return pair, negative_elbo(params, rows, jax.random.clone(key), spec=quiet)

    (total, count), wanted = both(params)
    assert config.model.dropout > 0
    assert count == rows.targets.values.size
    assert total == pytest.approx(float(wanted), rel=1e-5)  # float32, the same sums


@pytest.mark.slow
def test_the_soft_constraint_changes_the_gradient() -> None:
    states = [train(small(f"{CONFIG},pde=pme,soft={soft}"))[2] for soft in (0, 1_000)]
    a, b = (jax.tree.leaves(state.params)[0] for state in states)
    assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-6


@pytest.mark.slow
def test_eight_devices_train_as_one_does(child, tmp_path) -> None:
    one, eight = (
        last_metrics(child, f"{CONFIG},pde=stefan", SMALL, tmp_path, devices=n) for n in (1, 8)
    )
    assert eight["test_u*=0.6_probconserv_abs_ce"] < 1e-6
    # Sums over the batch in another order, four steps of Adam.
    name = "test_u*=0.6_probconserv_mse"
    assert eight[name] == pytest.approx(one[name], rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"constraint.sigma": "-0.1"}, "constraint.sigma=-0.1: expected 0 or more"),
        ({"constraint.cells": "7"}, "constraint.cells=7: expected a divisor of the 20 intervals"),
        ({"constraint.correlation": "1.5"}, "constraint.correlation=1.5"),
        ({"data.name": "heat"}, "config.data.name='heat'"),
        ({"data.train_range": "(0.0,2.0)"}, "m=0 of the law 'pme'"),
        ({"data.num_test": "0"}, "num_test"),
        ({"model.heads": "3"}, "heads"),
        ({"model.soft_weight": "-1.0"}, "soft_weight=-1.0: expected >= 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(fields: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        build(small(**fields))

    assert re.search(message, str(refused.value)), str(refused.value)
    assert "\n" not in str(refused.value)
