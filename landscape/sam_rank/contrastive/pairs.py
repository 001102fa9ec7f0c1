"""Pairs of inputs that belong together: two halves of an image, or an image and its captions.

Training rows lie in `shards` equal parts, [shards, rows, ...], of which every batch has as many
rows each: split over the devices of a slice, every device has its own part in memory and picks its
rows without asking another. Images are in 0 to 255 as they are stored.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray
from ml_collections import ConfigDict

from common.data import cache, image_sets
from common.data.epochs import epoch_indices
from common.data.image_sets import DataSpec
from common.errors import UserError
from common.experiment import Batch
from common.files.data_dir import data_file
from common.files.storage import digest

PyTree = Any
CUTS = ("rows", "columns")


class HalvesSpec(NamedTuple):
    """Two halves of every image.

    Attributes:
        images: Which images.
        cut: "rows" gives the upper and the lower half, "columns" the left and the right one.
        held_out: So many of the last training images take the place of the test images, to choose
            settings by; 0: none.
        shards: Parts that training rows lie in.
    """

    images: DataSpec
    cut: str
    held_out: int
    shards: int


class CaptionsSpec(NamedTuple):
    """Images and what is written about them, from a file that the user has.

    An npz with `train_images` and `test_images`, uint8 [n, size, size, 3], and `train_tokens` and
    `test_tokens`, int32 [n, captions, length]: captions as a tokenizer made them, padded. Its first
    rows are taken.

    Attributes:
        version: Raised when `load` changes what it returns.
        file: Its place in $DATA_DIR.
        size: Pixels of a side.
        captions: Of every image; in training one at random, in evaluations the first.
        length: Tokens of a caption.
        num_train: Training images, a multiple of `shards`.
        num_test: Test images.
        shards: Parts that training rows lie in.
    """

    version: int
    file: str
    size: int
    captions: int
    length: int
    num_train: int
    num_test: int
    shards: int


Spec = HalvesSpec | CaptionsSpec


def pair_spec(section: ConfigDict) -> Spec:
    """Returns the spec of `config.data`.

    Raises:
        ValueError: If a field is out of range.
    """
    if section.kind == "captions":
        names = [name for name in CaptionsSpec._fields if name != "version"]
        spec: Spec = CaptionsSpec(version=1, **{name: section[name] for name in names})
    else:
        rest = {name: section[name] for name in ("cut", "held_out", "shards")}
        spec = HalvesSpec(image_sets.data_spec(section), **rest)
        if spec.cut not in CUTS or spec.images.size % 2:
            raise ValueError(
                f"config.data.cut={spec.cut!r}, size={spec.images.size}: expected rows or columns, "
                "and an even number of them"
            )
        if not 0 <= spec.held_out < spec.images.num_train:
            raise ValueError(
                f"config.data.held_out={spec.held_out}: expected 0, or fewer than "
                f"config.data.num_train={spec.images.num_train}"
            )
    if spec.shards < 1 or num_train(spec) % spec.shards:
        raise ValueError(
            f"config.data.shards={spec.shards}: expected a divisor of the {num_train(spec)} "
            "training rows"
        )
    return spec


def num_train(spec: Spec) -> int:
    """Returns how many pairs are trained on."""
    return spec.num_train if isinstance(spec, CaptionsSpec) else _counts(spec)["train"]


def load(spec: Spec) -> PyTree:
    """Returns {"train" | "test": {"first": rows, "second": rows}}, those of training in shards.

    Raises:
        MissingData: If the file of captions is not there.
        UserError: If it is not as `CaptionsSpec` says.
    """
    found = _captions(spec) if isinstance(spec, CaptionsSpec) else _halves(spec)
    in_shards = lambda x: x.reshape(spec.shards, -1, *x.shape[1:])
    return {**found, "train": {side: in_shards(x) for side, x in found["train"].items()}}


def abstract(spec: Spec) -> PyTree:
    """Returns the shapes of `load`, without reading anything."""
    if isinstance(spec, CaptionsSpec):
        image, tokens = (spec.size, spec.size, 3), (spec.captions, spec.length)
        counts = {"train": spec.num_train, "test": spec.num_test}
        sides = {"first": (image, np.uint8), "second": (tokens, np.int32)}
    else:
        dtype = image_sets.abstract(spec.images)["train"]["image"].dtype
        counts = _counts(spec)
        sides = dict.fromkeys(("first", "second"), (_half_shape(spec), dtype))
    leading = {"train": (spec.shards, counts["train"] // spec.shards), "test": (counts["test"],)}
    return {
        part: {
            side: jax.ShapeDtypeStruct((*rows, *shape), dtype)
            for side, (shape, dtype) in sides.items()
        }
        for part, rows in leading.items()
    }


def identity(spec: Spec) -> dict[str, Any]:
    """Returns what the data are made of: this module's `load`, and the files behind it."""
    if isinstance(spec, CaptionsSpec):
        return {**cache.identity(spec, load), "files": {spec.file: digest(data_file(spec.file))}}
    found: dict[str, Any] = image_sets.identity(spec.images)
    return {**found, "cut": spec.cut, "held_out": spec.held_out, "shards": spec.shards}


def describe(spec: Spec) -> dict[str, Any]:
    """Returns what stands under a table: which pairs, how many of them."""
    if isinstance(spec, CaptionsSpec):
        return {"file": spec.file, "used": {"train": spec.num_train, "test": spec.num_test}}
    return {**image_sets.describe(spec.images), "cut": spec.cut, "used": _counts(spec)}


def batches(seed: int, spec: Spec, batch_size: int) -> Callable[[int], Batch]:
    """Returns step -> {"index": [shards, rows]}, shuffled anew in every epoch, shard by shard.

    Raises:
        ValueError: If shards cannot have as many rows of a batch each.
    """
    if batch_size % spec.shards:
        raise ValueError(
            f"config.batch_size={batch_size}: expected a multiple of config.data.shards="
            f"{spec.shards}"
        )
    sizes = {
        "num_examples": num_train(spec) // spec.shards,
        "batch_size": batch_size // spec.shards,
    }

    def batch(step: int) -> Batch:
        own = range(seed * spec.shards, (seed + 1) * spec.shards)
        return {"index": np.stack([epoch_indices(number, step, **sizes) for number in own])}

    return batch


def take(rows: PyTree, index: Num[Array, "shards rows"]) -> PyTree:
    """Returns rows of shards, [shards, n, ...], at indices within each; as one batch.

    On a mesh every device takes rows of its own shards, and nothing is exchanged.
    """

    def local(rows: PyTree, index: Num[Array, "shards rows"]) -> PyTree:
        chosen = jax.tree.map(lambda x: jax.vmap(lambda x, i: x[i])(x, index), rows)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), chosen)

    size = jax.sharding.get_abstract_mesh().shape.get("data", 1)
    if size == 1 or len(index) % size:
        return local(rows, index)
    split = jax.P("data")
    over_devices = jax.shard_map(local, in_specs=(split, split), out_specs=split, check_vma=False)
    return over_devices(rows, index)


def inputs_of(rows: PyTree, key: PRNGKeyArray | None = None) -> tuple[Array, Array]:
    """Returns what the two towers get: images in [0, 1], captions one each.

    Source: Andriushchenko et al. (2023), released code: a random caption in training, the first
    one in evaluations.

    Args:
        rows: As `load` has them, in one batch.
        key: Decides which caption it is; None: the first.
    """
    first, second = (jnp.asarray(rows[side]) for side in ("first", "second"))
    if second.ndim > 3:
        return _scaled(first), _scaled(second)
    if key is None:
        return _scaled(first), second[:, 0]
    choice = jax.random.randint(key, (len(second),), 0, second.shape[1])
    return _scaled(first), jax.vmap(lambda captions, i: captions[i])(second, choice)


def _scaled(images: Num[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    return images.astype(jnp.float32) / 255


def _counts(spec: HalvesSpec) -> dict[str, int]:
    images, held = spec.images, spec.held_out
    return {"train": images.num_train - held, "test": held or images.num_test}


def _half_shape(spec: HalvesSpec) -> tuple[int, int, int]:
    size, channels = spec.images.size, spec.images.channels
    sides = (size // 2, size) if spec.cut == "rows" else (size, size // 2)
    return (*sides, channels)


def _halves(spec: HalvesSpec) -> PyTree:
    images = {part: rows["image"] for part, rows in image_sets.load(spec.images).items()}
    count = _counts(spec)["train"]
    if spec.held_out:
        images["test"] = images["train"][count:]
    images["train"] = images["train"][:count]
    axis = 1 if spec.cut == "rows" else 2
    halves = {part: np.split(pixels, 2, axis=axis) for part, pixels in images.items()}
    return {part: {"first": one, "second": other} for part, (one, other) in halves.items()}


def _captions(spec: CaptionsSpec) -> PyTree:
    path = data_file(spec.file)
    sides = {
        "images": ((spec.size, spec.size, 3), np.uint8),
        "tokens": ((spec.captions, spec.length), np.int32),
    }
    counts = {"train": spec.num_train, "test": spec.num_test}
    found: dict[str, dict[str, np.ndarray]] = {part: {} for part in counts}
    with np.load(path, allow_pickle=False) as arrays:
        for part, count in counts.items():
            for side, (shape, dtype) in sides.items():
                name = f"{part}_{side}"
                rows = arrays[name] if name in arrays else np.empty(0)
                if rows.shape[1:] != shape or rows.dtype != dtype or len(rows) < count:
                    raise UserError(
                        f"{path}: {name} is {rows.dtype} {rows.shape}; expected "
                        f"{np.dtype(dtype)} with at least {count} rows of {shape}"
                    )
                found[part][side] = rows[:count]
    return {
        part: {"first": rows["images"], "second": rows["tokens"]} for part, rows in found.items()
    }
