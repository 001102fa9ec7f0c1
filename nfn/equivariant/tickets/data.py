"""Pairs of initial weights and their winning ticket, made by magnitude pruning and cached."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from common.data.cache import cached
from common.data.cache import describe as describe_cached
from common.data.cache import identity as identity_of
from common.data.images import ImageSet, balanced_indices, downsample, load_images
from common.sharding import make_mesh
from nfn import encodings, features, pruning
from nfn.stack import stack_space
from nfn.weights import WeightSpace, cnn_space, mlp_space

PyTree = Any
NUM_CLASSES = 10


class TicketSpec(NamedTuple):
    """All that a set of pairs depends on; plain values, thus also the key of its cache entry."""

    image_set: str  # "fashion_mnist": name for `load_images`
    source: str  # where to read it, "" for the first place that holds it
    sha256: str  # of the images, checked when they are read
    train_per_class: int  # training images of every class, the first in file order
    test_per_class: int
    size: int  # images are averaged to size x size pixels
    network: str  # "mlp", or "cnn": 3 x 3 convolutions before the dense layers
    channels: tuple[int, ...]  # of the convolutions
    widths: tuple[int, ...]  # of the hidden dense layers
    recipe: pruning.Recipe
    sparsity: float
    scope: str
    rounds: int
    num_train: int  # pairs
    num_valid: int
    num_test: int
    seed: int
    chunk: int
    version: int = 1


def ticket_spec(section: ConfigDict) -> TicketSpec:
    """Returns the spec of `config.data`, still without the checksum of the images."""
    return TicketSpec(
        image_set=section.name,
        source=section.source,
        sha256="",
        train_per_class=section.train_per_class,
        test_per_class=section.test_per_class,
        size=section.size,
        network=section.network,
        channels=tuple(section.channels) if section.network == "cnn" else (),
        widths=tuple(section.widths),
        recipe=pruning.Recipe(section.steps, section.batch_size, section.learning_rate),
        sparsity=section.sparsity,
        scope=section.scope,
        rounds=section.rounds,
        num_train=section.num_train,
        num_valid=section.num_valid,
        num_test=section.num_test,
        seed=section.seed,
        chunk=section.chunk,
    )


def ticket_space(spec: TicketSpec) -> WeightSpace:
    """Returns the weight space of the networks that are pruned, all neurons permutable."""
    dense = (*spec.widths, NUM_CLASSES)
    if spec.network == "mlp":
        return mlp_space((spec.size**2 * _color(spec), *dense))
    channels = (_color(spec), *spec.channels)
    return cnn_space(channels=channels, filters=((3, 3),) * len(spec.channels), dense=dense)


def num_pairs(spec: TicketSpec) -> dict[str, int]:
    """Returns the number of pairs for training, validation and test."""
    return {"train": spec.num_train, "valid": spec.num_valid, "test": spec.num_test}


def tickets(spec: TicketSpec) -> dict[str, np.ndarray]:
    """Returns the pairs: the function to be given to `common.data.cached`.

    Source: Zhou et al. (2023a), App. D.2.

    Pair i comes from the key of `spec.seed` into which i is folded, in the order test, valid,
    train: a larger training set holds the smaller one.

    Returns:
        "weights/Dense_0/kernel" [n, in, out] float32, ..., "mask/Dense_0/kernel" bool, ...
    """
    images = image_arrays(spec)["train"]
    space, n = ticket_space(spec), sum(num_pairs(spec).values())
    logging.info("making %d pairs of initial weights and tickets", n)

    def pair(key: jax.Array, images: PyTree) -> PyTree:
        key_weights, key_ticket = jax.random.split(key)
        weights = pruning.init_network(key_weights, space=space)
        mask = pruning.magnitude_ticket(
            key_ticket,
            weights,
            images["pixels"],
            images["label"],
            recipe=spec.recipe,
            sparsity=spec.sparsity,
            scope=spec.scope,
            rounds=spec.rounds,
        )
        return {"weights": weights, "mask": mask}

    def pairs(key: jax.Array, images: PyTree) -> PyTree:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))
        return pruning.over_members(pair, keys, images, chunk=spec.chunk)

    with jax.set_mesh(make_mesh({"member": -1}, jax.local_devices())):
        made = jax.device_get(jax.jit(pairs)(jax.random.key(spec.seed), images))
    arrays: dict[str, Any] = traverse_util.flatten_dict(made, sep="/")
    return arrays


def ticket_data(spec: TicketSpec, *, kind: str, normalize: bool) -> PyTree:
    """Returns pairs, images and statistics as the experiment reads them.

    Returns:
        {"train" | "valid" | "test": {"weights", "mask"} with leaves [n, ...], "images": {"train" |
        "test": {"pixels", "label"}}, "statistics"}. The statistics are those of the weights for
        training; without `normalize` they are mean 0 and deviation 1.
    """
    arrays = traverse_util.unflatten_dict(cached(with_checksum(spec), tickets), sep="/")
    data: dict[str, Any] = {"images": image_arrays(spec)}
    start = 0
    for part in ("test", "valid", "train"):
        rows = slice(start, start + num_pairs(spec)[part])
        data[part] = jax.tree.map(lambda leaf, rows=rows: leaf[rows], arrays)
        start = rows.stop
    space = stack_space(ticket_space(spec), kind)
    statistics = _statistics(data["train"]["weights"], space)
    if not normalize:
        statistics = encodings.no_normalization(statistics)
    return {**data, "statistics": jax.tree.map(np.asarray, statistics)}


def abstract_ticket_data(spec: TicketSpec, *, kind: str) -> PyTree:
    """Returns the shapes of `ticket_data` without training anything."""
    space = ticket_space(spec)
    single = jax.eval_shape(lambda: pruning.init_network(jax.random.key(0), space=space))

    def stacked(count: int, dtype: Any) -> PyTree:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), dtype), single)

    def images(per_class: int) -> PyTree:
        count, shape = per_class * NUM_CLASSES, (spec.size, spec.size, _color(spec))
        return {
            "pixels": jax.ShapeDtypeStruct((count, *shape), jnp.float32),
            "label": jax.ShapeDtypeStruct((count,), jnp.int32),
        }

    weights = stacked(2, jnp.float32)
    inner = stack_space(space, kind)
    return {
        **{
            part: {"weights": stacked(n, jnp.float32), "mask": stacked(n, jnp.bool_)}
            for part, n in num_pairs(spec).items()
        },
        "images": {"train": images(spec.train_per_class), "test": images(spec.test_per_class)},
        "statistics": jax.eval_shape(lambda w: _statistics(w, inner), weights),
    }


def image_arrays(spec: TicketSpec) -> PyTree:
    """Returns {"train" | "test": {"pixels" [n, h, w, c], "label" [n]}}, as many of each class.

    Pixels have mean 0 and deviation 1 over all training images that are used.

    Raises:
        DataError: If the images found are not those of `spec.sha256`.
    """
    images = load_images(spec.image_set, spec.source, sha256=spec.sha256 or None)
    train = _part(images, "train", spec.train_per_class, spec.size)
    test = _part(images, "test", spec.test_per_class, spec.size)
    mean, std = train["pixels"].mean(), train["pixels"].std()
    return {
        name: {**part, "pixels": (part["pixels"] - mean) / std}
        for name, part in (("train", train), ("test", test))
    }


def identity(spec: TicketSpec) -> dict[str, Any]:
    """Returns what the pairs are made of, the SHA-256 of the images included."""
    return identity_of(with_checksum(spec), tickets)


def describe(spec: TicketSpec) -> dict[str, Any]:
    """Returns which images and which pairs were used."""
    images = load_images(spec.image_set, spec.source)
    return {
        "images": images.name,
        "images_from": images.source,
        "images_sha256": images.sha256,
        "tickets": num_pairs(spec),
        "tickets_sha256": describe_cached(with_checksum(spec), tickets)["sha256"],
    }


def with_checksum(spec: TicketSpec) -> TicketSpec:
    """Returns the spec with the checksum of the images that are found."""
    return spec._replace(sha256=load_images(spec.image_set, spec.source).sha256)


def _part(images: ImageSet, name: str, per_class: int, size: int) -> dict[str, np.ndarray]:
    pixels, labels = getattr(images, f"{name}_images"), getattr(images, f"{name}_labels")
    chosen = balanced_indices(labels, per_class=per_class)
    small = downsample(pixels[chosen], size)
    return {"pixels": small.reshape(len(small), size, size, -1), "label": labels[chosen]}


def _color(spec: TicketSpec) -> int:
    return 3 if spec.image_set.startswith("cifar") else 1


def _statistics(weights: PyTree, space: WeightSpace) -> encodings.NormalizationStatistics:
    return encodings.normalization_statistics(
        features.features_from_params(space, weights), space=space
    )
