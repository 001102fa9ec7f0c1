"""Zoos on disk: a frozen spec in, all networks and their accuracies out.

images = load_images("fashion_mnist")
spec = ZooSpec(image_set="fashion_mnist", source="", sha256=images.sha256, size=14, ...)
arrays = zoo(spec)

The set is made and kept in pieces of `spec.piece` trainings. A killed process loses one piece;
processes that need the same zoo at the same time share the work. One process trains on one core
for every device it sees: XLA_FLAGS=--xla_force_host_platform_device_count=2 makes two of a CPU.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from common.data.cache import cached_parts, describe, identity
from common.data.images import ImageSet, downsample, load_images
from common.progress import logged_progress
from nfn.zoo import ZooImages, train_zoo, zoo_images
from nfn.zoo_recipes import Hyperparameters, Recipe

Arrays = dict[str, np.ndarray]


class ZooSpec(NamedTuple):
    """All that a zoo depends on; plain values, thus also the key of its cache entries."""

    image_set: str  # "fashion_mnist": name for `load_images`
    source: str  # where to read it, "" for the first place that holds it
    sha256: str  # of the images, checked when they are read
    size: int  # images are averaged to size x size pixels
    count: int  # number of trainings
    recipe: Recipe
    piece: int = 200  # trainings in one cache entry
    seed: int = 0
    version: int = 1


class ZooPiece(NamedTuple):
    """The trainings start ... stop - 1 of a zoo whatever its `count`."""

    zoo: ZooSpec
    start: int
    stop: int
    version: int = 1


def zoo(spec: ZooSpec) -> Arrays:
    """Returns all networks of a zoo, from the cache or trained now.

    Returns:
        "Conv_0/kernel" [n, 3, 3, in, out], ..., "Dense_0/bias" [n, out] float32, the snapshots
        of a training after each other; "test_accuracy", "train_accuracy" float32 [n], fractions
        of 1; "run" int32 [n], the number of the training; "step" int32 [n]; the hyper-parameters
        [n] by name; "attempts" int32 [n], see `nfn.zoo.Trained`.

    Raises:
        DataError: If the images found are not those of `spec.sha256`.
    """
    parts = cached_parts(_pieces(spec), zoo_piece)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def zoo_piece(piece: ZooPiece) -> Arrays:
    """Trains one piece of a zoo: the function behind the cache."""
    spec, index = piece.zoo, np.arange(piece.start, piece.stop)
    images = load_images(spec.image_set, spec.source, sha256=spec.sha256)
    trained = train_zoo(
        _prepared(images, spec),
        spec.recipe,
        index,
        seed=spec.seed,
        on_chunk=logged_progress("networks", piece.start),
    )
    steps = trained.hyperparameters.snapshots
    snapshots = steps.shape[1]
    weights: dict[str, Any] = traverse_util.flatten_dict(trained.params, sep="/")
    names = [name for name in Hyperparameters._fields if name != "snapshots"]
    per_run = {name: getattr(trained.hyperparameters, name) for name in names}
    per_run |= {"run": index.astype(np.int32), "attempts": trained.attempts}
    return {
        **{name: leaf.reshape(-1, *leaf.shape[2:]) for name, leaf in weights.items()},
        "test_accuracy": trained.test_accuracy.reshape(-1).astype(np.float32),
        "train_accuracy": trained.train_accuracy.reshape(-1).astype(np.float32),
        "step": np.asarray(steps.reshape(-1)),
        **{name: np.repeat(values, snapshots) for name, values in per_run.items()},
    }


def zoo_identity(spec: ZooSpec) -> dict[str, Any]:
    """Returns what a zoo is made of, as if it were one piece."""
    return identity(ZooPiece(spec, 0, spec.count), zoo_piece)


def zoo_sha256(spec: ZooSpec) -> str | None:
    """Returns the SHA-256 over the checksums of all pieces, None while one is missing."""
    sums = [describe(piece, zoo_piece)["sha256"] for piece in _pieces(spec)]
    return None if None in sums else hashlib.sha256("".join(sums).encode()).hexdigest()


def zoo_params(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the weights of a zoo as params with leaves [n, ...]."""
    return traverse_util.unflatten_dict({k: v for k, v in arrays.items() if "/" in k}, sep="/")


def _pieces(spec: ZooSpec) -> list[ZooPiece]:
    # A larger zoo holds the smaller one: its pieces are the same but for the last.
    starts = range(0, spec.count, spec.piece)
    every = spec._replace(count=0)
    return [ZooPiece(every, start, min(start + spec.piece, spec.count)) for start in starts]


def _prepared(images: ImageSet, spec: ZooSpec) -> ZooImages:
    """Returns the images in [-1, 1], gray if the networks are; training images in random order."""
    order = np.random.default_rng(spec.seed).permutation(len(images.train_images))
    train, test = (
        downsample(pixels, spec.size) / np.float32(127.5) - 1
        for pixels in (images.train_images, images.test_images)
    )
    if train.ndim == 4 and spec.recipe.channels[0] in (1, spec.size**2):
        train, test = train.mean(axis=-1), test.mean(axis=-1)
    return zoo_images(
        train[order],
        images.train_labels[order],
        test,
        images.test_labels,
        channels=spec.recipe.channels,
    )
