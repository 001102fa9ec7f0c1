"""Images of classes that a network learns, and of others that it does not: a transfer set."""

from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from common.data import cache, image_sets
from common.data.image_sets import CLASSES, DataSpec
from common.data.images import balanced_indices

PyTree = Any
SEEN, NEW = ("train", "valid", "test"), ("transfer", "transfer_test")


class SplitSpec(NamedTuple):
    """A set of images, and which of its classes are learned.

    Attributes:
        version: Raised when `load` changes what it returns.
        base: The set, all ten classes.
        seen: The network learns classes 0 to seen - 1; the others are the transfer set.
        num_valid: Training images of seen classes that are held out, the last ones of the file.
    """

    version: int
    base: DataSpec
    seen: int
    num_valid: int


def split_spec(section: ConfigDict) -> SplitSpec:
    """Returns the spec of `config.data`.

    Raises:
        ValueError: If a field is out of range; names it with its value.
    """
    base = image_sets.data_spec(section)
    spec = SplitSpec(1, base, section.seen, section.num_valid)
    if not 2 <= spec.seen <= CLASSES:
        raise ValueError(
            f"config.data.seen={spec.seen}: expected 2 to {CLASSES} of the classes to learn; those "
            f"above are the transfer set, none of {CLASSES}"
        )
    most = base.num_train // CLASSES - 1
    if spec.num_valid % spec.seen or not 1 <= spec.num_valid // spec.seen <= most:
        raise ValueError(
            f"config.data.num_valid={spec.num_valid}: expected 1 to {most} images of each of "
            f"config.data.seen={spec.seen} classes, a multiple of {spec.seen}"
        )
    if CLASSES - spec.seen == 1:
        raise ValueError(
            f"config.data.seen={spec.seen}: one class is left to transfer to; expected at most "
            f"{CLASSES - 2}, or {CLASSES} for none"
        )
    return spec


def counts(spec: SplitSpec) -> dict[str, int]:
    """Returns how many images each part has; the last two only if there are classes left."""
    train, test = (n // CLASSES for n in (spec.base.num_train, spec.base.num_test))
    rest = CLASSES - spec.seen
    found = {
        "train": spec.seen * train - spec.num_valid,
        "valid": spec.num_valid,
        "test": spec.seen * test,
    }
    return {**found, "transfer": rest * train, "transfer_test": rest * test} if rest else found


def load(spec: SplitSpec) -> PyTree:
    """Returns {part: {"image": [n, h, w, c], "label": [n]}}, new classes counted from 0 again.

    Source: Andriushchenko et al. (2023), released code, where the transfer set is another data set;
    classes that are not learned take its place.
    """
    images = image_sets.load(spec.base)
    train, test = images["train"], images["test"]
    seen, rest = range(spec.seen), range(spec.seen, CLASSES)
    held_out = spec.num_valid // spec.seen
    kept = spec.base.num_train // CLASSES - held_out
    labels = train["label"]
    found = {
        "train": _rows(train, balanced_indices(labels, per_class=kept, classes=seen)),
        "valid": _rows(
            train, balanced_indices(labels, per_class=held_out, classes=seen, skip=kept)
        ),
        "test": _rows(test, np.flatnonzero(test["label"] < spec.seen)),
    }
    if not rest:
        return found
    for name, rows in zip(NEW, (train, test), strict=True):
        new = _rows(rows, np.flatnonzero(rows["label"] >= spec.seen))
        found[name] = {**new, "label": new["label"] - spec.seen}
    return found


def abstract(spec: SplitSpec) -> PyTree:
    """Returns the shapes of `load`, without reading anything."""
    like = image_sets.abstract(spec.base)["train"]
    return {
        part: jax.tree.map(lambda x, n=n: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), like)
        for part, n in counts(spec).items()
    }


def identity(spec: SplitSpec) -> dict[str, Any]:
    """Returns what the data are made of: this module's `load`, and the images behind it."""
    return {**image_sets.identity(spec.base), **cache.identity(spec, load)}


def describe(spec: SplitSpec) -> dict[str, Any]:
    """Returns what stands under a table: which images, and how they are divided."""
    return {**image_sets.describe(spec.base), "seen": spec.seen, "used": counts(spec)}


def _rows(rows: PyTree, index: np.ndarray) -> PyTree:
    return {name: values[index] for name, values in rows.items()}
