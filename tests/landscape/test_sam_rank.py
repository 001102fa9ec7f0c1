"""The paper on SAM and low-rank features: recorded runs, closed forms of a step, trainings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from common.config import load_config
from common.errors import UserError
from common.experiment import build
from common.gradient_types import init_gradient_state, with_state
from common.sam import sam
from common.steps import gradient_step, init_train_state
from landscape.sam_rank import courses, measures, mechanism, teachers
from landscape.sam_rank.experiments import loss_of
from landscape.sam_rank.networks import TwoLayer, two_layer
from landscape.sam_rank.penalties import norm_penalized
from tests.landscape.problems import assert_close

CONFIG = "landscape/sam_rank/configs/two_layer.py"
RADII = (0.0, 0.1, 0.2, 0.4, 0.6)
# Of the sheet of recorded runs: a re-implementation in float64 from the same random numbers.
GOLDEN = {
    "train_loss": (3.77576e-6, 1.55411e-6, 6.76522e-6, 3.277885e-4, 1.774560e-3),
    "test_loss": (0.01471248, 0.00891474, 0.00603481, 0.01016021, 0.00829462),
    "norm": (6.2494234, 7.1448793, 8.6134461, 10.1346569, 9.2275019),
    "rank": (19, 18, 15, 9, 4),
    "active": (77, 68, 59, 38, 14),
}


def config_of(variant: str = "", **fields: str) -> ConfigDict:
    """Returns the config of a few seeds."""
    changed = {key.replace("__", "."): value for key, value in fields.items()}
    return load_config(f"{CONFIG}:cpu{variant}", changed)


def drawn(rows: int, seed: int = 0) -> tuple[TwoLayer, jax.Array, jax.Array]:
    """Returns parameters of nine units, inputs and targets, all in float64."""
    random = np.random.default_rng(seed)
    shapes = ((9, 3), (9,), (9,), ())
    params = TwoLayer(*(jnp.asarray(random.normal(size=shape)) for shape in shapes))
    return params, jnp.asarray(random.normal(size=(rows, 3))), jnp.asarray(random.normal(size=rows))


def sam_gradient(params: TwoLayer, x: jax.Array, y: jax.Array, rho: Any) -> TwoLayer:
    """Returns the gradient at the worst point, by differentiation."""
    loss = lambda params: jnp.mean((two_layer(params, x, "relu") - y) ** 2)
    grads = jax.grad(loss)(params)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in grads))
    return jax.grad(loss)(jax.tree.map(lambda p, g: p + rho / norm * g, params, grads))


@jax.jit
def facts_of(params: TwoLayer, x: jax.Array, y: jax.Array, rho: Any) -> dict[str, Any]:
    """Returns all that closed forms say of a step, and what they are held against."""
    return {
        "gradient": sam_gradient(params, x, y, rho),
        "exact": mechanism.exact_gradient(params, x, y, rho),
        "parts": mechanism.first_order(params, x, y, rho),
        "drops": mechanism.drops(params, x, y, rho),
        "switches": mechanism.switches(params, x, y, rho),
        "slope": jax.grad(lambda p: two_layer(p, x, "relu")[0])(params),
        "z": x @ params.w.T + params.b[None],
        "f": two_layer(params, x, "relu"),
    }


def facts(params: TwoLayer, x: jax.Array, y: jax.Array, rho: float) -> dict[str, Any]:
    """Returns `facts_of` as NumPy arrays."""
    return jax.device_get(facts_of(params, x, y, rho))


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("rows", [1, 5])
def test_closed_form_is_the_gradient_of_sam(rows: int) -> None:
    with jax.enable_x64(True):
        example = drawn(rows)
        near = [facts(*example, rho) for rho in (1e-3, 1e-2, 3e-2)]
        far = facts(*example, 10.0)

    for found in near:
        assert not found["switches"]
        assert_close(flat(found["exact"]), flat(found["gradient"]), rtol=1e-10)
    assert far["switches"]  # where it is no longer so
    assert np.abs(flat(far["exact"]) - flat(far["gradient"])).max() > 1e-3


@pytest.mark.parametrize("rows", [1, 5])
def test_both_parts_leave_the_square_of_the_radius(rows: int) -> None:
    left = []
    for rho in (1e-3, 1e-2, 3e-2):
        with jax.enable_x64(True):
            found = facts(*drawn(rows), rho)
        total = flat(found["parts"].fit) + flat(found["parts"].regularization)
        left.append(np.abs(total - flat(found["gradient"])).max() / rho**2)

    assert_close(np.array(left), left[0], rtol=0.02)  # the cubic term is a percent here
    assert left[0] > 0.1


def test_regularization_lowers_active_pre_activations_and_leaves_the_others() -> None:
    with jax.enable_x64(True):
        params, x, y = drawn(1, seed=1)
        found = facts(params, x, y, 0.01)
    params, x, part = jax.device_get(params), np.asarray(x), found["parts"].regularization
    z, r, on = found["z"][0], found["f"][0] - float(y[0]), found["z"][0] > 0
    change = -(x @ part.w.T + part.b[None])[0]  # over the learning rate
    strength = 2 * 0.01 * abs(r) * (x[0] @ x[0] + 1) / np.linalg.norm(flat(found["slope"]))

    assert 0 < on.sum() < len(on)
    assert_close(change, -strength * np.maximum(z, 0), rtol=1e-10)
    assert (change[~on] == 0).all()
    assert_close(found["drops"][0], strength * np.maximum(z, 0), rtol=1e-10)
    assert (part.a * params.a)[on].min() > 0  # output weights of active units shrink
    assert (part.a[~on] == 0).all()


def penalized(loss: Any, params: TwoLayer, step: Any) -> Any:
    """Returns loss, gradient and state of a penalty that weighs 0.3 at step 0 only."""
    gradient = norm_penalized(lambda step: jnp.where(step < 1, 0.3, 0.0))
    state = init_gradient_state(gradient, params)._replace(step=step)
    return with_state(gradient, loss)(params, state, None, None, jax.random.key(0))


def test_a_norm_penalty_is_the_gradient_of_both_terms() -> None:
    with jax.enable_x64(True):
        params, x, y = drawn(5)
        toward, _, _ = drawn(1, seed=2)

    def loss(p: TwoLayer, *_: Any) -> tuple[jax.Array, Any]:
        return jnp.mean((two_layer(p, x, "relu") - y) ** 2), {"seen": p.c}

    @jax.jit
    def total(t: Any) -> jax.Array:
        value, slope = jax.value_and_grad(lambda p: loss(p)[0])(
            jax.tree.map(lambda p, d: p + t * d, params, toward)
        )
        return value + 0.3 * jnp.sqrt(sum(jnp.sum(g**2) for g in slope))

    @jax.jit
    def found(step: Any) -> Any:
        flat_loss = lambda p, *_: (0 * jnp.sum(p.a) + 1.0, {})
        slope = jax.grad(lambda p: loss(p)[0])(params)
        return penalized(loss, params, step), penalized(flat_loss, params, step)[1], slope

    with jax.enable_x64(True):
        ((value, seen), grads, after), still, slope = jax.device_get(found(jnp.int32(0)))
        (_, later, _), _, _ = jax.device_get(found(jnp.int32(1)))
        slopes = float((total(1e-6) - total(-1e-6)) / 2e-6)
        expected, c = float(loss(params)[0]), float(params.c)

    # Central differences of float64 are good to 1e-16 / 1e-6 of the value.
    assert flat(grads) @ flat(toward) == pytest.approx(slopes, rel=1e-6)
    assert (value, seen["seen"]) == (pytest.approx(expected, rel=1e-12), c)
    assert int(after.step) == 1
    assert (flat(still) == 0).all()  # where the gradient vanishes
    assert_close(flat(later), flat(slope), rtol=1e-12)  # its weight is 0 from step 1 on


def test_the_fixture_has_what_numpy_gives_at_seed_4() -> None:
    arrays, random = teachers.golden_arrays(), np.random.RandomState(4)
    for part, rows in (("train", 20), ("test", 1000)):
        drawn = random.multivariate_normal(np.zeros(3), np.eye(3), rows)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        assert_close(arrays[f"{part}_input"], drawn, rtol=1e-7)  # float32
    random = np.random.RandomState(4)
    index = [random.choice(20, size=1, replace=False)[0] for _ in range(200)]
    assert (arrays["index"][:200] == index).all()
    targets = teachers.golden("relu", 0.3).problem["train"]["target"]
    # Digits that the authors' code prints.
    assert_close(targets[:5], [-0.4467, -0.8946, 0.2728, 0.2902, -0.8578], rtol=1e-4)
    assert_close(0.3 * arrays["student_w"][0], [0.3063, -0.1440, -0.2956], rtol=2e-4)
    assert float(0.3 * arrays["student_c"]) == pytest.approx(-0.18, abs=1e-4)


@pytest.mark.slow
def test_recorded_runs_come_out_digit_by_digit() -> None:
    config = config_of(",data=golden")
    optimizer, num_first = optax.sgd(config.optimizer.learning_rate), 9_977

    def run(rho: jax.Array, state: Any, batches: Any) -> dict[str, jax.Array]:
        # The step of the experiment, at a radius that is an argument: five are one program.
        gradient = sam(lambda step: jnp.where(step < num_first, rho, 0.0))
        step = gradient_step(loss_of("relu"), optimizer, gradient=gradient)
        train = init_train_state(state.train.params, optimizer, gradient=gradient)

        key = jax.random.key(0)  # the loss draws nothing

        def one(train: Any, batch: Any) -> tuple[Any, None]:
            return step(train, state.problem, batch, key)[0], None

        train, _ = jax.lax.scan(one, train, batches)
        found = measures.of_network(train.params, state.problem, config)
        return {name: found[name] for name in GOLDEN}

    with jax.enable_x64(True):
        experiment = build(config)
        state = experiment.init(jax.random.key(0))
        batches = np.stack([experiment.batch(i)["index"] for i in range(config.num_steps)])
        runs = jax.jit(jax.vmap(run, in_axes=(0, None, None)))
        found = runs(jnp.array(RADII), state, {"index": jnp.asarray(batches)})
    for name, wanted in GOLDEN.items():
        # All digits of losses and norms. Where units hover at 0, rounding decides how many are
        # counted: most at the largest radius, where float32 has 9, and float64 14 to 18.
        counts = {"active": np.array([5, 5, 5, 5, 10]), "rank": 0}
        tolerance = counts.get(name, 2e-5 * np.array(wanted))
        difference = np.abs(np.asarray(found[name]) - wanted)
        assert (difference <= tolerance).all(), (name, found[name])


@pytest.mark.parametrize(
    ("variant", "fields", "said"),
    [
        ("", {"penalty__gradient_norm": "-1.0"}, "config.penalty.gradient_norm=-1"),
        ("", {"data__num_train": "1"}, "config.data.num_train=1: expected 2 or more"),
        ("", {"model__scale": "0.0"}, "config.model.scale=0.0: expected above 0"),
        ("", {"rank_share": "1.0"}, "expected 0 < rank_share < 1"),
        ("", {"probe_rho": "0.0"}, "config.probe_rho=0.0: expected above 0"),
        (",data=golden", {"model__units": "50"}, "'golden' has units=100, not 50"),
    ],
)
def test_bad_fields_are_named(variant: str, fields: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        config_of(variant, **fields)


def test_sam_climbs_in_the_first_half_only() -> None:
    steps = {"num_steps": "4", "steps_per_call": "1", "eval_every": "4"}
    config = config_of(",data=golden", gradient__rho="0.2", gradient__stop="0.5", **steps)
    with jax.enable_x64(True):
        experiment = build(config)
        state, step = experiment.init(jax.random.key(0)), jax.jit(experiment.step)
        params, train = state.train.params, state.problem["train"]
        for number in range(4):
            batch = experiment.batch(number)
            state, _ = step(state, {}, batch, jax.random.key(number))
            rows = train["input"][batch["index"]], train["target"][batch["index"]]
            grads = facts_of(params, *rows, 0.2 if number < 2 else 0.0)["gradient"]
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

        assert_close(flat(state.train.params), flat(params), rtol=1e-12)


def test_a_step_is_taken_apart_as_its_closed_forms_say() -> None:
    rho = 0.02
    with jax.enable_x64(True):
        params, x, y = drawn(5, seed=3)
        take_apart = jax.jit(measures.of_step, static_argnums=2)
        found = jax.device_get(take_apart(params, {"input": x, "target": y}, rho))
        singles = [(x[i : i + 1], y[i : i + 1]) for i in range(5)]
        ones = [facts(params, *single, rho) for single in singles]
    drops, on = (np.concatenate([one[name] for one in ones]) for name in ("drops", "z"))
    still, on = [not one["switches"] for one in ones], on > 0

    assert float(found["regularization_change"]) == pytest.approx(-drops[on].mean(), rel=1e-10)
    assert found["regularization_highest"] == 0  # of units that are off
    assert found["still_share"] == np.mean(still)
    assert float(found["exact_apart"]) < 1e-12  # of the change: thousands of float64's roundings
    assert float(found["remainder_order"]) == pytest.approx(2, abs=0.05)


def test_courses_are_read_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "regularization_change regularization_highest fit_change remainder remainder_order "
        "exact_apart still_share active"
    )
    lines = [
        {"kind": "eval", "step": step, **dict.fromkeys(names.split(), float(value))}
        for step, value in ((5_000, -2), (9_900, -4), (15_000, -8))
    ]
    monkeypatch.setattr(courses.stages, "metrics_of", lambda config: [{"kind": "train"}, *lines])
    found = courses.decomposition(config_of())

    assert (found["drop"], found["drop_over_fit"]) == (3, -1)  # of the first half
    assert (found["regularization_highest"], found["still_share"]) == (-2, -8)  # of all
    assert [found[f"active_{when}"] for when in ("first", "half", "end")] == [-2, -4, -8]
