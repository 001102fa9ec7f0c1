"""Two towers that tell pairs apart: pairs, an optimizer that forgets, what is measured."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from common.config import load_config
from common.data import image_sets
from common.errors import MissingData, UserError
from common.experiment import Experiment, build
from landscape.sam_rank.contrastive import measures, pairs
from landscape.sam_rank.contrastive.forgetful import forgetful
from tests.landscape.problems import assert_close

CONFIG = "landscape/sam_rank/configs/contrastive.py:cpu"
ROWS = 40
SMALL = {
    "seed_group": "1",
    "batch_size": "8",
    "data.num_train": str(ROWS),
    "data.num_test": "20",
    "model.image.hidden": "8",
    "model.image.layers": "1",
    "model.image.heads": "2",
    "model.image.mlp": "8",  # one width, one decomposition to compile
    "model.dim": "8",
    "watch.layers": "(1,)",
    "watch.group": "10",
    "watch.chunk": "20",
}


def config_of(**fields: str) -> ConfigDict:
    """Returns the config of two small towers and few images."""
    return load_config(CONFIG, {**SMALL, **{k.replace("__", "."): v for k, v in fields.items()}})


def captions(**fields: Any) -> pairs.CaptionsSpec:
    """Returns a file of six images with two captions each."""
    sizes: dict[str, Any] = {
        "size": 4,
        "captions": 2,
        "length": 3,
        "num_train": 6,
        "num_test": 3,
        "shards": 1,
    }
    return pairs.CaptionsSpec(**{**sizes, **fields}, version=1, file="pairs.npz")


def write_captions(path: Path, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """Writes the file of `captions`, in which no two rows are alike; returns what is in it."""
    random = np.random.default_rng(0)
    rows = {"train": 8, "test": 3}
    found = {
        **{f"{k}_images": random.integers(256, size=(n, 4, 4, 3)) for k, n in rows.items()},
        **{f"{k}_tokens": random.integers(999, size=(n, 2, 3)) for k, n in rows.items()},
    }
    types = {"images": np.uint8, "tokens": np.int32}
    found = {name: x.astype(types[name.partition("_")[2]]) for name, x in found.items()} | arrays
    np.savez(path, allow_pickle=False, **found)
    return found


@pytest.mark.parametrize("cut", ["rows", "columns"])
def test_halves_have_no_pixel_in_common_and_are_the_image(cut: str) -> None:
    spec = pairs.pair_spec(config_of(data__cut=cut).data)
    assert isinstance(spec, pairs.HalvesSpec)
    images = image_sets.load(spec.images)["test"]["image"]
    halves, shapes = pairs.load(spec), pairs.abstract(spec)

    axis = {"rows": 1, "columns": 2}[cut]
    assert halves["test"]["first"].shape[axis] == images.shape[axis] // 2
    assert_close(np.concatenate(list(halves["test"].values()), axis), images, rtol=0)
    assert shapes == jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), halves)


def test_held_out_rows_are_not_trained_on() -> None:
    all_rows = pairs.load(pairs.pair_spec(config_of().data))["train"]["first"][0]
    held = pairs.load(pairs.pair_spec(config_of(data__held_out="10").data))

    assert_close(held["train"]["first"][0], all_rows[:30], rtol=0)
    assert_close(held["test"]["first"], all_rows[30:], rtol=0)


def test_batches_take_equal_shares_of_all_shards_and_every_row_once() -> None:
    spec = pairs.pair_spec(config_of(data__shards="4").data)
    batch = pairs.batches(3, spec, 8)
    index = np.stack([batch(step)["index"] for step in range(ROWS // 8)])  # an epoch
    rows = np.arange(ROWS).reshape(4, -1)  # every row says which it is
    taken = np.concatenate([pairs.take(rows, one) for one in jnp.asarray(index)])

    assert index.shape == (5, 4, 2)
    assert sorted(taken.tolist()) == list(range(ROWS))
    assert [x // 10 for x in taken[:8]] == [0, 0, 1, 1, 2, 2, 3, 3]
    others = pairs.batches(4, spec, 8)(0)["index"]
    assert (others != index[0]).any()


def test_captions_are_the_first_in_evaluations_and_any_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    written = write_captions(tmp_path / "pairs.npz")
    found = pairs.load(captions(shards=2))

    assert found["train"]["first"].shape == (2, 3, 4, 4, 3)
    train = pairs.take(found["train"], jnp.tile(jnp.arange(3), (2, 1)))
    images, first = pairs.inputs_of(found["test"])
    assert_close(images, written["test_images"] / 255, rtol=1e-6)  # float32
    assert_close(first, written["test_tokens"][:, 0], rtol=0)
    chosen = [np.asarray(pairs.inputs_of(train, jax.random.key(i))[1]) for i in range(4)]
    choices = [(text[:, None] == written["train_tokens"][:6]).all(-1) for text in chosen]
    assert (np.sum(choices, axis=2) == 1).all()  # each its own image's
    assert 0 < np.mean(choices, axis=(0, 1))[0] < 1


def test_a_forgetful_adam_is_descent_by_signs() -> None:
    rate, random = 0.1, np.random.default_rng(0)
    params = {"w": random.normal(size=(3, 2)).astype(np.float32)}
    optimizer = forgetful(optax.adam(optax.linear_schedule(rate, 0.0, 2)))
    state, now = optimizer.init(params), params
    for _ in range(3):
        grads = {"w": random.normal(size=(3, 2)).astype(np.float32)}
        updates, state = optimizer.update(grads, state, now)
        by_hand = -rate * grads["w"] / (np.abs(grads["w"]) + 1e-8)
        # Adam divides by 1 - 0.9 and 1 - 0.999 in float32, and the latter has 13 bits less.
        assert_close(jax.tree.leaves(updates)[0], by_hand, rtol=1e-4)
        now = optax.apply_updates(now, updates)
    assert not jax.tree.leaves(state)


def test_pairs_are_found_as_often_as_by_looking_at_every_one() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(12, 5))
    second = first + random.normal(size=(12, 5))
    measured = jax.jit(lambda *pairs: measures.of_pairs(*pairs, group=4, temperature=0.5))
    numbers = measured(first, second)
    found = {name: float(total) / float(count) for name, (total, count) in numbers.items()}

    length = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    hits, losses = [], []
    for start in (0, 4, 8):
        a, b = (length(x)[start : start + 4] for x in (first, second))
        forth = [max(range(4), key=lambda j, x=x: x @ b[j]) for x in a]
        back = [max(range(4), key=lambda j, y=y: y @ a[j]) for y in b]
        hits.append([np.mean(np.equal(who, range(4))) for who in (forth, back)])
        scores = np.exp(a @ b.T / 0.5)
        own = np.diagonal(scores)
        losses.append(-np.mean(np.log(own / scores.sum(1)) + np.log(own / scores.sum(0))) / 2)
    forth, back = 100 * np.mean(hits, axis=0)
    assert 0 < forth < 100
    assert found == pytest.approx(
        {"forth": forth, "back": back, "retrieval": (forth + back) / 2, "loss": np.mean(losses)},
        rel=1e-5,
    )


def test_ranks_are_those_of_singular_values_under_both_centerings() -> None:
    random = np.random.default_rng(0)
    shapes = {"a": 3, "b": 7, "c": 7}  # b and c are decomposed together
    scales = {name: 2.0 ** -np.arange(d) for name, d in shapes.items()}
    features = {name: random.normal(size=(20, len(x))) * x + 1 for name, x in scales.items()}
    found = jax.jit(lambda x: measures.ranks(x, q=0.9))(features)

    for name, x in features.items():
        for label, axis in (("rank", 1), ("pca", 0)):
            s = np.linalg.svd(x - x.mean(axis, keepdims=True), compute_uv=False)
            by_hand = 1 + np.sum(np.cumsum(s**2) <= 0.9 * np.sum(s**2))
            assert int(found[f"{label}_{name}"]) == by_hand


def started(experiment: Experiment) -> Any:
    """Returns a first state drawn by NumPy: a program that draws it costs as much as a step's."""
    random = np.random.default_rng(0)
    state = jax.eval_shape(experiment.init, jax.random.key(0))

    def drawn(path: Any, leaf: Any) -> np.ndarray:
        kernel = random.normal(size=leaf.shape) / leaf.shape[0] ** 0.5
        of_norm = np.full(leaf.shape, float("scale" in jax.tree_util.keystr(path)))
        return (kernel if leaf.ndim > 1 else of_norm).astype(np.float32)

    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    return zeros._replace(params=jax.tree_util.tree_map_with_path(drawn, state.params))


@pytest.mark.slow  # the bound: test_two_towers.py
def test_towers_learn_and_a_bottleneck_bounds_their_rank() -> None:
    fields = {"learning_rate": "0.01", "schedule": "constant", "warmup_steps": "0"}
    changed = {f"optimizer__{name}": value for name, value in fields.items()}
    experiment = build(config_of(model__bottleneck="4", model__temperature="0.1", **changed))
    data, step, state = experiment.data(), jax.jit(experiment.step), started(experiment)
    losses = []
    for number in range(250):  # at first all outputs are alike, and the loss stays at chance
        state, metrics = step(state, data, experiment.batch(number), jax.random.key(number))
        losses.append(metrics["loss"])
    found = jax.jit(experiment.evaluate)(state, data, jax.random.key(0))

    assert np.mean(losses[-10:]) < 0.9 * np.log(8)  # chance, of eight pairs
    for side in ("first", "second"):
        assert 1 < float(found[f"pca_{side}_head"][0]) <= 4
    assert float(found["pca_layer1_preatt"][0]) == 1  # the class token, before it has seen anything


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": "1"}, "config.batch_size=1: expected at least 2"),
        ({"model.temperature": "0.0"}, "config.model.temperature=0.0: expected above 0"),
        ({"model.bottleneck": "-1"}, "config.model.bottleneck=-1: expected at least 0"),
        ({"watch.group": "7"}, "config.watch.group=7: expected .* divisor of the 20"),
        ({"watch.layers": "(1, 2)"}, r"config.watch.layers=\(1, 2\): expected some of 1 to 1"),
        ({"data.shards": "3"}, "config.data.shards=3: expected a divisor of the 40"),
        ({"data.cut": "both"}, "config.data.cut='both', size=14: expected rows or columns"),
        ({"data.held_out": "40"}, "config.data.held_out=40: expected 0, or fewer than"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(load_config(CONFIG, {**SMALL, **fields}))


def test_missing_and_strange_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(MissingData, match=r"no pairs.npz in DATA_DIR=.*set it to the folder"):
        pairs.load(captions())
    write_captions(tmp_path / "pairs.npz", test_tokens=np.zeros((3, 2, 4), np.int32))
    with pytest.raises(UserError, match=r"test_tokens is int32 \(3, 2, 4\); expected int32 with"):
        pairs.load(captions())
    with pytest.raises(UserError, match="train_images is uint8 .* at least 9 rows"):
        pairs.load(captions(num_train=9))
