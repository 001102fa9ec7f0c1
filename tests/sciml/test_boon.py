"""The networks and experiments of BOON: exact boundaries, what is read, sizes, refusals."""

import re
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.config import load_config
from common.errors import UserError
from common.experiment import build
from common.loop.program import count_parameters
from sciml.boon import data as data_sets
from sciml.boon.experiments import model_spec
from sciml.boon.figures.panels import COLORS
from sciml.boon.model import METHODS, boundary_misses, init_model, predict
from sciml.boon.rows import VARIANTS
from sciml.metrics import relative_l2
from tests.small_runs import drawn, last_metrics, train

SINGLE, MULTI, SHIFT = (
    f"sciml/boon/configs/{name}.py:cpu" for name in ("single_step", "multi_step", "shift")
)
SMALL = {
    "data.num_train": "8",
    "data.num_valid": "4",
    "data.num_test": "4",
    "data.points": "16",
    "data.scales": "(2.0,)",
    "model.width": "4",
    "model.projection": "8",
    "model.modes": "(4,)",
    "batch_size": "4",
    "evaluate_chunk": "4",
    "num_steps": "4",
    "steps_per_call": "2",
    "eval_every": "0",
    "seed_group": "1",
}
TIMED = SMALL | {"model.modes": "(4,2)", "data.kept": "6", "data.scales": "()"}
PLANE = TIMED | {"model.modes": "(2,2,2)"}
CAVITY = PLANE | {"data.points": "17"}


def config_of(spec: str, **fields: str) -> Any:
    small = SMALL if spec.startswith((SINGLE, SHIFT)) else TIMED
    if "wave" in spec or "cavity" in spec:
        small = CAVITY
    return load_config(spec, {**small, **fields})


@cache
def rows_of(spec: str) -> Any:
    """Returns the test samples of a config, made once."""
    config = config_of(spec)
    return jax.tree.map(jnp.asarray, data_sets.load(data_sets.data_spec(config.data))["test"])


QUICK = (f"{SINGLE},pde=stokes,kind=boon",)
SLOW = (
    f"{SINGLE},pde=heat,kind=boon_value",
    f"{SINGLE},pde=heat,kind=boon",
    f"{SINGLE},pde=burgers_periodic,kind=boon",
    f"{SINGLE},pde=stokes,kind=boon_inputs",
    f"{SINGLE},pde=stokes,kind=last",
    f"{SINGLE},pde=heat,kind=boon,base=mwt",
    f"{MULTI},pde=stokes,kind=boon",
    f"{MULTI},pde=heat,kind=boon,base=mwt",
    f"{MULTI},pde=cavity,kind=boon",
    f"{MULTI},pde=wave,kind=boon",
)
SPECS = (*QUICK, *(pytest.param(spec, marks=pytest.mark.slow) for spec in SLOW))


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s[18:].replace(".py:cpu,", " "))
def test_random_weights_satisfy_the_condition_and_plain_ones_do_not(spec: str) -> None:
    config = config_of(spec)
    model = model_spec(config, data_sets.data_spec(config.data))
    rows = rows_of(spec)

    @jax.jit
    def misses(key):
        params = jax.tree.map(lambda x: 2 * x, init_model(key, spec=model))
        field = predict(params, rows["initial"], rows["boundary"], spec=model)
        plain = (
            predict(params, rows["initial"], rows["boundary"], spec=model._replace(kind="plain"))
            if not METHODS[model.kind].inputs
            else field
        )
        errors = [boundary_misses(x, rows["boundary"], spec=model) for x in (field, plain)]
        return [jnp.max(e) for e in errors], jnp.std(field)

    (ours, plain), spread = misses(jax.random.key(3))
    # Slopes: end values of float32 times 11 / (6 h).
    allowed = 3e-4 if model.conditions[0].kind == "neumann" else 0.0
    assert ours <= allowed and spread > 1e-3
    assert METHODS[model.kind].inputs or plain > 1e-2


def test_a_batch_may_be_empty() -> None:
    config = config_of(f"{SINGLE},pde=heat,kind=boon,base=mwt")
    data = data_sets.data_spec(config.data)
    model = model_spec(config, data)
    rows = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((0, *x.shape[1:]), x.dtype), data_sets.abstract(data)["test"]
    )

    def run(initial, boundary):
        params = init_model(jax.random.key(0), spec=model)
        field = predict(params, initial, boundary, spec=model)
        return field, boundary_misses(field, boundary, spec=model)

    field, misses = jax.eval_shape(run, rows["initial"], rows["boundary"])
    assert field.shape == (0, 16) and misses.shape == (0, 2)


@pytest.mark.parametrize("made", [drawn, pytest.param(train, marks=pytest.mark.slow)])
def test_predictions_read_nothing_of_the_solution_but_its_boundary_data(made: Any) -> None:
    spec = f"{SINGLE},pde=stokes,kind=boon"
    experiment, data, state = made(config_of(spec))
    data = jax.tree.map(jnp.asarray, data)
    rows = rows_of(spec)
    other = {**rows, "frames": rows["frames"] + 1.0}
    moved = {**rows, "boundary": jax.tree.map(lambda x: x + 1.0, rows["boundary"])}

    assert experiment.predict is not None
    answer = jax.jit(experiment.predict)
    answers = [answer(state, data, r) for r in (rows, other, moved)]

    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(np.asarray(answers[0] - answers[2]))[:, 1:-1].max() > 1e-3
    (ends,) = rows["boundary"]
    for at, values in ((0, ends.low), (-1, ends.high)):  # of any weights, to the bit
        np.testing.assert_array_equal(answers[0][:, at], values[..., -1])
    # The loss of a step: the sum over its batch of relative errors, and it has a gradient.
    batch = experiment.batch(0)
    _, metrics = jax.jit(experiment.step)(state, data, batch, jax.random.key(0))
    chosen = jax.tree.map(lambda x: x[batch["index"]], data["train"])
    wanted, got = chosen["frames"][..., -1], answer(state, data, chosen)
    errors = np.linalg.norm(got - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert metrics["loss"] == pytest.approx(errors.sum(), rel=1e-4)  # float32
    assert metrics["grad_norm"] > 1e-3 * metrics["loss"]


def test_input_fields_of_the_base_network_are_the_initial_state_and_coordinates() -> None:
    config = config_of(f"{SINGLE},pde=stokes,kind=plain")
    model = model_spec(config, data_sets.data_spec(config.data))
    rows = rows_of(f"{SINGLE},pde=stokes,kind=plain")
    params = init_model(jax.random.key(0), spec=model)
    moved = jax.tree.map(lambda x: x + 1.0, rows["boundary"])

    answer = jax.jit(partial(predict, spec=model))
    out = [answer(params, rows["initial"], b) for b in (rows["boundary"], moved)]
    other = answer(params, rows["initial"] + 1.0, moved)

    np.testing.assert_array_equal(out[0], out[1])
    assert jnp.abs(other - out[1]).max() > 1e-4


def test_measures_are_those_of_predictions_by_definition() -> None:
    experiment = build(config_of(f"{SINGLE},pde=stokes,kind=plain"))
    assert experiment.predict is not None
    answer, data = experiment.predict, jax.tree.map(jnp.asarray, experiment.data())
    rows = jax.tree.map(np.asarray, data["valid"])

    @jax.jit
    def run(key):
        state = experiment.init(key)
        found = experiment.evaluate(state, data, jax.random.key(1))
        return answer(state, data, data["valid"]), found

    field, sums = run(jax.random.key(0))
    true, (ends,) = rows["frames"][..., -1], rows["boundary"]
    error = np.linalg.norm(field - true, axis=1) / np.linalg.norm(true, axis=1)
    misses = np.abs(field[:, [0, -1]] - np.stack([ends.low[:, -1], ends.high[:, -1]], axis=1))
    wanted = {
        "relative_l2": error,
        "boundary_error": misses.max(axis=1),
        "boundary_rmse": np.sqrt((misses**2).mean(axis=1)),
    }
    assert misses.min() > 1e-4 and error.min() > 0.1  # nothing is trained or imposed
    for name, values in wanted.items():
        total, count = sums[f"valid_{name}"]
        np.testing.assert_allclose(total / count, values.mean(), rtol=1e-4, err_msg=name)


def test_moved_ranges_are_measured_apart_and_differ_in_their_range_only() -> None:
    fields = {"data.scales": "()", "data.shifts": "(-0.5,1.0)"}
    experiment, data, state = drawn(config_of(f"{SHIFT},pde=burgers,kind=last", **fields))
    final, predict = experiment.final, experiment.predict
    assert final is not None and predict is not None

    @jax.jit
    def run(state: Any, data: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        return final(state, data, key), predict(state, data, data["shifted"])

    sums, field = run(state, data, jax.random.key(0))
    moved, low, width = data["shifted"], 0.75, 0.1
    left = np.asarray(moved["initial"])[:, 0]  # u_left: the step is in the middle

    assert (np.abs(left[:4] - low) <= width / 2 + 1e-6).all()
    assert (np.abs(left[4:] - (low + 3 * width / 2)) <= width / 2 + 1e-6).all()
    inside = np.asarray(data["test"]["initial"])[:, 0]
    for part, shift in ((left[:4], -0.5), (left[4:], 1.0)):
        np.testing.assert_allclose(part - inside, shift * width, atol=1e-6)  # the same draws
    true = np.asarray(moved["frames"])[..., -1]
    error = np.linalg.norm(field - true, axis=1) / np.linalg.norm(true, axis=1)
    for name, part in (("shift-0.5", error[:4]), ("shift+1", error[4:])):
        total, count = sums[f"test_{name}_relative_l2"]
        np.testing.assert_allclose(total / count, part.mean(), rtol=1e-4)
        assert sums[f"test_{name}_boundary_error"][0] == 0


def test_the_paper_preset_has_the_sizes_of_the_notebooks() -> None:
    config = load_config("sciml/boon/configs/single_step.py:paper,kind=plain")
    experiment = build(config)
    state = jax.eval_shape(experiment.init, jax.eval_shape(lambda: jax.random.key(0)))

    layer = 2 * 16 * 64 * 64 + 64 * 64 + 64
    wanted = (2 + 1) * 64 + 4 * layer + (64 + 1) * 128 + (128 + 1)
    assert count_parameters(state) == wanted


def test_relative_l2_is_one_for_zero_and_scales() -> None:
    true = jax.random.normal(jax.random.key(0), (3, 5, 2))
    np.testing.assert_allclose(relative_l2(jnp.zeros_like(true), true), 1.0, rtol=1e-6)
    np.testing.assert_allclose(relative_l2(1.5 * true, true), 0.5, rtol=1e-5)


@pytest.mark.slow  # two processes that train; tests/common has the loop on eight devices
def test_eight_devices_train_as_one_does_and_keep_the_boundary(child, tmp_path) -> None:
    fields = SMALL | {"batch_size": "8"}
    one, eight = (
        last_metrics(child, f"{SINGLE},pde=stokes", fields, tmp_path, devices=n) for n in (1, 8)
    )
    assert one["test_boundary_error"] == eight["test_boundary_error"] == 0.0
    # Sums over the batch in another order, four steps of Adam.
    assert eight["test_relative_l2"] == pytest.approx(one["test_relative_l2"], rel=1e-3)


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (SINGLE, {"model.modes": "(9,)"}, "9 Fourier modes on a grid axis of 16 points"),
        (SINGLE, {"model.kind": "bon"}, "config.model.kind='bon'.*boon"),
        (SINGLE, {"model.damping": "1.0"}, "config.model.damping=1.0"),
        (SINGLE, {"data.nu": "-0.1"}, "config.data.nu=-0.1"),
        (SINGLE, {"data.name": "stoke"}, "'stoke'.*stokes"),
        (SINGLE, {"model.padding": "(0.2,)"}, "padding.*only time may be padded"),
        (SINGLE, {"model.stencil_order": "7"}, "order=7"),
        (f"{SINGLE},pde=heat,base=mwt", {"data.points": "24"}, "24 points: expected a power of 2"),
        (SINGLE, {"model.refined_axes": "(1,)"}, "refined_axes"),
        (SINGLE, {"data.scales": "(0.1,)"}, "config.data.scales"),
        (f"{MULTI},pde=stokes,kind=boon_released", {}, "kind=boon_released: .* one axis"),
        (f"{SINGLE},pde=heat,kind=plain_released,base=mwt", {}, "config.model.base=mwt"),
        (f"{SINGLE},clip=-1", {}, "config.optimizer.clip_norm=-1.0: .*at least 0"),
        (SHIFT, {"data.shifts": "(1.0,0.0)"}, "config.data.shifts=.*not 0"),
        (SHIFT, {"data.shifts": "(-3.0,)"}, "config.data.shifts=.*above 0"),
        (SHIFT, {"data.shifts": "()"}, "config.data.shifts=.*one or more"),
        (MULTI, {"data.kept": "400"}, "kept=400 of stored=80"),
    ],
)
def test_bad_input_is_refused_in_one_line(spec: str, fields: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        build(config_of(spec, **fields))

    assert re.search(message, str(refused.value)), str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_row_has_a_color() -> None:
    assert COLORS.keys() == VARIANTS.keys()
    assert len({*COLORS.values()}) == len(COLORS)
