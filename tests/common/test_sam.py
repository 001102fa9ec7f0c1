"""SAM against its definitions: closed forms, loops in NumPy, optax, running means by hand."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common import steps
from common.errors import UserError
from common.gradient_types import Remembered, Renewed
from common.gradients import accumulated, masked, plain
from common.sam import STATISTICS, sam
from tests.common.bowl import MATRIX, START, bowl, entries, leaves, slope
from tests.common.small_problem import KEY, close, differ, loss, noisy_loss, problem
from tests.processes import Child

PyTree = Any
Array = np.ndarray

double = pytest.mark.usefixtures("float64")  # rounding must not hide a wrong term


def ahead_by_hand(
    w: Array,
    rho: float,
    *,
    count: int = 1,
    size: float = 1.0,
    normalize: bool = True,
    eta: float | None = None,
    moving: Array | None = None,
    decay: float = 0.0,
) -> Array:
    """The worst point, by a loop over entries of one vector."""
    scale = np.ones(5) if eta is None else np.abs(w) + eta
    moving = np.ones(5) if moving is None else moving
    delta = np.zeros(5)
    for _ in range(count):
        g = moving * (slope(w + delta) + decay * (w + delta))
        # Kwon et al.: the steepest way in the norm |delta / T| is T^2 g / |T g|.
        way = scale**2 * g / (np.linalg.norm(scale * g) if normalize else 1)
        delta = delta + rho * size * way
        length = np.linalg.norm(delta[moving > 0] / scale[moving > 0])
        if normalize and length > rho:
            delta = delta * rho / length
    return w + delta


@double
@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        ({}, {}),
        ({"ascent_steps": 3}, {"count": 3}),  # two radii and more: projected
        ({"ascent_steps": 3, "ascent_size": 0.2}, {"count": 3, "size": 0.2}),
        ({"ascent_size": 2.0}, {"size": 2.0}),
        ({"normalize": False}, {"normalize": False}),
        ({"eta": 0.01}, {"eta": 0.01}),
        ({"eta": 0.0, "ascent_steps": 2}, {"eta": 0.0 + 1e-300, "count": 2}),
        ({"perturbed": "^params/b$"}, {"moving": np.array([0, 0, 0, 1, 1])}),
        ({"decay": 0.7}, {"decay": 0.7}),
        (
            {"eta": 0.5, "ascent_steps": 2, "ascent_size": 0.8, "decay": 0.3, "perturbed": "a"},
            {
                "eta": 0.5,
                "count": 2,
                "size": 0.8,
                "decay": 0.3,
                "moving": np.array([1, 1, 1, 0, 0]),
            },
        ),
    ],
    ids=lambda value: "+".join(value),
)
def test_the_gradient_is_that_at_the_point_that_a_loop_over_one_vector_finds(
    options: dict[str, Any], by_hand: dict[str, Any]
) -> None:
    # "params/a" has "a" four times: a mask is a regex on the whole path.
    options = {
        **options,
        **({"perturbed": "^params/a$"} if options.get("perturbed") == "a" else {}),
    }

    (value, _), grads = jax.jit(sam(0.3, **options)(bowl))(leaves(START), None, None, None)

    worst = ahead_by_hand(START, 0.3, **by_hand)
    close(entries(grads), slope(worst))
    close(value, START @ MATRIX @ START / 2 + np.sum(START**4) / 4)
    assert differ(entries(grads), slope(START))


@double
def test_of_a_quadratic_it_is_a_product_with_the_matrix_and_with_its_square() -> None:
    def quadratic(params: PyTree, data: Any, batch: Any, key: Any) -> Any:
        return params @ jnp.asarray(MATRIX) @ params / 2, {}

    _, grads = jax.jit(sam(0.2)(quadratic))(jnp.asarray(START), None, None, None)

    g = MATRIX @ START  # A w + rho A^2 w / |A w|
    close(grads, g + 0.2 * MATRIX @ g / np.linalg.norm(g))


@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.bfloat16])
def test_the_way_up_has_the_length_of_the_radius_also_in_half_precision(dtype: Any) -> None:
    w = {"a": jnp.full(40_000, 0.25, dtype), "b": jnp.full(20_000, -0.25, dtype)}

    def half_square(params: PyTree, data: Any, batch: Any, key: Any) -> Any:
        return sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in params.values()) / 2, {}

    _, ahead = jax.jit(sam(16.0)(half_square))(w, None, None, None)  # the gradient at w is w

    delta = [np.asarray(ahead[k], np.float64) - np.asarray(w[k], np.float64) for k in w]
    assert {x.dtype for x in ahead.values()} == {jnp.dtype(dtype)}
    # bfloat16 has 8 bits; sums of 60,000 squares in it would stall at 256.
    tolerance = 1e-6 if dtype == jnp.float32 else 2**-5
    assert np.isclose(np.linalg.norm(np.concatenate(delta)), 16.0, rtol=tolerance)


@pytest.mark.parametrize("options", [{}, {"eta": 0.0}, {"ascent_steps": 2}, {"normalize": False}])
def test_a_gradient_without_a_direction_moves_nothing_and_stays_finite(
    options: dict[str, Any],
) -> None:
    def flat(p: jax.Array, scale: jax.Array, *_: Any) -> Any:
        return scale * jnp.sum(p) + 0 * jnp.sum(p**2), {"at": p[0]}

    gradient = jax.jit(sam(10.0, **options, diagnostics=True)(flat))
    # 1e-30: its squares are 0 in float32. rho / (smallest float32) is infinite from rho = 4 on.
    for scale in (0.0, 1e-30):
        (value, _), grads = gradient(jnp.zeros(5), jnp.float32(scale), None, None)

        assert np.array_equal(grads, np.full(5, np.float32(scale)))
        assert value == 0


@double
@pytest.mark.parametrize("base", [plain, accumulated(3), masked("second")])
def test_a_radius_of_zero_is_the_base_itself(base: Any) -> None:
    assert sam(0.0, base=base, statistics="both", m=4) is base


@double
def test_several_steps_with_momentum_are_those_of_optax_sam() -> None:
    params, data, batch = problem()
    key, rho = jax.random.key(KEY), 0.3
    optimizer = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1, momentum=0.9))
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    theirs = optax.contrib.sam(optimizer, ascent, opaque_mode=True)
    step = jax.jit(steps.gradient_step(loss, optimizer, gradient=sam(rho)))

    @jax.jit
    def their_step(params: PyTree, state: Any) -> Any:
        grad_of = lambda point, _: jax.grad(lambda p: loss(p, data, batch, key)[0])(point)
        updates, state = theirs.update(grad_of(params, 0), state, params, grad_fn=grad_of)
        return optax.apply_updates(params, updates), state

    state, (wanted, their_state) = (
        steps.init_train_state(params, optimizer),
        (params, theirs.init(params)),
    )
    for _ in range(5):
        state, _ = step(state, data, batch, jax.random.clone(key))
        wanted, their_state = their_step(wanted, their_state)

    close(state.params, wanted)


def batch_mean_loss(params: Array, model_state: Array, x: Array) -> tuple[Any, Any, Any]:
    """A loss whose network remembers half of the mean of what it multiplies."""
    seen = jnp.mean(x) * params
    return (params - 1) ** 2 * 3 + jnp.sin(params) * seen, {}, 0.5 * model_state + 0.5 * seen


@double
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_running_means_are_those_of_the_passes_that_are_to_renew_them(
    statistics: str, count: int
) -> None:
    x, w, rho = jnp.asarray([1.0, 2.0, 4.5]), 0.4, 0.25
    mean = 7.5 / 3
    step = steps.stateful_step(
        lambda params, state, data, batch, key: batch_mean_loss(params, state, batch["x"]),
        optax.sgd(0.1),
        gradient=sam(rho, statistics=statistics, ascent_steps=count),
    )
    old = steps.init_train_state(jnp.asarray(w), optax.sgd(0.1), jnp.asarray(10.0))
    new, _ = jax.jit(step)(old, {}, {"x": x}, jax.random.key(0))

    # In one dimension each ascent goes a radius along the sign; a second one is projected back.
    point, points = w, [w]
    for _ in range(count):
        derivative = 6 * (point - 1) + np.cos(point) * mean * point + np.sin(point) * mean
        point = w + np.clip(point - w + rho * np.sign(derivative), -rho, rho)
        points.append(point)
    chosen = {"first": points[:1], "second": points[-1:], "both": points, "none": []}[statistics]
    wanted = 10.0
    for at in chosen:
        wanted = 0.5 * wanted + 0.5 * mean * at
    close(new.model_state, wanted)
    slope_ahead = 6 * (point - 1) + np.cos(point) * mean * point + np.sin(point) * mean
    close(new.params, w - 0.1 * slope_ahead)


@double
def test_groups_are_the_mean_of_sam_on_their_rows_with_a_key_of_their_own() -> None:
    params, data, batch = problem()
    groups = jax.tree.map(lambda x: x.reshape(3, 8, -1), batch)

    @jax.jit
    def of_each(params: PyTree, data: PyTree, groups: PyTree, key: Any) -> Any:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.clone(key), jnp.arange(3))
        return jax.vmap(sam(0.3)(noisy_loss), (None, None, 0, 0))(params, data, groups, keys)

    found, whole, of_all = (
        jax.jit(sam(0.3, m=m)(noisy_loss))(params, data, batch, jax.random.key(KEY))
        for m in (8, 0, 24)
    )

    by_hand = of_each(params, data, groups, jax.random.key(KEY))
    close(found, jax.tree.map(lambda x: np.mean(x, axis=0), by_hand))
    close(of_all, whole)
    assert differ(found[1], whole[1])


@double
def test_the_mean_over_groups_of_two_halves_is_that_of_the_whole_batch() -> None:
    params, data, batch = problem()
    grouped = jax.jit(sam(0.3, m=4)(loss))
    halves = [jax.tree.map(lambda x, s=s: x[s], batch) for s in (slice(12), slice(12, 24))]

    parts = [grouped(params, data, half, jax.random.key(0)) for half in halves]

    mean = jax.tree.map(lambda a, b: (a + b) / 2, *parts)
    close(grouped(params, data, batch, jax.random.key(0)), mean)


DEVICES = """
import json, jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from common.sam import sam
from tests.common.small_problem import noisy_loss, problem
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
params, data, batch = problem(16)
found = {}
for m in (2, 8):
    for devices in (1, 2, 8):
        some = {"axis_types": (AxisType.Auto,), "devices": jax.devices()[:devices]}
        mesh = jax.make_mesh((devices,), ("data",), **some)
        rows = jax.device_put(batch, NamedSharding(mesh, P("data")))
        rest = jax.device_put((params, data, jax.random.key(3)), NamedSharding(mesh, P()))
        with jax.set_mesh(mesh):
            lowered = jax.jit(sam(0.3, m=m)(noisy_loss)).lower(rest[0], rest[1], rows, rest[2])
            (value, _), grads = lowered.compile()(rest[0], rest[1], rows, rest[2])
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(grads)])
        found[f"{m} {devices}"] = [float(value), *flat.tolist()]
        found[f"{m} {devices} rows"] = "tensor<2x2x" in lowered.as_text()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_groups_give_the_same_numbers_on_1_2_and_8_devices(child: Child) -> None:
    done = child(DEVICES, devices=8)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    for m in (2, 8):  # 8 groups of 2 rows; 2 groups of 8, fewer than devices
        for devices in (2, 8):
            close(np.array(found[f"{m} {devices}"]), np.array(found[f"{m} 1"]))
    assert differ(np.array(found["2 1"]), np.array(found["8 1"]))


@double
def test_diagnostics_are_norms_cosine_and_how_much_higher_the_loss_is() -> None:
    (_, metrics), _ = jax.jit(sam(0.3, diagnostics=True)(bowl))(leaves(START), None, None, None)

    worst = ahead_by_hand(START, 0.3)
    here, there = slope(START), slope(worst)
    lengths = np.linalg.norm(here), np.linalg.norm(there)
    value = lambda w: w @ MATRIX @ w / 2 + np.sum(w**4) / 4
    wanted = {
        "sam_rho": 0.3,
        "sam_norm": lengths[0],
        "sam_norm_ahead": lengths[1],
        "sam_cosine": here @ there / lengths[0] / lengths[1],
        "sam_sharpness": value(worst) - value(START),
    }
    close(metrics, wanted)
    assert metrics["sam_sharpness"] > 0


@pytest.mark.parametrize(
    ("rho", "options", "message"),
    [
        (-0.1, {}, "rho=-0.1: .*at least 0"),
        (float("nan"), {}, "rho=nan"),
        (0.1, {"ascent_steps": 0}, "ascent_steps=0"),
        (0.1, {"ascent_size": 0.0}, "ascent_size=0.0"),
        (0.1, {"eta": -1.0}, "eta=-1.0"),
        (0.1, {"decay": -1.0}, "decay=-1.0"),
        (0.1, {"m": -2}, "m=-2"),
        (0.1, {"perturbed": "("}, r"perturbed='\(': no regular expression"),
        (0.1, {"statistics": "last"}, "statistics='last': expected first, second, both, none"),
        (0.1, {"previous_batch": True, "m": 4}, "m=4: previous_batch"),
        (0.1, {"previous_batch": True, "ascent_steps": 2}, "ascent_steps=2: previous_batch"),
        (0.1, {"batch_before": True, "diagnostics": True}, "diagnostics=True: batch_before"),
        (0.1, {"batch_before": True, "previous_batch": True}, "previous_batch=True: batch_before"),
        (lambda step: step, {"base": sam(lambda step: step)}, "one at most"),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(
    rho: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        sam(rho, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (sam(0.1, m=5), "m=5: 24 rows of batch/x do not divide .*config.gradient.m"),
        (sam(0.1, perturbed="third"), "perturbed='third' matches no parameter"),
        (
            sam(0.1, perturbed="first", base=masked("second")),
            "perturbed='first' matches no parameter",
        ),
        (sam(0.1, batch_before=True), "batch_before=True: the batch has no entries 'before/"),
        (sam(lambda step: 0.1), r"init_train_state\(..., gradient=gradient\)"),
    ],
)
def test_what_does_not_fit_the_problem_is_one_line(gradient: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        jax.eval_shape(gradient(loss), *problem(), jax.random.key(KEY))
    assert "\n" not in str(error.value)


def test_renewed_metrics_are_those_of_a_loss_that_was_given_remembered_data() -> None:
    def of_both(params: Any, both: Remembered, batch: Any, key: Any) -> Any:
        value, metrics, state = batch_mean_loss(params, both.model_state, batch)
        return value, Renewed(metrics, state)

    gradient = sam(0.1, diagnostics=True, statistics="none")
    arguments = (jnp.asarray(0.3), Remembered(jnp.asarray(2.0), None), jnp.ones(3), None)
    (_, renewed), _ = jax.jit(gradient(of_both))(*arguments)

    assert renewed.model_state == 2.0
    assert "sam_cosine" in renewed.metrics


def test_a_policy_of_statistics_that_there_are_not_is_refused() -> None:
    with pytest.raises(UserError, match="statistics='both': the loss keeps nothing"):
        jax.eval_shape(sam(0.1, statistics="both")(bowl), leaves(START), None, None, None)
