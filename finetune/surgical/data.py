"""Source and target of every shift: images, their labels, and groups, as the networks get them."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Integer
from ml_collections import ConfigDict

from common.data import cache, image_sets
from common.data.image_sets import CLASSES, STORED, DataSpec
from common.data.images import balanced_indices, downsample
from common.errors import nearest
from common.files.data_dir import data_file
from common.files.storage import digest
from finetune import shifts
from finetune.corruptions.apply import corrupt
from finetune.corruptions.parameters import CIFAR_C

PyTree = Any
TASKS = ("classes", "groups", "background")
NOISES = tuple(f"noise_{block}" for block in ("block1", "block2", "block3", "block4", "last"))
OTHERS = ("clean", "flip", "negative", "groups", "background", "jpeg", *NOISES)
# Half of the classes of Fashion-MNIST of which every one looks like a class of the other half.
FIRST_HALF = (0, 2, 3, 7, 8)  # T-shirt, pullover, dress, sneaker, bag
# JPEG copies of images without loss, in their order.
COPIES = {"train": "cifar10/data_batch_1.npz", "test": "cifar10/test_batch.npz"}


class ShiftSpec(NamedTuple):
    """A source and a target.

    Attributes:
        version: Raised when a function here changes what it returns.
        base: The images.
        num_source: Training images that the source has, the first ones of every class. 0: the
            network was trained elsewhere, on all of them, and the pool is of test images.
        num_pool: Of those behind them, what target sets are drawn from; what is left is the test.
        task: "classes"; "groups": superclasses of which the source has some members; "background":
            classes before stripes that say in which half a class is.
        agreement: Of stripes and half in the source, of task "background".
        strength: Of the stripes.
        mean: Of pixels from 0 to 1, of every channel.
        deviation: Of pixels from 0 to 1, of every channel.
        shift: What the target is; a name of `finetune.corruptions` or of `OTHERS`.
        severity: Of a corruption, 1 to 5.
    """

    version: int
    base: DataSpec
    num_source: int
    num_pool: int
    task: str
    agreement: float
    strength: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    shift: str
    severity: int


def shift_spec(data: ConfigDict, pixels: ConfigDict, shift: ConfigDict) -> ShiftSpec:
    """Returns the spec of the sections `data`, `pixels` and `shift` of a config.

    Raises:
        ValueError: If a field is out of range; names it with its value.
    """
    base = image_sets.data_spec(data)
    mean, deviation = (tuple(pixels[name]) for name in ("mean", "deviation"))
    spec = ShiftSpec(
        version=1,
        base=base,
        num_source=data.num_source,
        num_pool=data.num_pool,
        task=data.task,
        agreement=data.agreement,
        strength=data.strength,
        mean=mean,
        deviation=deviation,
        shift=shift.name,
        severity=shift.severity,
    )
    _check(spec)
    return spec


def _check(spec: ShiftSpec) -> None:
    if spec.task not in TASKS:
        raise ValueError(f"config.data.task={spec.task!r}: expected one of {', '.join(TASKS)}")
    parts, part = (spec.num_source, spec.num_pool), "train" if spec.num_source else "test"
    most = spec.base.num_train if spec.num_source else spec.base.num_test
    if any(n % CLASSES or n < 0 for n in parts) or not sum(parts) <= most:
        raise ValueError(
            f"config.data.num_source={spec.num_source}, num_pool={spec.num_pool}: expected "
            f"multiples of {CLASSES}, together at most config.data.num_{part}={most}"
        )
    if len(spec.mean) != spec.base.channels or len(spec.deviation) != spec.base.channels:
        raise ValueError(
            f"config.pixels.mean={spec.mean}, deviation={spec.deviation}: expected a number for "
            f"each of {spec.base.channels} channels"
        )
    if spec.shift not in (*OTHERS, *CIFAR_C):
        known = (*OTHERS, *CIFAR_C)
        raise ValueError(
            f"config.shift.name={spec.shift!r}{nearest(spec.shift, known)}: expected one of "
            f"{', '.join(known)}"
        )
    if not 1 <= spec.severity <= 5:
        raise ValueError(f"config.shift.severity={spec.severity}: expected 1 to 5")
    if spec.shift in ("groups", "background") and spec.shift != spec.task:
        raise ValueError(
            f"config.shift.name={spec.shift!r}: expected config.data.task={spec.shift!r} too, got "
            f"{spec.task!r}"
        )
    if spec.task == "background" and spec.base.images != "fashion_mnist":
        raise ValueError("config.data.task='background': expected images='fashion_mnist'")
    if spec.shift == "jpeg" and spec.base.images != "cifar10_lossless":
        raise ValueError(
            f"config.shift.name='jpeg': expected config.data.images='cifar10_lossless', of which "
            f"there are JPEG copies; got {spec.base.images!r}"
        )


def source(spec: ShiftSpec) -> PyTree:
    """Returns {"train" | "test": {"image": [n, h, w, c], "label": [n]}} before the shift.

    Source: Lee et al. (2023), Sec. 3: what the network is pre-trained on.
    """
    images = image_sets.load(_stored(spec))
    train, test = images["train"], images["test"]
    kept = balanced_indices(train["label"], per_class=spec.num_source // CLASSES)
    parts = {"train": {k: v[kept] for k, v in train.items()}, "test": test}
    return {name: _example(spec, part, name, is_target=False) for name, part in parts.items()}


def target(spec: ShiftSpec) -> PyTree:
    """Returns {"pool" | "clean" | "test" | "source_test": examples}.

    "pool" is what target sets are drawn from, class after class, "clean" the same images before the
    shift, "test" is shifted. Examples have "image", "label", "half", to which the label belongs,
    and "group", the attribute that goes with it.

    Source: Lee et al. (2023), Sec. 3: input-, feature- and output-level shifts.
    """
    images = image_sets.load(_stored(spec))
    if spec.shift == "jpeg":
        copies = {k: np.load(data_file(v), allow_pickle=False) for k, v in COPIES.items()}
        shifted = {k: shifts.paired(images[k]["image"], v["images"]) for k, v in copies.items()}
        images = {k: {**part, "shifted": shifted[k]} for k, part in images.items()}
    pool, test = _pool_and_test(spec, images)
    moved = {
        name: {"image": part.get("shifted", part["image"]), "label": part["label"]}
        for name, part in (("pool", pool), ("test", test))
    }
    found = {n: _example(spec, part, n, is_target=True) for n, part in moved.items()}
    for name, part in (("clean", pool), ("source_test", test)):
        found[name] = _example(spec, part, name, is_target=False)
    return found


def _pool_and_test(spec: ShiftSpec, images: PyTree) -> tuple[PyTree, PyTree]:
    """Returns what target sets are drawn from, class after class, and what is tested on."""
    from_test = spec.num_source == 0
    part, skip = images["test" if from_test else "train"], spec.num_source // CLASSES
    rows = balanced_indices(part["label"], per_class=spec.num_pool // CLASSES, skip=skip)
    rows = rows[np.argsort(part["label"][rows], kind="stable")]
    test = images["test"]
    if from_test:
        test = {k: np.delete(v, rows, axis=0) for k, v in test.items()}
    return {k: v[rows] for k, v in part.items()}, test


def abstract_source(spec: ShiftSpec) -> PyTree:
    """Returns the shapes of `source`, without making it."""
    counts = {
        "train": _count(spec, spec.num_source, False),
        "test": _count(spec, spec.base.num_test, False),
    }
    return {name: _shapes(spec, count) for name, count in counts.items()}


def abstract_target(spec: ShiftSpec) -> PyTree:
    """Returns the shapes of `target`, without making it."""
    tested = spec.base.num_test - (0 if spec.num_source else spec.num_pool)
    counts = {
        "pool": _count(spec, spec.num_pool, True),
        "test": _count(spec, tested, True),
        "clean": _count(spec, spec.num_pool, False),
        "source_test": _count(spec, tested, False),
    }
    return {name: _shapes(spec, count) for name, count in counts.items()}


def classes_of_pool(spec: ShiftSpec) -> int:
    """Returns how many classes the pool has, all of the same number of images."""
    return _count(spec, CLASSES, True)


def identity(spec: ShiftSpec) -> dict[str, Any]:
    """Returns what the data are made of: this module's `target`, and the images behind it."""
    found = {**image_sets.identity(_stored(spec)), **cache.identity(spec, target)}
    if spec.shift == "jpeg":
        found["copies"] = {name: digest(data_file(file)) for name, file in COPIES.items()}
    return found


def describe(spec: ShiftSpec) -> dict[str, Any]:
    """Returns what stands under a table: which images, and the shift."""
    return {**image_sets.describe(_stored(spec)), "task": spec.task, "shift": spec.shift}


def in_half(labels: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
    """Returns 0 for classes of the first half, 1 for those that look like one of them."""
    return np.where(np.isin(labels, FIRST_HALF), 0, 1).astype(np.int32)


def _stored(spec: ShiftSpec) -> DataSpec:
    return spec.base._replace(size=STORED[spec.base.images])


def _count(spec: ShiftSpec, number: int, is_target: bool) -> int:
    """Returns how many examples are left of so many images."""
    if spec.task != "groups":
        return number
    members = _groups(spec)[1 if is_target and spec.shift == "groups" else 0]
    return number // CLASSES * sum(map(len, members))


def _groups(spec: ShiftSpec) -> shifts.Subpopulations:
    return shifts.FASHION_GROUPS if spec.base.channels == 1 else shifts.CIFAR10_PAIRS


def _shapes(spec: ShiftSpec, count: int) -> PyTree:
    side = (spec.base.size, spec.base.size, spec.base.channels)
    number = jax.ShapeDtypeStruct((count,), np.int32)
    image = jax.ShapeDtypeStruct((count, *side), np.float32)
    return {"image": image, "label": number, "half": number, "group": number}


def _example(spec: ShiftSpec, part: PyTree, name: str, *, is_target: bool) -> PyTree:
    """Returns examples of one part: shifted if they are of the target, and normalized."""
    pixels, labels = part["image"], np.asarray(part["label"], np.int32)
    group = in_half(labels)
    if spec.task == "groups":
        groups = _groups(spec)[1 if is_target and spec.shift == "groups" else 0]
        index, labels = shifts.superclasses(labels, groups)
        pixels, group = pixels[index], labels
    if is_target and spec.shift in CIFAR_C:
        seed = 2 if name == "test" else 1
        pixels = corrupt(pixels, spec.shift, spec.severity, seed)
    images = _small(pixels, spec)  # from 0 to 1
    if spec.task == "background":
        is_shifted = is_target and spec.shift == "background"
        seed = {"train": 3, "pool": 4, "clean": 5, "test": 6, "source_test": 7}[name]
        agreement = 0.5 if is_shifted else spec.agreement
        group = shifts.spurious_attributes(
            in_half(labels), num_classes=2, agreement=agreement, seed=seed
        )
        images = shifts.background(images[..., 0], group, strength=spec.strength, seed=seed)[
            ..., None
        ]
    images = _normalized(images, spec)
    if is_target and spec.shift == "negative":
        images = negative(images)
    if is_target and spec.shift == "flip":
        labels = shifts.flipped_labels(labels, CLASSES)
    labels = np.asarray(labels, np.int32)
    return {"image": images, "label": labels, "half": in_half(labels), "group": group}


def colors_of(channels: int) -> Float[np.ndarray, "c c"]:
    """Returns A of the exact linear shift x A of normalized images: of one channel, x -> -x.

    Of three channels it is a fixed rotation of the color space that turns light into dark. Zeros
    around an image stay zeros, so a first convolution without bias undoes it at the border too.
    """
    if channels == 1:
        return -np.ones((1, 1))
    turned = np.roll(np.eye(channels), 1, axis=1)
    return -(turned + 0.5 * np.eye(channels)) / 1.5


def negative(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w c"]:
    """Returns normalized images after the exact linear shift of `colors_of`, without clipping.

    Source: Lee et al. (2023), Prop. 1: x -> A x.
    """
    matrix = colors_of(images.shape[-1]).astype(np.float32)
    return images @ matrix


def _small(pixels: np.ndarray, spec: ShiftSpec) -> Float[np.ndarray, "n h w c"]:
    if spec.base.size == STORED[spec.base.images]:
        return pixels.astype(np.float32) / 255
    return downsample(pixels, spec.base.size) / 255


def _normalized(images: np.ndarray, spec: ShiftSpec) -> Float[np.ndarray, "n h w c"]:
    each = lambda numbers: np.asarray(numbers, np.float32).reshape(1, 1, 1, -1)
    return ((images - each(spec.mean)) / each(spec.deviation)).astype(np.float32)
