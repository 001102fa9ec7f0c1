"""Published networks in place of a run: what the cells of their table measure, and refusals."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.checkpoints import weights
from common.config import load_config
from common.data import image_sets
from common.data.images import ImageSet
from common.errors import MissingData, UserError
from common.experiment import build
from common.nets import published_resnets
from common.results.runner import run_table
from common.runs import Loaded
from common.steps import TrainState
from common.tables import results_from_json
from landscape.visualizing import pretrained
from landscape.visualizing.measures import Trained
from landscape.visualizing.tables import TABLES
from landscape.visualizing.tables.published import DEPTHS, SHARPNESS
from tests.nfn.resnets import random_weights, tensor_list

PUBLISHED = "landscape/visualizing/configs/published.py"
ROWS = 80  # of each set
SMALL = {
    "model.depth": "8",
    "model.width": "4",
    "data.size": "8",
    "data.num_train": str(ROWS),
    "data.num_test": str(ROWS),
    "evaluate_chunk": "40",
    "surface.images": "40",
    "surface.chunk": "20",
    "surface.points": "5",
    "surface.line_points": "5",
    "surface.lines": "2",
    "surface.products": "2",
}


def config_of(**fields: str) -> Any:
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return load_config(f"{PUBLISHED}:cpu,depth=20", {**SMALL, **named})


def random_images(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (ROWS, 8, 8, 3))
    return {"image": pixels.astype(np.float32), "label": np.arange(ROWS, dtype=np.int32) % 10}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$DATA_DIR with the random weights of a small network; its images are random, too."""
    path = tmp_path / "cifar10_resnets/resnet20.npz"
    path.parent.mkdir()
    arrays = random_weights(tensor_list((4, 8, 16), blocks=1, classes=10))
    weights.save(path, {name: np.asarray(array) for name, array in arrays.items()})
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    sets = {"train": random_images(0), "test": random_images(1)}
    monkeypatch.setattr(image_sets, "load", lambda spec: sets)
    return path


def log_probabilities(path: Path, images: np.ndarray) -> np.ndarray:
    """Returns what the file's network says of images, normalized as its authors do."""
    module, params, statistics = published_resnets.read_resnet(path)
    variables = {"params": params, "batch_stats": statistics}
    pixels = published_resnets.normalized(images.astype(np.uint8))
    logits = np.asarray(jax.jit(module.apply)(variables, pixels))
    return logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))


@pytest.mark.slow  # the program of a product with the Hessian of convolutions
def test_a_cell_measures_the_network_in_the_file(files: Path) -> None:
    train, test = random_images(0), random_images(1)

    found = pretrained.numbers(config_of())

    right = np.argmax(log_probabilities(files, test["image"]), axis=1) == test["label"]
    assert found["test_accuracy"] == pytest.approx(100 * np.mean(right), abs=1e-4)
    log_p = log_probabilities(files, train["image"])
    loss = -np.mean(log_p[np.arange(ROWS), train["label"]])
    assert found["train_loss"] == pytest.approx(loss, rel=1e-4)  # float32, pixels scaled elsewhere
    assert 0 < found["eigenvalue_residual"] < 0.1 * found["eigenvalue"]
    assert found["sharpness_stderr"] > 0
    assert found["width_spread"] >= 0


def test_curvature_is_that_of_the_dense_hessian_over_filters() -> None:
    random = np.random.default_rng(0)
    rows = {"image": random.normal(size=(50, 2)), "label": random.integers(0, 3, 50)}
    rows = {"image": rows["image"].astype(np.float32), "label": rows["label"].astype(np.int32)}
    kernel = random.normal(size=(2, 3)).astype(np.float32)
    params = {"head": {"kernel": kernel, "bias": np.ones(3, np.float32)}}

    def of_kernel(kernel: Any, rows: Any) -> Any:
        log_p = jax.nn.log_softmax(rows["image"] @ kernel + jnp.ones(3)[None])
        return -jnp.mean(jnp.take_along_axis(log_p, rows["label"][:, None], 1))

    config = config_of(surface__products="16")  # batches of 20, 20 and 10 rows
    run = Loaded(config, build(config), 0, TrainState(params, (), {"norm": {}}), rows)
    loss = lambda variables, rows: of_kernel(variables["params"]["head"]["kernel"], rows)
    found = pretrained.curvatures(Trained(config, run, lambda *_: {}, loss, rows))

    hessian = np.asarray(jax.jit(jax.hessian(of_kernel))(kernel, rows))  # [2, 3, 2, 3]
    dense = hessian.reshape(6, 6).astype(float)
    blocks = [np.trace(hessian[:, f, :, f]) * np.sum(kernel[:, f] ** 2) / 2 for f in range(3)]
    # The tolerance asked for is 3e-2; probes of 6 signs leave a standard error.
    assert found["eigenvalue"] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=3e-2)
    assert abs(found["sharpness"] - sum(blocks)) < 4 * found["sharpness_stderr"]
    assert found["sharpness_stderr"] < 0.3 * found["sharpness"]


@pytest.mark.slow
def test_planes_and_lines_go_through_the_weights_and_seeds_choose_images(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = jax.jit(pretrained.filter_normalized, static_argnames="rules")  # not op by op
    monkeypatch.setattr(pretrained, "filter_normalized", compiled)
    networks = [pretrained.pretrained(config_of(seed=str(seed))) for seed in (0, 1, 2)]

    first, second, third = (np.asarray(found.rows["image"]) for found in networks)
    np.testing.assert_array_equal(np.concatenate([first, second]), random_images(0)["image"])
    np.testing.assert_array_equal(first, third)
    labels = np.asarray(networks[1].rows["label"])
    log_p = log_probabilities(files, second)
    loss = -np.mean(log_p[np.arange(len(labels)), labels])
    for line in pretrained.lines(networks[1]):
        assert line.values["loss"][2] == pytest.approx(loss, rel=1e-4)
        assert np.ptp(line.values["loss"]) > 0


@pytest.mark.slow  # the program of a plane
def test_a_plane_is_measured_with_its_time(files: Path) -> None:
    found = pretrained.plane(config_of())

    names = {"nonconvex", "nonconvex_low", "minima", "basin", "width", "log_height", "hours"}
    assert names == {*found}
    assert found["hours"] > 0


def test_batches_are_all_rows_in_order() -> None:
    rows = {"image": np.arange(14).reshape(7, 2), "label": np.arange(7)}

    found = pretrained._batches(rows, 3)

    assert [len(part["label"]) for part in found] == [3, 3, 1]
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    np.testing.assert_array_equal(joined["image"], rows["image"])


def test_a_whole_set_is_taken_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(20, dtype=np.uint8).repeat(32 * 32 * 3).reshape(20, 32, 32, 3)
    labels = np.zeros(20, np.int32)  # not as many of every class
    images = ImageSet("few", "here", pixels, labels, pixels, labels, sha256="0")
    monkeypatch.setattr(image_sets, "load_images", lambda name, source: images)
    small = {"data__num_train": "20", "data__num_test": "20", "surface__images": "10"}
    config = config_of(data__size="32", **small)

    found = image_sets.load(image_sets.data_spec(config.data))

    np.testing.assert_array_equal(found["test"]["image"], pixels)


def test_without_the_files_one_line_says_so_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATA_DIR", raising=False)

    with pytest.raises(MissingData, match=r"^no cifar10_resnets/resnet20.npz in DATA_DIR=''"):
        pretrained.pretrained(config_of())
    with pytest.raises(MissingData, match="^table published of landscape.*and 4 more") as error:
        run_table("landscape.visualizing", "published", workdir=tmp_path, out=tmp_path)

    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def measured(sharpness: dict[str, float]) -> Any:
    """Returns the results of a table whose networks have these, a little more at each seed."""
    rows = {row: {"0": value, "1": 1.01 * value} for row, value in sharpness.items()}
    cells = [{"row": r, "column": SHARPNESS, "values": values} for r, values in rows.items()]
    return results_from_json({"cells": cells, "seeds": [0, 1], "scale": 1.0})


def test_sharpness_ranks_test_errors_only_if_every_neighbor_is_in_order() -> None:
    claims = {claim.name: claim for claim in TABLES["published"].claims}
    claim = claims["sharpness_ranks_test_errors"]

    in_order = claim(measured(dict(zip(DEPTHS, (8.0, 4.0, 2.0, 1.0), strict=True))))
    swapped = claim(measured(dict(zip(DEPTHS, (8.0, 4.0, 1.0, 2.0), strict=True))))

    assert [part.state for part in in_order.parts] == ["holds"] * 3
    assert [part.state for part in swapped.parts] == ["holds", "holds", "reversed"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"surface__planes": "2"}, "config.surface.planes=2, line_span=0.5: expected 1"),
        ({"surface__lines": "0"}, "config.surface.lines=0: expected at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(fields: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        config_of(**fields)


def test_the_network_of_the_config_is_that_of_the_file(files: Path) -> None:
    module, params, statistics = published_resnets.read_resnet(files)

    init = build(config_of()).init
    state = jax.eval_shape(init, jax.random.key(0))

    assert module.shortcut == "padding"
    shapes = jax.tree.map(jnp.shape, (state.params, state.model_state))
    assert shapes == jax.tree.map(jnp.shape, (params, statistics))
