"""The published zoo's files: read as written, refused in one line if they do not fit."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from nfn.weights import space_from_params
from nfn.zoo_files import published_split, read_zoo_files
from nfn.zoo_networks import network_space
from nfn.zoo_sets import zoo_params

STEPS = (0, 1, 2, 3, 20, 40, 60, 80, 86)
NUM_RUNS = 5
LAYOUT = [
    ("sequential/conv2d/bias:0", (16,)),
    ("sequential/conv2d/kernel:0", (3, 3, 1, 16)),
    ("sequential/conv2d_1/bias:0", (16,)),
    ("sequential/conv2d_1/kernel:0", (3, 3, 16, 16)),
    ("sequential/conv2d_2/bias:0", (16,)),
    ("sequential/conv2d_2/kernel:0", (3, 3, 16, 16)),
    ("sequential/dense/bias:0", (10,)),
    ("sequential/dense/kernel:0", (16, 10)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the published form with five trainings; weights count up from each row's."""
    rows = [(run, step) for run in range(NUM_RUNS) for step in STEPS]
    weights = np.arange(4_970, dtype=np.float32) + 10_000 * np.arange(len(rows))[:, None]
    np.save(tmp_path / "weights.npy", weights.astype(np.float32))
    with gzip.open(tmp_path / "metrics.csv.gz", "wt", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["", "modeldir", "step", "train_accuracy", "test_accuracy", "config.activation"]
        )
        for number, (run, step) in enumerate(rows):
            activation = ("relu", "tanh")[run % 2]
            line = (number, f"/d/{run}", float(step), number / 90, number / 100, activation)
            writer.writerow(line)
    ends = np.cumsum([np.prod(shape) for _, shape in LAYOUT])
    with (tmp_path / "layout.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["varname", "start_idx", "end_idx", "size", "shape"])
        for (name, shape), end in zip(LAYOUT, ends, strict=True):
            size = np.prod(shape)
            writer.writerow([name, end - size, end, size, str(shape)])
    return tmp_path


def test_the_last_step_of_every_training_comes_in_the_order_of_the_split_file(folder: Path) -> None:
    order = np.random.default_rng(1).permutation(NUM_RUNS * len(STEPS))
    (folder / "cifar10_split.csv").write_text("\n".join(map(str, order)) + "\n")
    arrays = read_zoo_files(folder)

    final = [row for row in order if row % len(STEPS) == len(STEPS) - 1]
    np.testing.assert_allclose(arrays["test_accuracy"], np.array(final) / 100, rtol=1e-6)
    np.testing.assert_array_equal(arrays["activation"], np.array(final) // len(STEPS) % 2)
    np.testing.assert_array_equal(arrays["Conv_0/bias"][:, 0], 10_000 * np.array(final))
    np.testing.assert_array_equal(
        arrays["Conv_0/kernel"][0], final[0] * 10_000 + 16 + np.arange(144).reshape(3, 3, 1, 16)
    )
    single = zoo_params({k: v[0] for k, v in arrays.items() if "/" in k})
    assert space_from_params(single, order=list(single)) == network_space(
        channels=(1, 16, 16, 16), dense=(10,)
    )


def test_without_a_split_file_the_order_is_fixed_and_random(folder: Path) -> None:
    first, second = read_zoo_files(folder), read_zoo_files(folder)

    np.testing.assert_array_equal(first["test_accuracy"], second["test_accuracy"])
    assert sorted(first["test_accuracy"]) != list(first["test_accuracy"])
    assert len(read_zoo_files(folder, step=3)["test_accuracy"]) == NUM_RUNS


def test_the_split_is_that_of_the_released_code() -> None:
    split = published_split(29_999)

    assert {part: len(rows) for part, rows in split.items()} == {
        "train": 11_999,
        "valid": 3_000,
        "test": 15_000,
    }
    together = np.concatenate(list(split.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(29_999))
    assert split["test"].min() == 14_999  # the second half as it stands


def _cut_rows(folder: Path) -> None:
    np.save(folder / "weights.npy", np.load(folder / "weights.npy")[:-1])


def _not_finite(folder: Path) -> None:
    weights = np.load(folder / "weights.npy")
    weights[8, 17] = np.inf
    np.save(folder / "weights.npy", weights)


def _narrow(folder: Path) -> None:
    np.save(folder / "weights.npy", np.load(folder / "weights.npy")[:, :-1])


def _cut_gzip(folder: Path) -> None:
    path = folder / "metrics.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])


def _other_activation(folder: Path) -> None:
    path = folder / "metrics.csv.gz"
    text = gzip.decompress(path.read_bytes()).replace(b"tanh", b"gelu")
    path.write_bytes(gzip.compress(text))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "weights.npy").unlink(), "weights.npy: is missing"),
        (lambda f: (f / "layout.csv").unlink(), "layout.csv: is missing"),
        (lambda f: (f / "weights.npy").write_bytes(b"no"), "weights.npy: is no NumPy file"),
        (lambda f: (f / "layout.csv").write_text("a,b\n1,2\n"), "layout.csv: has no column"),
        (lambda f: (f / "x_split.csv").write_text("0\n0\n"), "x_split.csv: is no order of the 45"),
        (lambda f: (f / "x_split.csv").write_text("zero"), "x_split.csv: is no list of row"),
        (_cut_rows, "weights.npy has 44 rows, metrics.csv.gz 45"),
        (_not_finite, "weights.npy: holds weights that are not finite"),
        (_narrow, "layout.csv: ends at weight 4970, weights.npy has 4969"),
        (_cut_gzip, "metrics.csv.gz: cannot be read"),
        (_other_activation, "metrics.csv.gz: unknown activation 'gelu'"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(folder: Path, damage, message: str) -> None:
    damage(folder)

    with pytest.raises(DataError, match=message) as caught:
        read_zoo_files(folder)
    assert "\n" not in str(caught.value)


def test_a_step_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no network of step 7; the steps are 0, 1, 2, 3, 20"):
        read_zoo_files(folder, step=7)
