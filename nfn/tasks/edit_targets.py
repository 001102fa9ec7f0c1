"""Data of the editing experiment: fitted SIRENs, and what each should show after the edit."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from common.data.cache import cached
from common.data.images import downsample, load_images
from nfn.image_edits import IMAGE_EDITS, edit_images
from nfn.siren import SirenParams, StackedParams, coordinate_grid, siren
from nfn.siren_edits import rotate, translate
from nfn.siren_sets import TEST, SirenSetSpec, siren_set
from nfn.tasks import sirens

PyTree = Any
WEIGHT_EDITS = ("translate", "rotate")


class EditSpec(NamedTuple):
    """What to do to every image.

    Attributes:
        name: One of `IMAGE_EDITS`: the target is the edited image, at the size of the set. Or one
            of `WEIGHT_EDITS`: the target is the rendering of the SIREN whose weights were edited
            exactly, beyond the old border too, so that a perfect editor has error 0.
        shift: Of translate, in pixels (rows, columns).
        degrees: Of rotate, counterclockwise on the screen.
    """

    name: str
    shift: tuple[float, ...]
    degrees: float


def editing_data(spec: SirenSetSpec, edit: EditSpec, statistics: sirens.Statistics) -> PyTree:
    """Returns {"train" | "valid" | "test": {"params": [n, ...], "target": [n, ...]}, "statistics"}.

    The SIRENs are fitted once and kept in the cache. For `statistics` see `sirens.siren_data`.
    """
    data = sirens.siren_data(spec, statistics)
    images = load_images(spec.image_set, spec.source)
    arrays = cached(spec._replace(sha256=images.sha256), siren_set)
    for part, number in sirens.PARTS.items():
        index = arrays["image_index"][arrays["split"] == number]
        pixels = (images.test_images if number == TEST else images.train_images)[index]
        originals = downsample(pixels, spec.size) / np.float32(255)
        params = data[part]["params"]
        data[part] = {"params": params, "target": targets(params, originals, edit, spec)}
    return data


def abstract_editing_data(spec: SirenSetSpec, statistics: sirens.Statistics) -> PyTree:
    """Returns the shapes of `editing_data` without fitting anything."""
    data = sirens.abstract_siren_data(spec, statistics)
    for part, count in sirens.num_examples(spec).items():
        target = jax.ShapeDtypeStruct((count, spec.size**2, spec.widths[-1]), jnp.float32)
        data[part] = {"params": data[part]["params"], "target": target}
    return data


def targets(
    params: StackedParams,
    images: Float[np.ndarray, "n h w *c"],
    edit: EditSpec,
    spec: SirenSetSpec,
) -> Float[np.ndarray, "n pixels c"]:
    """Returns what networks fitted to `images` (in [0, 1]) should show, in the [-1, 1] scale."""
    if edit.name in IMAGE_EDITS:
        edited = edit_images(images, edit.name)
        return (2 * edited - 1).reshape(len(images), spec.size**2, -1)
    move = partial(edit_weights, edit=edit, size=spec.size)
    grid = coordinate_grid(spec.size)

    def rendered(single: SirenParams) -> jax.Array:
        return siren(move(single), grid, omega=spec.omega, sine=spec.sine)

    return np.asarray(jax.jit(jax.vmap(rendered))(params))


def edit_weights(params: SirenParams, *, edit: EditSpec, size: int) -> SirenParams:
    """Returns the weights after one of `WEIGHT_EDITS`, for images of size x size pixels."""
    if edit.name == "translate":
        return translate(params, jnp.asarray(edit.shift) * (2 / (size - 1)))
    return rotate(params, edit.degrees * np.pi / 180)
