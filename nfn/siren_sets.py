"""Data sets of fitted SIRENs: a frozen spec in, arrays out; `common.data.cached` keeps them.

images = load_images("fashion_mnist")
spec = SirenSetSpec(image_set="fashion_mnist", source=images.source, sha256=images.sha256, ...)
arrays = cached(spec, siren_set)
params = stacked_params(arrays)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from common.data.cache import Arrays, cached_parts
from common.data.images import ImageSet, balanced_indices, downsample, load_images
from common.progress import logged_progress
from nfn.sine import SineMethod
from nfn.siren import Schedule, StackedParams, fit_sirens

TRAIN, VALID, TEST = 0, 1, 2  # values of "split"
PIECE = 4_096  # networks of a piece of a large set, cut to whole chunks


class SirenSetSpec(NamedTuple):
    """All that a set of SIRENs depends on; plain values, thus also the key of its cache entry.

    Per class, `train_per_class` training images in file order are for training, the next
    `valid_per_class` for validation; `test_per_class` come from the test images.
    """

    image_set: str  # "fashion_mnist": name for `load_images`
    source: str  # where to read it, "" for the first place that holds it
    sha256: str  # of the images, checked when they are read
    classes: tuple[int, ...]
    train_per_class: int
    valid_per_class: int
    test_per_class: int
    size: int  # images are averaged to size x size pixels
    widths: tuple[int, ...]
    omega: float
    steps: int
    learning_rate: float
    schedule: Schedule = "cosine"
    copies: int = 1  # independent fits of each training image; one of each other image
    seed: int = 0
    sine: SineMethod = "polynomial"
    chunk: int = 32
    version: int = 1


class SirenPiece(NamedTuple):
    """Networks `start` to `stop` - 1 of a set."""

    sirens: SirenSetSpec
    start: int
    stop: int
    version: int = 1


class Selection(NamedTuple):
    """Which image each network of a set is fitted to."""

    split: np.ndarray  # int8 [n]: TRAIN, VALID, TEST
    image_index: np.ndarray  # int32 [n], into the training images, or the test images if TEST


def select(images: ImageSet, spec: SirenSetSpec) -> Selection:
    """Returns the networks in the order validation, test, training copy 0, training copy 1, ...

    Network i starts from the i-th random draw, so a set with more copies holds the smaller one.

    Raises:
        UserError: If a class has too few images.
    """
    train = balanced_indices(
        images.train_labels, per_class=spec.train_per_class, classes=spec.classes
    )
    valid = balanced_indices(
        images.train_labels,
        per_class=spec.valid_per_class,
        classes=spec.classes,
        skip=spec.train_per_class,
    )
    test = balanced_indices(images.test_labels, per_class=spec.test_per_class, classes=spec.classes)
    parts = [(VALID, valid), (TEST, test), *[(TRAIN, train)] * spec.copies]
    split = np.concatenate([np.full(len(index), value, np.int8) for value, index in parts])
    return Selection(split, np.concatenate([index for _, index in parts]))


def siren_set(spec: SirenSetSpec) -> Arrays:
    """Returns the arrays of a set: the function to be given to `common.data.cached`.

    A large set is fitted in pieces, each with a cache entry of its own: a killed process loses
    the piece at hand. Any number of pieces makes the same networks, to the bit.

    Returns:
        "dense_0/kernel" [n, in, out], "dense_0/bias" [n, out], ... float32; "label" int32 [n],
        the position in `spec.classes`; "split" int8 [n]; "image_index" int32 [n], see `Selection`;
        "psnr" float32 [n] in dB.

    Raises:
        DataError: If the images found are not those of `spec.sha256`.
    """
    images = load_images(spec.image_set, spec.source, sha256=spec.sha256)
    selection = select(images, spec)
    classes = _classes(images, selection)
    n = len(classes)
    size = max(1, PIECE // spec.chunk) * spec.chunk  # every network keeps its place in its chunk
    pieces = [SirenPiece(spec, i, min(i + size, n)) for i in range(0, n, size)]
    parts = cached_parts(pieces, siren_piece) if len(pieces) > 1 else [siren_piece(pieces[0])]
    return {
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        "label": np.array([spec.classes.index(c) for c in classes.tolist()], np.int32),
        "split": selection.split,
        "image_index": selection.image_index,
    }


def siren_piece(piece: SirenPiece) -> Arrays:
    """Fits the networks `start` to `stop` - 1 of a set; returns weights and "psnr"."""
    spec = piece.sirens
    images = load_images(spec.image_set, spec.source, sha256=spec.sha256)
    selection = Selection(*(rows[piece.start : piece.stop] for rows in select(images, spec)))
    fitted = fit_sirens(
        downsample(_pixels(images, selection), spec.size) / np.float32(255),
        widths=spec.widths,
        omega=spec.omega,
        steps=spec.steps,
        learning_rate=spec.learning_rate,
        schedule=spec.schedule,
        seed=spec.seed,
        first=piece.start,
        chunk=spec.chunk,
        sine=spec.sine,
        on_chunk=logged_progress("SIRENs", piece.start),
    )
    weights: dict[str, Any] = traverse_util.flatten_dict(fitted.params, sep="/")
    return {**weights, "psnr": fitted.psnr}


def stacked_params(arrays: Mapping[str, np.ndarray]) -> StackedParams:
    """Returns the weights of a set made by `siren_set` as params with leaves [n, ...]."""
    weights = {name: array for name, array in arrays.items() if "/" in name}
    return traverse_util.unflatten_dict(weights, sep="/")


def _pixels(images: ImageSet, selection: Selection) -> np.ndarray:
    """Returns the image of every network (uint8, full size)."""
    is_test, index = selection.split == TEST, selection.image_index
    pixels = np.empty((len(index), *images.train_images.shape[1:]), np.uint8)
    pixels[is_test] = images.test_images[index[is_test]]
    pixels[~is_test] = images.train_images[index[~is_test]]
    return pixels


def _classes(images: ImageSet, selection: Selection) -> np.ndarray:
    """Returns the class of the image of every network."""
    is_test, index = selection.split == TEST, selection.image_index
    classes = np.empty(len(index), np.int32)
    classes[is_test] = images.test_labels[index[is_test]]
    classes[~is_test] = images.train_labels[index[~is_test]]
    return classes
