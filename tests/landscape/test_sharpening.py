"""The paper on progressive sharpening: its trainings, families of networks, and bounds."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from common.config import load_config
from common.errors import UserError
from common.experiment import build
from landscape.sharpening import data as data_sets
from landscape.sharpening import families, flows, synthetic
from landscape.sharpening.correlations import spearman
from landscape.sharpening.measures import Course, at_loss, of_jacobians, of_limit
from landscape.sharpening.networks import NetworkSpec, make_network
from landscape.tracking import TrackedState
from landscape.vectors import layout_of, to_leaves, with_moving
from tests.landscape.problems import assert_close

FOLDER = "landscape/sharpening/configs"
ROWS = 40
SMALL = {
    "data.size": "7",
    "data.num_train": str(ROWS),
    "data.num_test": "40",
    "model.width": "8",
    "watch.samples": "10",
    "watch.chunk": "10",
    "watch.pairs": "4",
}


def config_of(name: str, variant: str = "", **fields: str) -> ConfigDict:
    """Returns the config of an experiment of this paper with a small network and few images."""
    changed = {**SMALL, **{key.replace("__", "."): value for key, value in fields.items()}}
    return load_config(f"{FOLDER}/{name}.py:cpu{variant}", changed)


def started(config: ConfigDict) -> tuple:
    """Returns the experiment of a config, its data, and a first state.

    Its weights are drawn by NumPy: programs that draw them cost more than those that use them.
    """
    experiment, random = build(config), np.random.default_rng(0)
    data, shapes = experiment.data(), jax.eval_shape(experiment.init, jax.random.key(0))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

    def drawn(leaf: np.ndarray) -> np.ndarray:
        bound = leaf.shape[0] ** -0.5 if leaf.ndim == 2 else 0.0
        return random.uniform(-bound, bound, leaf.shape).astype(np.float32)

    params = jax.tree.map(drawn, state.params)
    if not isinstance(state, TrackedState):
        return experiment, data, state._replace(params=params)
    vectors = jax.tree.map(drawn, state.vectors)
    return experiment, data, TrackedState(state.train._replace(params=params), vectors)


NUMBERS = ("sharpness", "bound_share", "first_share", "last_share", "output_jacobian_frobenius")


@pytest.fixture(scope="module")
def descent() -> tuple:
    """Full-batch training of two updates a step; its evaluation, of the numbers asked for."""
    config = config_of("gradient_descent", tracking__every="2", smoothing="0.2")
    experiment, data, state = started(config)
    experiment = experiment._replace(step=jax.jit(experiment.step))  # traced once for all tests

    @jax.jit
    def evaluate(state: Any, data: Any) -> dict[str, jax.Array]:
        found = experiment.evaluate(state, data, jax.random.key(0))
        return {name: found[name][0] for name in NUMBERS}

    return config, experiment, data, state, evaluate


def vector_of(state: Any) -> np.ndarray:
    """Returns the parameters of a state as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])


def plain_loss(config: ConfigDict, params: Any, data: Any) -> Any:
    """Returns the gradient and the Hessian of the training loss, written out anew, at a vector."""
    layout = layout_of(params)
    inputs, labels = (np.asarray(data["train"][name]) for name in ("input", "label"))
    inputs, one_hot = inputs.reshape(ROWS, -1), np.eye(10, dtype=np.float32)[labels]
    targets = one_hot * (1 - config.smoothing) + config.smoothing / 10

    def loss(vector: jax.Array) -> jax.Array:
        x, layers = inputs, with_moving(layout, params, to_leaves(layout, vector))
        for place, layer in enumerate(layers):
            x = x @ layer.kernel + layer.bias[None]
            x = jnp.tanh(x) if place < len(layers) - 1 else x
        return jnp.mean(jnp.sum((x - targets) ** 2, axis=1)) / 2

    return jax.jit(lambda vector: (jax.grad(loss)(vector), jax.hessian(loss)(vector)))


def test_images_are_standardized_pixel_by_pixel(descent: tuple) -> None:
    _, _, data, *_ = descent
    pixels = np.asarray(data["train"]["input"], np.float64)
    deviations = pixels.std(0)

    assert np.abs(pixels.mean(0)).max() < 1e-5  # float32 of numbers around 1
    assert (deviations < 1 + 1e-4).all()
    assert (deviations > 0.99).mean() > 0.5  # the border of the pictures varies less


def test_smoothed_targets_are_distributions() -> None:
    targets = np.asarray(data_sets.targets_of(jnp.array([3, 0]), smoothing=0.2))

    assert_close(targets.sum(1), [1, 1], rtol=1e-6)
    assert_close(targets[0, [3, 4]], [0.82, 0.02], rtol=1e-6)
    assert_close(data_sets.targets_of(jnp.array([3])), np.eye(10)[[3]], rtol=1e-6)


def test_a_step_is_gradient_descent_and_comes_to_know_the_sharpness(descent: tuple) -> None:
    config, experiment, data, state, evaluate = descent
    derivatives, expected = plain_loss(config, state.params, data), vector_of(state)
    sharpness_of = lambda state: np.linalg.eigvalsh(derivatives(vector_of(state))[1])[-1]
    rate = config.optimizer.learning_rate
    for _ in range(config.tracking.every):
        expected = expected - np.float32(rate) * np.asarray(derivatives(expected)[0])
    step, batch = experiment.step, experiment.batch(0)
    after, metrics = step(state, data, batch, jax.random.key(0))

    # A gradient in float32 is known to some 1e-6 of itself, and the parameters move less.
    assert_close(vector_of(after), expected, rtol=1e-5)
    assert float(metrics["limit"]) == pytest.approx(2 / rate)
    before = after
    for number in range(1, 20):  # the eigenvector is found step by step
        before = after
        after, metrics = step(before, data, batch, jax.random.key(number))
    exact, metrics = sharpness_of(before), jax.device_get(metrics)
    assert float(metrics["sharpness"]) == pytest.approx(exact, rel=config.tracking.tolerance)
    assert abs(exact - metrics["sharpness"]) <= metrics["sharpness_residual"] + 1e-5 * exact

    found = jax.device_get(evaluate(after, data))
    assert float(found["sharpness"]) == pytest.approx(sharpness_of(after), rel=1e-3)
    assert 0 < found["bound_share"] <= 1
    shares = [float(found[f"{which}_share"]) for which in ("first", "last")]
    assert min(shares) > 0
    assert sum(shares) < 1


@pytest.mark.parametrize("penalty", ["jacobian", pytest.param("sharpness", marks=pytest.mark.slow)])
def test_penalties_lower_what_they_are_on(descent: tuple, penalty: str) -> None:
    _, plain, data, state, evaluate = descent
    changed = config_of(
        "gradient_descent", tracking__every="1", smoothing="0.2", **{f"penalty__{penalty}": "0.3"}
    )
    name = {"jacobian": "output_jacobian_frobenius", "sharpness": "sharpness"}[penalty]
    found = {}
    batch = plain.batch(0)
    penalized = jax.jit(build(changed).step)
    for label, step, steps in (("plain", plain.step, 15), ("penalized", penalized, 30)):
        now = state
        for number in range(steps):  # as many updates
            now, _ = step(now, data, batch, jax.random.key(number))
        found[label] = float(evaluate(now, data)[name])

    assert found["penalized"] < 0.8 * found["plain"]


def test_sharpness_goes_to_the_limit_and_stays_there() -> None:
    # Of run A of Cohen et al. (2021) in small: 2 / learning rate is met from below.
    config = config_of(
        "gradient_descent", optimizer__learning_rate="0.4", model__width="32", tracking__every="5"
    )
    experiment, data, state = started(config)

    @jax.jit
    def run(state: Any, data: Any, batch: Any, key: jax.Array) -> Any:
        def scan(state: Any, number: jax.Array) -> tuple:
            state, metrics = experiment.step(state, data, batch, jax.random.fold_in(key, number))
            return state, (metrics["sharpness"], metrics["loss"])

        return jax.lax.scan(scan, state, jnp.arange(160))[1]

    sharpness, loss = jax.device_get(run(state, data, experiment.batch(0), jax.random.key(0)))
    ratio = sharpness * 0.4 / 2
    assert ratio[:2].max() < 0.9
    assert 0.9 < ratio[120:].mean() < 1.3
    assert loss[-1] < 0.5 * loss[0]


@pytest.mark.parametrize(
    "setting", ["plain", pytest.param("mixup", marks=pytest.mark.slow), "augment"]
)
def test_regularized_training_sees_what_it_ought_to(setting: str) -> None:
    fields = {"mixup": {"mixup": "1.0"}, "augment": {"augment": "true", "data__size": "14"}}
    config = config_of("regularization", batch_size="8", **fields.get(setting, {}))
    experiment, data, state = started(config)
    batch = experiment.batch(0)
    loss = jax.jit(lambda *arguments: experiment.step(*arguments)[1]["loss"])
    losses = [float(loss(state, data, batch, jax.random.key(i))) for i in range(3)]

    assert (np.ptp(losses) == 0) == (setting == "plain")  # the key decides what is mixed or moved


@pytest.mark.parametrize(("name", "size"), [("vgg11", 9_220_480), ("resnet18", 11_173_962)])
def test_networks_have_their_known_sizes(name: str, size: int) -> None:
    spec = NetworkSpec(kind=name, depth=3, width=64, activation="relu", norm=False)
    network = make_network(spec, (32, 32, 3))
    params, statistics = jax.eval_shape(network.init, jax.random.key(0))
    if name == "vgg11":  # of the convolutions, as torchvision has them
        params = {layer: x for layer, x in params.items() if layer.startswith("conv")}

    assert sum(x.size for x in jax.tree.leaves(params)) == size
    assert bool(jax.tree.leaves(statistics)) == (name == "resnet18")


def test_rank_correlations_are_spearmans_with_an_honest_interval() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=30)
    y = np.round(x + random.normal(size=30), 1)  # some are alike
    found = spearman(x, y)

    assert found.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert found.low < found.value < found.high
    assert spearman(x, x**3)[:2] == pytest.approx((1, 1))
    assert spearman(x, np.ones(30)) == (0, 0, 0)
    few = spearman(x[:5], y[:5])
    assert few.high - few.low > 2 * (found.high - found.low)
    with pytest.raises(ValueError, match=r"x has shape \(2,\)"):
        spearman(x[:2], y[:2])


def test_courses_are_read_as_they_were_made() -> None:
    updates = np.arange(0, 400, 10)
    sharpness = np.where(updates < 200, 5 + updates / 20, 15 + np.sin(updates))
    evaluated = np.arange(20, 400, 20)
    at = np.interp(evaluated, updates, sharpness)
    values = {
        "sharpness": at,
        "gauss_newton": 0.98 * at,
        "softmax_jacobian": 0.1 * evaluated,
        "output_jacobian": 1 / evaluated,
        "bound_share": np.full(len(at), 0.3),
        "train_loss": 30 / evaluated,
    }
    found = Course(updates, 1 / (1 + updates), sharpness, 0.01 * sharpness, 15.0, evaluated, values)
    numbers = {**of_limit(found, 0.0), **of_jacobians(found)}

    assert numbers["ratio"] == pytest.approx(1, abs=0.02)
    assert numbers["reached"] == pytest.approx(170 / 390)
    assert numbers["softmax_rank_rising"] == pytest.approx(1)
    assert numbers["output_rank_rising"] == pytest.approx(-1)
    assert numbers["softmax_rank"] < 0.95  # at the edge it goes on, and sharpness does not
    assert numbers["gauss_newton_apart"] == pytest.approx(0.02)
    assert at_loss(found) == {"sharpened": pytest.approx(15 / 6, rel=0.1)}  # 15, up to a sine
    never = {**values, "train_loss": np.ones(len(at))}
    assert at_loss(found._replace(values=never)) == {}


def test_members_of_families_differ_in_what_they_are_called_after() -> None:
    config = load_config(f"{FOLDER}/regularization.py:cpu")
    by_name = {name: families.members(config, name) for name in families.families_of(config)}
    unlike = lambda name, field: [member[field] for member in by_name[name]][:3]

    assert unlike("batch_size", "batch_size") == [32, 8, 128]
    assert unlike("batch_size", "num_steps") == [3_000] * 3
    images = [m.batch_size * m.num_steps for m in by_name["batch_size_epochs"]]
    assert set(images) == {96_000}  # as many epochs
    for name, found in by_name.items():
        assert all(member.num_steps % member.steps_per_call == 0 for member in found)
        rates = [member.optimizer.learning_rate for member in found]
        assert len(set(rates)) == (5 if name == "learning_rate" else len(families.RATES))
        assert len({repr(member) for member in found}) == len(found)


@pytest.mark.parametrize("dimension", [1, 2])
def test_the_target_has_its_lipschitz_constant(dimension: int) -> None:
    grid = synthetic.grid_of(dimension, 60).astype(np.float64)
    values = synthetic.target(grid)[:, 0]
    slopes = pdist(values[:, None]) / pdist(grid)

    assert slopes.max() == pytest.approx(synthetic.TARGET_CONSTANT, rel=1e-2)
    assert slopes.max() <= synthetic.TARGET_CONSTANT
    assert synthetic.covered(np.full((1, dimension), 0.5), 0.5 * dimension**0.5) == 1
    assert synthetic.covered(np.full((1, dimension), 0.5), 0.25) < 0.6


def test_a_learning_rate_above_the_limit_is_refused_with_the_limit() -> None:
    fields = {"tracking__times_limit": "1", "optimizer__learning_rate": "50", "model__depth": "1"}
    config = config_of("gradient_descent", **fields)
    with pytest.raises(
        UserError, match=r"config.optimizer.learning_rate=50: .* above the limit 0\.04; expected at"
    ):
        build(config).data()


@pytest.mark.parametrize(
    ("name", "field", "value", "said"),
    [
        ("gradient_descent", "smoothing", "1.0", "expected 0 <= smoothing < 1"),
        ("gradient_descent", "watch__samples", "41", "expected 2 to config.data.num_train=40"),
        ("gradient_descent", "optimizer__name", "adam", "expected 'sgd'"),
        ("gradient_descent", "penalty__jacobian", "-1.0", "expected at least 0"),
        ("gradient_descent", "tracking__products", "0", "at least 1"),
        ("regularization", "mixup", "-0.5", "expected at least 0"),
        ("regularization", "augment", "true", "expected at least 8"),
    ],
)
def test_bad_fields_are_named(name: str, field: str, value: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        config_of(name, **{field: value})


@pytest.mark.slow
def test_far_below_the_edge_all_flows_are_gradient_descent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    config = config_of(
        "gradient_descent",
        optimizer__learning_rate="0.01",
        num_steps="8",
        eval_every="8",
    )
    found = flows.flows(config)

    # Euler's steps of gradient descent are off by a learning rate times curvature, a few percent.
    assert found["central_distance"] < 0.05 * found["gradient_distance"] + 1e-2
    assert max(found["central_loss_apart"], found["gradient_loss_apart"]) < 0.02
    for name in ("central", "gradient"):
        assert found[f"{name}_sharpness"] == pytest.approx(found["sharpness"], rel=0.05)
    momentum = config_of("gradient_descent", optimizer__momentum="0.9")
    with pytest.raises(ValueError, match=r"config.optimizer.momentum=0.9"):
        flows.paths(momentum)
