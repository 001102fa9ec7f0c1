"""Images as the networks get them: centered and scaled pixel by pixel; classes as rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from common.data import cache, image_sets
from common.data.image_sets import CLASSES, DataSpec

PyTree = Any
LEAST = 0.1  # of the deviation of all pixels: a pixel that hardly changes is not blown up


def load(spec: DataSpec) -> PyTree:
    """Returns {"train" | "test": {"input": [n, h, w, c] float32, "label": [n]}}.

    Source: Cohen et al. (2021), App.: every pixel less its mean over the training images, over its
    deviation there. Deviations are at least a tenth of that of all pixels, which only matters for
    images with an empty border.
    """
    images = image_sets.load(spec)
    pixels = np.asarray(images["train"]["image"], np.float32)
    mean, deviation = pixels.mean(0), pixels.std(0)
    deviation = np.maximum(deviation, LEAST * pixels.std())
    return {
        part: {
            "input": (np.asarray(rows["image"], np.float32) - mean[None]) / deviation[None],
            "label": rows["label"],
        }
        for part, rows in images.items()
    }


def abstract(spec: DataSpec) -> PyTree:
    """Returns the shapes of `load`, without reading anything."""
    shapes = image_sets.abstract(spec)
    return {
        part: {
            "input": jax.ShapeDtypeStruct(rows["image"].shape, np.float32),
            "label": rows["label"],
        }
        for part, rows in shapes.items()
    }


def identity(spec: DataSpec) -> dict[str, Any]:
    """Returns what the data are made of: this module's `load`, and the images behind it."""
    return {**image_sets.identity(spec), **cache.identity(spec, load)}


def targets_of(
    labels: Integer[Array, " n"], *, smoothing: float = 0.0
) -> Float[Array, "n classes"]:
    """Returns one-hot rows, of which the share `smoothing` is spread over all classes."""
    one_hot = jax.nn.one_hot(jnp.asarray(labels), CLASSES)
    return (1 - smoothing) * one_hot + smoothing / CLASSES
