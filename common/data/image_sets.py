"""Images and labels as the networks get them: whole sets in memory, pixels as stored."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from common.data import cache
from common.data.catalogue import ARRAY_SHA256
from common.data.images import ImageSet, balanced_indices, downsample, load_images

PyTree = Any
CLASSES = 10
PADDING = 4  # pixels that a crop may move; released code, dataloader.py


class DataSpec(NamedTuple):
    """A training and a test set.

    Attributes:
        version: Raised when `generate` changes what it returns.
        images: A name of `common.data.images.load_images`.
        source: Where they are read from; "": the first place that has them.
        size: Pixels of a side; images that are larger are averaged over blocks.
        channels: 1 or 3.
        num_train: As many of every class, in the order of the file; all of them if that is how many
            there are.
        num_test: As `num_train`.
    """

    version: int
    images: str
    source: str
    size: int
    channels: int
    num_train: int
    num_test: int


def data_spec(section: ConfigDict) -> DataSpec:
    """Returns the spec of `config.data`.

    Raises:
        ValueError: If a field is out of range.
    """
    names = [name for name in DataSpec._fields if name != "version"]
    spec = DataSpec(version=1, **{name: section[name] for name in names})
    for name in ("num_train", "num_test"):
        if section[name] < CLASSES or section[name] % CLASSES:
            raise ValueError(
                f"config.data.{name}={section[name]}: expected a multiple of {CLASSES}, the same "
                "number of every class"
            )
    if spec.channels not in (1, 3) or spec.size < 1:
        raise ValueError(
            f"config.data.size={spec.size}, channels={spec.channels}: expected a size of at least "
            "1 and 1 or 3 channels"
        )
    return spec


def load(spec: DataSpec) -> PyTree:
    """Returns {"train" | "test": {"image": [n, size, size, channels], "label": [n]}}."""
    images = load_images(spec.images, spec.source)
    parts = {
        "train": (images.train_images, images.train_labels, spec.num_train),
        "test": (images.test_images, images.test_labels, spec.num_test),
    }
    return {name: _part(spec, *arrays) for name, arrays in parts.items()}


def abstract(spec: DataSpec) -> PyTree:
    """Returns the shapes of `load`, without reading anything."""
    # What is averaged is no longer whole numbers.
    dtype = np.uint8 if spec.size == STORED[spec.images] else np.float32
    side = (spec.size, spec.size, spec.channels)

    def part(count: int) -> PyTree:
        return {
            "image": jax.ShapeDtypeStruct((count, *side), dtype),
            "label": jax.ShapeDtypeStruct((count,), np.int32),
        }

    return {"train": part(spec.num_train), "test": part(spec.num_test)}


def identity(spec: DataSpec) -> dict[str, Any]:
    """Returns what the data are made of: this module's `load`, and the files behind it."""
    # Of sets whose arrays are pinned nothing has to be read.
    files = ARRAY_SHA256.get(spec.images) or load_images(spec.images, spec.source).sha256
    return {**cache.identity(spec, load), "files": files}


def describe(spec: DataSpec) -> dict[str, Any]:
    """Returns what stands under a table: which images, how many of them, of which size."""
    images: ImageSet = load_images(spec.images, spec.source)
    return {
        **images.describe(),
        "size": spec.size,
        "used": {"train": spec.num_train, "test": spec.num_test},
    }


def augmented(
    images: Float[Array, "batch h w c"], key: PRNGKeyArray
) -> Float[Array, "batch h w c"]:
    """Returns images moved by up to 4 pixels, zeros moving in, and mirrored every second time.

    Source: Li et al. (2018), the released code: random crops of padded images, horizontal flips.
    """
    count, height, width, _ = images.shape
    key_place, key_side = jax.random.split(key)
    around = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
    padded = jnp.pad(images, around)
    places = jax.random.randint(key_place, (count, 2), 0, 2 * PADDING + 1)
    is_mirrored = jax.random.bernoulli(key_side, shape=(count, 1, 1, 1))
    crop = lambda image, place: jax.lax.dynamic_slice(
        image, (place[0], place[1], 0), (height, width, image.shape[-1])
    )
    crops = jax.vmap(crop)(padded, places)
    return jnp.where(is_mirrored, crops[:, :, ::-1], crops)


STORED = {"cifar10": 32, "cifar10_lossless": 32, "fashion_mnist": 28, "mnist": 28}  # pixels


def _part(spec: DataSpec, images: np.ndarray, labels: np.ndarray, count: int) -> PyTree:
    if count == len(labels):
        chosen = np.arange(count)
    else:
        chosen = balanced_indices(labels, per_class=count // CLASSES)
    pixels = images[chosen]
    if spec.size != STORED[spec.images]:
        pixels = downsample(pixels, spec.size)
    side = (spec.size, spec.size, spec.channels)
    return {"image": pixels.reshape(count, *side), "label": labels[chosen]}
