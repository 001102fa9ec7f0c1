"""The published Small CNN Zoo (Unterthiner et al. 2020) from its files, which users download.

A folder such as cifar10/ holds `weights.npy` (float32, one row of 4,970 weights per snapshot),
`metrics.csv.gz` (a line for every row: step, test_accuracy, config.activation, ...) and
`layout.csv` (varname, start_idx, end_idx, shape). An order of the rows, as the authors of NFN use
it, may lie beside them: `*_split.csv`, one row number a line.
"""

import csv
import gzip
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.errors import DataError
from common.files.storage import user_path
from nfn.zoo_recipes import ACTIVATIONS

Arrays = dict[str, np.ndarray]

FINAL_STEP = 86
SHUFFLE_SEED = 0


def read_zoo_files(folder: str | Path, *, step: int = FINAL_STEP) -> Arrays:
    """Returns the networks of one step, in the order of the split file or a fixed random one.

    Returns:
        "Conv_0/kernel" [n, 3, 3, in, out], ..., "Dense_0/bias" [n, out] float32 (TensorFlow's
        layout of kernels is Flax's); "train_accuracy", "test_accuracy" float32 [n], fractions of
        1; "activation" int32 [n], the place in `ACTIVATIONS`.

    Raises:
        DataError: If a file is missing, damaged, or does not fit the others.
    """
    folder = user_path(folder)
    weights = _weights(folder / "weights.npy")
    metrics = _metrics(folder / "metrics.csv.gz")
    count = len(metrics["step"])
    if len(weights) != count:
        raise DataError(f"{folder}: weights.npy has {len(weights)} rows, metrics.csv.gz {count}")
    order = _order(folder, count)
    order = order[metrics["step"][order] == step]
    if not len(order):
        found = ", ".join(str(s) for s in np.unique(metrics["step"])[:12])
        raise DataError(f"{folder}: no network of step {step}; the steps are {found}")
    chosen = np.asarray(weights[np.sort(order)])[np.argsort(np.argsort(order))]
    if not np.isfinite(chosen).all():
        raise DataError(f"{folder / 'weights.npy'}: holds weights that are not finite")
    arrays = _tensors(folder / "layout.csv", chosen)
    for name in ("train_accuracy", "test_accuracy", "activation"):
        arrays[name] = metrics[name][order]
    return arrays


def published_split(count: int) -> dict[str, np.ndarray]:
    """Returns rows for train, valid and test of `count` networks in the order they were read.

    Source: Zhou et al. (2023a), released code, `ZooDataset`: the second half is the test set; the
    first is shuffled by Python's generator with seed 0, then 80 % train, 20 % validation.
    """
    half = count // 2
    rows = list(range(half))
    random.Random(0).shuffle(rows)  # noqa: S311
    cut = int(0.8 * half)
    parts = {"train": rows[:cut], "valid": rows[cut:], "test": range(half, count)}
    return {name: np.array(part, np.int64) for name, part in parts.items()}


def _weights(path: Path) -> np.ndarray:
    try:
        weights = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing; unpack the Small CNN Zoo there") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: is no NumPy file: {error}") from error
    if weights.ndim != 2 or weights.dtype != np.float32:
        raise DataError(
            f"{path}: holds {weights.dtype}{weights.shape}, wanted float32 [n, weights]"
        )
    return weights


def _metrics(path: Path) -> Arrays:
    columns: dict[str, list[str]] = {
        name: [] for name in ("step", "train_accuracy", "test_accuracy", "config.activation")
    }
    for line in _lines(path, set(columns)):
        for name, values in columns.items():
            values.append(line[name])
    try:
        accuracies = {
            name: np.array(columns[name], np.float32)
            for name in ("train_accuracy", "test_accuracy")
        }
        steps = np.array(columns["step"], np.float64).astype(np.int64)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    unknown = set(columns["config.activation"]).difference(ACTIVATIONS)
    if unknown:
        raise DataError(f"{path}: unknown activation {min(unknown)!r}; known: relu, tanh")
    activation = [ACTIVATIONS.index(name) for name in columns["config.activation"]]
    return {"step": steps, **accuracies, "activation": np.array(activation, np.int32)}


def _lines(path: Path, wanted: set[str]) -> Iterator[dict[str, str]]:
    """Yields the lines of a CSV file, zipped or not, that has the wanted columns."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = sorted(wanted - set(reader.fieldnames or ()))
            if missing:
                raise DataError(f"{path}: has no column {missing[0]!r}")
            yield from reader
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing; unpack the Small CNN Zoo there") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _order(folder: Path, count: int) -> np.ndarray:
    """Returns the order of all rows: that of the split file if there is one."""
    files = sorted(folder.glob("*_split.csv"))
    if not files:
        return np.random.default_rng(SHUFFLE_SEED).permutation(count)
    try:
        order = np.array(files[0].read_text().split(), np.int64)
    except ValueError as error:
        raise DataError(f"{files[0]}: is no list of row numbers: {error}") from error
    if not np.array_equal(np.sort(order), np.arange(count)):
        raise DataError(f"{files[0]}: is no order of the {count} rows of metrics.csv.gz")
    return order


def _tensors(path: Path, weights: np.ndarray) -> Arrays:
    """Cuts rows of weights into tensors; layers are named in the order of their kernels."""
    names = {"Conv": 0, "Dense": 0}
    layers: dict[str, str] = {}
    pieces: list[tuple[str, str, np.ndarray]] = []
    for line in _lines(path, {"varname", "start_idx", "end_idx", "shape"}):
        layer, _, leaf = line["varname"].rpartition("/")
        shape = tuple(int(size) for size in re.findall(r"\d+", line["shape"]))
        start, stop = int(line["start_idx"]), int(line["end_idx"])
        if leaf not in ("kernel:0", "bias:0") or np.prod(shape) != stop - start:
            raise DataError(f"{path}: {line['varname']} {shape} is no kernel or bias of its range")
        if stop > weights.shape[1]:
            raise DataError(f"{path}: ends at weight {stop}, weights.npy has {weights.shape[1]}")
        if leaf == "kernel:0":
            kind = "Dense" if len(shape) == 2 else "Conv"
            layers[layer] = f"{kind}_{names[kind]}"
            names[kind] += 1
        pieces.append((layer, leaf[:-2], weights[:, start:stop].reshape(len(weights), *shape)))
    lost = [layer for layer, _, _ in pieces if layer not in layers]
    if lost:
        raise DataError(f"{path}: layer {lost[0]!r} has no kernel")
    return {f"{layers[layer]}/{leaf}": np.ascontiguousarray(x) for layer, leaf, x in pieces}
