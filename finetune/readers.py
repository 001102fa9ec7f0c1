"""Shifted data sets that users have, in the layouts they were published in, behind one function.

`read(name, folder, ...)` returns images with labels and groups. Nothing is downloaded or unpickled;
arrays are mapped from their files and pictures decoded when asked for, so that 50,000 images of one
corruption cost no memory before they are used. `LAYOUTS` says what each folder has to hold, and
which shift of this topic stands in for it where nobody has the files.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import DataError, nearest
from finetune.corruptions.parameters import CIFAR_C, SEVERITIES
from finetune.lazy_images import LabeledImages, LazyImages

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
SPLITS = ("train", "valid", "test")  # 0, 1, 2 in metadata of Waterbirds and CelebA
PICTURES = (".jpeg", ".jpg", ".png")
WATERBIRDS = ("landbird", "waterbird")
PLACES = ("land", "water")


def read_cifar10_c(folder: Path, *, corruption: str, severity: int) -> LabeledImages:
    """Returns one severity of CIFAR-10-C, mapped from its file.

    A file holds all severities one after another, and labels.npy repeats the labels for each;
    CIFAR-100-C and other sets in this layout are read as well.

    Source: Hendrycks and Dietterich (2019), the files of CIFAR-10-C.
    """
    _check_corruption(corruption, severity)
    images = _mapped(folder / f"{corruption}.npy", 4)
    labels = _mapped(folder / "labels.npy", 1)
    count, rest = divmod(len(images), len(SEVERITIES))
    if rest or images.dtype != np.uint8 or len(labels) not in (count, len(images)):
        raise DataError(
            f"{folder}: {corruption}.npy is {images.dtype} {images.shape} and labels.npy has "
            f"{len(labels)}: expected uint8, as many images at each of 5 severities, and a label "
            "for each image or for each of one severity"
        )
    part = slice(count * (severity - 1), count * severity)
    chosen = np.asarray(labels[part] if len(labels) == len(images) else labels).astype(np.int32)
    most = int(chosen.max(initial=0)) + 1
    classes = CIFAR10_CLASSES if most <= 10 else tuple(map(str, range(most)))
    return LabeledImages(images[part], chosen, np.zeros_like(chosen), classes, (corruption,))


def read_imagenet_c(
    folder: Path,
    *,
    corruption: str,
    severity: int,
    classes: Sequence[str] = (),
    size: int = 224,
    enlarged: float = 1.0,
) -> LabeledImages:
    """Returns one severity of ImageNet-C: folder/corruption/severity/class/picture.

    Source: Hendrycks and Dietterich (2019), the folders of ImageNet-C.

    Args:
        folder: Where it is.
        corruption: Name of its folder.
        severity: 1 to 5.
        classes: Folders of classes in the order of their labels; all, sorted, if not given.
        size: Pixels of a side; the pictures have 224.
        enlarged: See `LazyImages`.
    """
    _check_corruption(corruption, severity)
    place = folder / corruption / str(severity)
    names = tuple(classes) or _folders(place)
    lists = {name: ((name, place / name),) for name in names}
    found = _by_class(lists, size, enlarged)
    return found._replace(groups=np.zeros_like(found.labels), group_names=(corruption,))


def read_waterbirds(
    folder: Path, *, split: str, size: int = 224, enlarged: float = 1.0
) -> LabeledImages:
    """Returns a split of Waterbirds: metadata.csv with pictures; groups are bird and background.

    Source: Sagawa et al. (2020), the Waterbirds data.
    """
    rows = _table(folder / "metadata.csv", ("img_filename", "y", "split", "place"))
    chosen = [row for row in rows if row["split"] == str(_split_number(split))]
    labels, places = (_numbers(folder / "metadata.csv", chosen, name, 2) for name in ("y", "place"))
    names = tuple(f"{bird} on {place}" for bird in WATERBIRDS for place in PLACES)
    paths = [folder / row["img_filename"] for row in chosen]
    images = LazyImages(_some(folder, paths), size, enlarged)
    return LabeledImages(images, labels, 2 * labels + places, WATERBIRDS, names)


def read_celeba(
    folder: Path,
    *,
    split: str,
    target: str = "Blond_Hair",
    attribute: str = "Male",
    size: int = 224,
    enlarged: float = 1.0,
) -> LabeledImages:
    """Returns a split of CelebA: list_attr_celeba and list_eval_partition, img_align_celeba/.

    Both lists are read as published (.txt) or as commas separate them elsewhere (.csv). Groups are
    target and attribute.

    Source: Liu et al. (2015), the CelebA data; Sagawa et al. (2020), its groups.
    """
    attributes = _celeba_list(folder, "list_attr_celeba")
    partition = _celeba_list(folder, "list_eval_partition", header=("image_id", "partition"))
    for name in (target, attribute):
        if attributes and name not in attributes[0]:
            known = [key for key in attributes[0] if key != "image_id"]
            raise ValueError(f"{name!r} is no attribute of {folder}{nearest(name, known)}")
    wanted = str(_split_number(split))
    inside = {row["image_id"] for row in partition if row["partition"] == wanted}
    chosen = [row for row in attributes if row["image_id"] in inside]
    signs = {"-1": 0, "0": 0, "1": 1}
    labels, others = (
        np.array([signs[row[name]] for row in chosen], np.int32) for name in (target, attribute)
    )
    no = lambda name: f"not {name}"
    classes = (no(target), target)
    names = tuple(f"{label}, {other}" for label in classes for other in (no(attribute), attribute))
    paths = [folder / "img_align_celeba" / row["image_id"] for row in chosen]
    images = LazyImages(_some(folder, paths), size, enlarged)
    return LabeledImages(images, labels, 2 * labels + others, classes, names)


def read_breeds(
    folder: Path,
    *,
    superclasses: Mapping[str, Sequence[str]] | None = None,
    size: int = 224,
    enlarged: float = 1.0,
) -> LabeledImages:
    """Returns superclasses made of subclasses, as Living-17 and Entity-30 are; groups are these.

    Source: Santurkar et al. (2021), BREEDS.

    Args:
        folder: One folder for each subclass, as ImageNet has them, if `superclasses` is given; else
            superclass/subclass/picture.
        superclasses: For each superclass the folders of its subclasses: those of the source, or
            those of the target. BREEDS draws them from its hierarchy; the lists are yours to give.
        size: Pixels of a side.
        enlarged: See `LazyImages`.
    """
    if superclasses is None:
        names = {name: _folders(folder / name) for name in _folders(folder)}
        lists = {
            name: tuple((f"{name}/{part}", folder / name / part) for part in parts)
            for name, parts in names.items()
        }
    else:
        lists = {
            name: tuple((part, folder / part) for part in parts)
            for name, parts in superclasses.items()
        }
    return _by_class(lists, size, enlarged)


class Layout(NamedTuple):
    """A data set: how it is read, what its folder holds, what stands in for it offline."""

    read: Callable[..., LabeledImages]
    holds: str
    analogue: str


LAYOUTS = {
    "cifar10_c": Layout(
        read_cifar10_c, "<corruption>.npy, labels.npy", "finetune.corruptions.apply.corrupt"
    ),
    "imagenet_c": Layout(
        read_imagenet_c,
        "<corruption>/<severity>/<class>/*.JPEG",
        "finetune.corruptions.apply.corrupt",
    ),
    "waterbirds": Layout(
        read_waterbirds, "metadata.csv, pictures", "finetune.shifts: spurious backgrounds"
    ),
    "celeba": Layout(
        read_celeba,
        "list_attr_celeba.txt, list_eval_partition.txt, img_align_celeba/",
        "finetune.shifts: spurious backgrounds",
    ),
    "living17": Layout(
        read_breeds, "<subclass>/*.JPEG or <superclass>/<subclass>/", "finetune.shifts: subclasses"
    ),
    "entity30": Layout(
        read_breeds, "<subclass>/*.JPEG or <superclass>/<subclass>/", "finetune.shifts: subclasses"
    ),
}


def read(name: str, folder: str | Path, **options: object) -> LabeledImages:
    """Returns a shifted data set from a folder of its published layout.

    Args:
        name: A key of `LAYOUTS`.
        folder: Where the files are.
        **options: Those of its reader: `corruption`, `severity`, `split`, `size` ...

    Raises:
        ValueError: If there is no such data set, or an option is wrong.
        DataError: If files are missing or not what they should be.
    """
    if name not in LAYOUTS:
        raise ValueError(f"name={name!r}: expected one of {', '.join(LAYOUTS)}")
    place = Path(folder).expanduser()
    if not place.is_dir():
        layout = LAYOUTS[name]
        raise DataError(
            f"{place}: is no folder; {name} needs one with {layout.holds} "
            f"(without it: {layout.analogue})"
        )
    return LAYOUTS[name].read(place, **options)


def _check_corruption(corruption: str, severity: int) -> None:
    if corruption not in CIFAR_C:
        raise ValueError(
            f"corruption={corruption!r}: expected one of {', '.join(CIFAR_C)}"
            f"{nearest(corruption, CIFAR_C)}"
        )
    if severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r}: expected 1, 2, 3, 4 or 5")


def _split_number(split: str) -> int:
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: expected train, valid or test")
    return SPLITS.index(split)


def _mapped(path: Path, ndim: int) -> np.ndarray:
    """Returns an array mapped from its .npy file; objects to be unpickled are refused."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "is no array in NumPy's format"
        raise DataError(f"{path}: {reason}") from error
    if not isinstance(array, np.ndarray) or array.ndim != ndim or not len(array):
        raise DataError(f"{path}: expected an array of {ndim} axes that is not empty")
    return array


def _folders(place: Path) -> tuple[str, ...]:
    if not place.is_dir():
        raise DataError(f"{place}: is no folder")
    return tuple(sorted(path.name for path in place.iterdir() if path.is_dir()))


def _by_class(
    lists: Mapping[str, Sequence[tuple[str, Path]]], size: int, enlarged: float
) -> LabeledImages:
    """Returns the pictures of classes, each a list of (name of a group, its folder)."""
    paths: list[Path] = []
    labels, groups, names = [], [], []
    for label, parts in enumerate(lists.values()):
        for name, place in parts:
            _folders(place)  # that there is one
            found = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
            paths += found
            labels += [label] * len(found)
            groups += [len(names)] * len(found)
            names.append(name)
    images = LazyImages(_some(next(iter(lists), "classes"), paths), size, enlarged)
    of_class, of_group = (np.array(values, np.int32) for values in (labels, groups))
    return LabeledImages(images, of_class, of_group, tuple(lists), tuple(names))


def _some(place: object, paths: list[Path]) -> list[Path]:
    if not paths:
        raise DataError(f"{place}: holds no pictures")
    return paths


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Returns the rows of a table separated by commas."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or 'is no text'}") from error
    lacking = [name for name in columns if not rows or rows[0].get(name) is None]
    if lacking:
        raise DataError(f"{path}: lacks the column {lacking[0]!r}")
    return rows


def _numbers(path: Path, rows: Sequence[Mapping[str, str]], name: str, count: int) -> np.ndarray:
    values = [row[name] for row in rows]
    wrong = [value for value in values if value not in map(str, range(count))]
    if wrong:
        raise DataError(f"{path}: {name} is {wrong[0]!r}, expected 0 to {count - 1}")
    return np.array(values, np.int32)


def _celeba_list(folder: Path, name: str, header: Sequence[str] = ()) -> list[dict[str, str]]:
    """Returns the rows of a list of CelebA, which its columns are separated by blanks in.

    Args:
        folder: Where it is.
        name: Without its suffix.
        header: Names of the columns where the file has none; else it begins with a number of rows
            and the names without that of the picture.
    """
    path = folder / f"{name}.txt"
    if not path.exists():
        return _table(folder / f"{name}.csv", ("image_id", *header[1:]))
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not header and len(lines) > 1:
        header, lines = ("image_id", *lines[1]), lines[2:]
    if not lines or any(len(line) != len(header) for line in lines):
        raise DataError(f"{path}: expected rows of a picture and {len(header) - 1} values")
    return [dict(zip(header, line, strict=True)) for line in lines]
