"""SIRENs beside the images they were fitted to, and moving both in the same way."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from common.data.cache import cached
from common.data.images import downsample, load_images
from nfn.siren import SirenParams
from nfn.siren_edits import stretch, translate
from nfn.siren_sets import TEST, SirenSetSpec, siren_set
from nfn.tasks import sirens

PyTree = Any


def array_data(spec: SirenSetSpec, statistics: sirens.Statistics) -> PyTree:
    """Returns `sirens.siren_data` with "images": {part: [n, pixels, c]}, in the [-1, 1] scale.

    Network i of a part was fitted to image i modulo their number: training networks come copy by
    copy.
    """
    images = load_images(spec.image_set, spec.source)
    arrays = cached(spec._replace(sha256=images.sha256), siren_set)
    pixels = {}
    for part, number in sirens.PARTS.items():
        index = arrays["image_index"][arrays["split"] == number][: num_images(spec)[part]]
        chosen = (images.test_images if number == TEST else images.train_images)[index]
        values = downsample(chosen, spec.size) / np.float32(127.5) - 1
        pixels[part] = values.reshape(len(index), spec.size**2, -1)
    return {**sirens.siren_data(spec, statistics), "images": pixels}


def abstract_array_data(spec: SirenSetSpec, statistics: sirens.Statistics) -> PyTree:
    """Returns the shapes of `array_data` without fitting anything."""
    images = {
        part: jax.ShapeDtypeStruct((count, spec.size**2, spec.widths[-1]), jnp.float32)
        for part, count in num_images(spec).items()
    }
    return {**sirens.abstract_siren_data(spec, statistics), "images": images}


def num_images(spec: SirenSetSpec) -> dict[str, int]:
    """Returns the number of different images for training, validation and test."""
    counts = sirens.num_examples(spec)
    return {**counts, "train": counts["train"] // spec.copies}


def rows_of(data: PyTree, part: str) -> PyTree:
    """Returns {"params", "image"} of all networks of a part, "image" the row of theirs."""
    image = jnp.arange(data[part]["label"].shape[0]) % data["images"][part].shape[0]
    return {"params": data[part]["params"], "image": image}


def move_randomly(
    key: PRNGKeyArray,
    params: SirenParams,
    image: Float[Array, "pixels c"],
    *,
    size: int,
    max_shift: int,
) -> tuple[SirenParams, Float[Array, "pixels c"], Bool[Array, "pixels 1"]]:
    """Mirrors left and right with probability 1/2, then shifts by up to `max_shift` pixels.

    Both are exact in the weights of the SIREN: only its first layer changes.

    Returns:
        The moved SIREN, the moved image, and which of its pixels come from inside the old one.
    """
    key_mirror, key_shift = jax.random.split(key)
    is_mirrored = jax.random.bernoulli(key_mirror)
    shift = jax.random.randint(key_shift, (2,), -max_shift, max_shift + 1)
    params = stretch(params, jnp.where(is_mirrored, jnp.array([1.0, -1.0]), jnp.ones(2)))
    params = translate(params, shift * (2 / (size - 1)))
    square = image.reshape(size, size, -1)
    square = jnp.where(is_mirrored, square[:, ::-1], square)
    border = ((max_shift, max_shift), (max_shift, max_shift), (0, 0))
    channels = square.shape[-1]
    start = (*(max_shift - shift), 0)
    padded = jnp.pad(square, border, mode="edge")
    is_inside = jnp.pad(jnp.ones((size, size, 1), bool), border)
    moved = jax.lax.dynamic_slice(padded, start, (size, size, channels))
    inside = jax.lax.dynamic_slice(is_inside, start, (size, size, 1))
    return params, moved.reshape(-1, channels), inside.reshape(-1, 1)
