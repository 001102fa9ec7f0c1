"""Networks on images under SAM: how classes are divided, and what is measured of features."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common.config import load_config
from common.data import image_sets
from common.errors import UserError
from common.experiment import build
from common.nets.features import places_of
from landscape.neighbors import linear_probe
from landscape.sam_rank.images import data as image_data
from landscape.sam_rank.images import measures
from landscape.sam_rank.images.networks import make_network, places
from tests.landscape.problems import assert_close

CONFIG = "landscape/sam_rank/configs/images.py"
SMALL = {
    "seed_group": "1",
    "batch_size": "12",
    "evaluate_chunk": "35",
    "data.num_train": "80",
    "data.num_test": "40",
    "data.num_valid": "5",
    "measure.samples": "20",
    "measure.neighbors": "3",
    "measure.transfer": "(5,)",
}
TINY = {"model.layers": "1", "model.hidden": "8", "model.mlp": "8", "model.tokens_mlp": "4"}


def config_of(variant: str = "", **fields: str) -> ConfigDict:
    """Returns the config of few images."""
    changed = {**SMALL, **{key.replace("__", "."): value for key, value in fields.items()}}
    return load_config(f"{CONFIG}:cpu{variant}", changed)


def energies(matrix: np.ndarray, share: float) -> int:
    """Returns how many directions hold more than a share of the energy, by the SVD of NumPy."""
    squares = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False) ** 2
    return int(np.argmax(np.cumsum(squares) > share * squares.sum())) + 1


def test_classes_and_images_are_divided_without_overlap() -> None:
    spec = image_data.split_spec(config_of().data)
    parts, whole = image_data.load(spec), image_sets.load(spec.base)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), parts)

    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), image_data.abstract(spec))
    marked = lambda rows, first: Counter(
        (int(label) + first, image.tobytes())
        for image, label in zip(rows["image"], rows["label"], strict=True)
    )
    seen = marked(parts["train"], 0) + marked(parts["valid"], 0)
    new = marked(parts["transfer"], spec.seen)
    assert seen + new == marked(whole["train"], 0)  # every image once, with its class
    assert not seen & new
    tests = marked(parts["test"], 0) + marked(parts["transfer_test"], spec.seen)
    assert tests == marked(whole["test"], 0)
    assert set(parts["valid"]["label"]) == set(range(5))
    assert set(parts["transfer"]["label"]) == set(range(5))


def test_all_classes_leave_no_transfer_set() -> None:
    spec = image_data.split_spec(config_of(data__seen="10", data__num_valid="10").data)
    assert list(image_data.load(spec)) == ["train", "valid", "test"]
    assert image_data.counts(spec) == {"train": 70, "valid": 10, "test": 40}


@pytest.mark.parametrize(
    "network",
    ["postact", "preact_group", "vit", "mixer"],
)
def test_every_network_has_the_places_it_is_measured_at(network: str) -> None:
    layers = {} if "act" in network else {"model__layers": "2"}
    config = config_of(f",network={network}", **layers)
    side = (config.data.size, config.data.size, config.data.channels)
    net = make_network(config.model, config.pixels, side, 5)
    params, statistics = jax.eval_shape(net.network.init, jax.random.key(0))
    pixels = jax.ShapeDtypeStruct((2, *side), jnp.uint8)
    shapes = places_of(net.network, params, statistics, jax.eval_shape(net.prepared, pixels))
    named = places(config.model)

    assert set(named) <= shapes.keys()
    assert len(named) >= 5
    assert set(net.behind_relu) <= set(named)
    if config.model.kind == "postact":
        assert set(net.behind_relu) == set(named)
    elif config.model.kind == "preact":  # blocks 1 to 3 are sums without a ReLU
        assert set(net.behind_relu) == {"block4", "block5"}


def test_numbers_are_those_of_the_same_features_in_numpy() -> None:
    random, measure = np.random.default_rng(0), config_of().measure
    stream = (random.normal(size=(30, 6)) @ np.diag(2.0 ** -np.arange(6))).astype(np.float32) + 3
    behind = np.maximum(random.normal(size=(30, 8)) - 1, 0).astype(np.float32)
    values = {"a": stream, "b": behind}
    features = lambda images: {name: jnp.asarray(x)[images] for name, x in values.items()}
    rows = {"image": np.arange(30)}
    found = jax.jit(lambda: measures.of_places(features, rows, ("a", "b"), ("b",), measure))()

    for number, matrix in enumerate((stream[:20], behind[:20]), start=1):
        official = matrix - matrix.mean(1, keepdims=True)
        assert int(found[f"rank_{number}"]) == energies(official, 0.99)
        assert int(found[f"pca_{number}"]) == energies(matrix - matrix.mean(0)[None], 0.99)
        assert int(found[f"uncentered_{number}"]) == energies(matrix, 0.99)
    assert len({int(found[f"{name}_1"]) for name in ("rank", "pca", "uncentered")}) > 1
    on = (behind[:20] > behind[:20].max() / 20).mean(0)
    for share in (0, 1, 5, 10):
        assert int(found[f"active_2_{share}"]) == np.sum(on > share / 100)
    assert "active_1_5" not in found
    assert_close(found["per_unit_2"], found["rank_2"] / np.sum(on > 0.05), rtol=1e-6)


def test_transfer_is_the_vote_of_the_nearest_other_images() -> None:
    random = np.random.default_rng(1)
    rows, tests = (
        {
            "image": random.normal(size=(n, 4)).astype(np.float32),
            "label": random.integers(3, size=n),
        }
        for n in (25, 10)
    )

    @jax.jit
    def both() -> tuple[dict[str, jax.Array], jax.Array]:
        features = lambda images: {"last": jnp.asarray(images)}
        found = measures.of_transfer(features, rows, tests, {5: "last"}, num_classes=3, neighbors=3)
        given = (part[name] for part in (rows, tests) for name in ("image", "label"))
        return found, linear_probe(*given, num_classes=3).error

    found, error = both()

    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest = np.argsort(-unit(tests["image"]) @ unit(rows["image"]).T, axis=1)[:, :3]
    votes = [np.bincount(rows["label"][row], minlength=3).argmax() for row in nearest]
    assert_close(found["neighbors_5"], 100 * np.mean(votes != tests["label"]), rtol=1e-6)
    assert float(found["probe_5"]) == float(error)


@pytest.mark.slow
def test_a_network_trains_and_is_measured() -> None:
    fields = {name.replace(".", "__"): value for name, value in TINY.items()}
    config = config_of(",network=mixer", cost="squared", gradient__rho="0.1", **fields)
    experiment = build(config)
    data, state = experiment.data(), jax.jit(experiment.init)(jax.random.key(0))
    step = jax.jit(experiment.step)
    for number in range(20):
        state, metrics = step(state, data, experiment.batch(number), jax.random.key(number))
    assert experiment.final is not None
    assert experiment.predict is not None
    sums = jax.jit(experiment.final)(state, data, jax.random.key(0))
    found: dict[str, float] = {name: float(total / count) for name, (total, count) in sums.items()}

    outputs = np.asarray(jax.jit(experiment.predict)(state, data, data["train"]["image"]))
    labels = data["train"]["label"]
    costs = ((outputs - np.eye(5)[labels]) ** 2).sum(1) / 2
    assert_close(found["train_loss"], costs.mean(), rtol=1e-5)
    assert_close(found["train_error"], 100 * np.mean(outputs.argmax(1) != labels), rtol=1e-5)
    assert found["train_loss"] < 0.5  # of outputs that are 0, as they are at the start
    assert np.isfinite(float(metrics["loss"]))
    assert 1 <= found["rank_5"] <= 8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data__seen": "1", "measure__samples": "2"}, "config.data.seen=1"),
        ({"data__seen": "9", "data__num_valid": "9"}, "config.data.seen=9"),
        ({"data__num_valid": "7"}, "config.data.num_valid=7"),
        ({"gradient__rho": "-0.1"}, "rho=-0.1"),
        ({"measure__samples": "100"}, "config.measure.samples=100"),
        ({"measure__transfer": "(6,)"}, "config.measure.transfer"),
        ({"measure__active_share": "3"}, "config.measure.active_share=3"),
        ({"pixels__mean": "(0.1, 0.2, 0.3)"}, "config.pixels.mean"),
        ({"model__kind": "vgg"}, "config.model.kind='vgg'"),
    ],
)
def test_bad_values_are_one_line(fields: dict[str, str], message: str) -> None:
    with pytest.raises((UserError, ValueError)) as error:
        build(config_of(**fields))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_networks_that_there_are_not_are_named() -> None:
    with pytest.raises(UserError, match="network"):
        config_of(",network=vgg")


def test_groups_have_to_divide_the_batch() -> None:
    fields = {name.replace(".", "__"): value for name, value in TINY.items()}
    more = {"gradient__rho": "0.1", "gradient__m": "5"}
    experiment = build(config_of(",network=mixer", **fields, **more))
    key = jax.random.key(0)
    state = jax.eval_shape(experiment.init, key)
    with pytest.raises(UserError, match="m=5: 12 rows"):
        jax.eval_shape(experiment.step, state, experiment.data(), experiment.batch(0), key)
