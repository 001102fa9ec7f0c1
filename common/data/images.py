"""Labeled images from this machine: found, checked against published checksums, never guessed."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Integer, UInt8

from common.data import formats
from common.data.catalogue import (
    ARRAY_SHA256,
    CIFAR_BINARY_ARCHIVE,
    CIFAR_BINARY_FILES,
    CIFAR_BINARY_FOLDER,
    IDX_FILES,
    SAMPLE_SHA256,
    DataSet,
    data_set,
)
from common.data.formats import Arrays
from common.errors import DataError, UserError, nearest
from common.files.storage import user_folder, user_path

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SAMPLE_FOLDER = Path(__file__).parent / "sample"
EMBEDDED = "embedded sample"
SOURCES = ("DATA_DIR", "debian", "fetched", EMBEDDED)  # in the order in which they are searched
MOST_KEPT = 2  # sets in memory: Fashion-MNIST takes 55 MB, CIFAR-10 180 MB
DIGITS_TRAIN = 1_437  # of 1,797 in file order: the usual split without shuffling, 80 to 20


class ImageSet(NamedTuple):
    """A train and a test set of images, uint8 as stored, read-only.

    `name` is what results may call the data; `source` is one of `SOURCES`; `sha256` is taken over
    the decoded arrays and thus the same wherever and however they were stored.
    """

    name: str
    source: str
    train_images: UInt8[np.ndarray, "n_train h w *c"]
    train_labels: Int32[np.ndarray, " n_train"]
    test_images: UInt8[np.ndarray, "n_test h w *c"]
    test_labels: Int32[np.ndarray, " n_test"]
    sha256: str

    @property
    def description(self) -> str:
        """One line for tables and logs: which images, how many, from where."""
        return (
            f"{self.name} ({self.source}; {len(self.train_images):,} train and "
            f"{len(self.test_images):,} test images; sha256 {self.sha256[:12]})"
        )

    def describe(self) -> dict[str, Any]:
        """Returns the facts that a result file keeps about its data."""
        return {
            "name": self.name,
            "source": self.source,
            "train_images": len(self.train_images),
            "test_images": len(self.test_images),
            "sha256": self.sha256,
        }


class Found(NamedTuple):
    """A place that holds a set, wholly or in part; `read` returns its arrays."""

    source: str
    title: str
    path: Path
    read: Callable[[], Arrays]


_KEPT: dict[Any, ImageSet] = {}


def load_images(name: str, source: str | None = None, *, sha256: str | None = None) -> ImageSet:
    """Returns a set of images from the first place that holds it.

    Args:
        name: fashion_mnist, mnist, cifar10, cifar10_lossless or digits8x8. As cifar10, a folder
            with JPEG copies only gives the set named "CIFAR-10 (JPEG copies)".
        source: One of `SOURCES`, or "embedded", to read from there and nowhere else. None or "":
            $DATA_DIR, Debian's package, fetched files, embedded sample, in this order.
        sha256: Checksum of the arrays (`ImageSet.sha256`) that is wanted, None for any: what a
            generated set was made of.

    Raises:
        UserError: If `name` or `source` is unknown.
        DataError: If no place holds the set, or the one that does is incomplete, corrupt or not
            the one wanted.
    """
    entry = data_set(name)
    found = next(_places(entry, _source(source)), None)
    if found is None:
        raise DataError(_missing(entry, source))
    images = _read(found)
    if sha256 is not None and images.sha256 != sha256:
        raise DataError(
            f"{images.description}: sha256 is {images.sha256[:12]}, wanted {sha256[:12]}"
        )
    return images


def find(name: str, fetched: Path | None = None) -> tuple[Found, ...]:
    """Returns every place on this machine that holds the set, in search order; reads nothing.

    Args:
        name: As in `load_images`.
        fetched: Where fetched files are, if not in `fetched_folder()`.
    """
    return tuple(_places(data_set(name), SOURCES, fetched))


def fetched_folder() -> Path:
    """Returns where `lab data fetch` puts files: $LAB_DATA or a folder below ~/.cache."""
    return user_folder("LAB_DATA", "data")


def balanced_indices(
    labels: Integer[np.ndarray, " n"],
    *,
    per_class: int,
    classes: Sequence[int] | None = None,
    skip: int = 0,
) -> Int32[np.ndarray, " m"]:
    """Returns ascending indices of `per_class` examples of each class, after the first `skip`.

    With the same `labels`, (per_class=a) and (per_class=b, skip=a) never overlap.

    Args:
        labels: Class of every example.
        per_class: How many to take of each class.
        classes: Which classes; None means all that occur.
        skip: How many of each class to pass over first.

    Raises:
        UserError: If a class has fewer than `skip + per_class` examples.
    """
    chosen = []
    for label in np.unique(labels) if classes is None else classes:
        places = np.flatnonzero(labels == label)
        if len(places) < skip + per_class:
            raise UserError(
                f"class {label} has {len(places):,} examples, wanted {per_class:,}"
                f"{f' after the first {skip:,}' if skip else ''}; lower the number per class"
            )
        chosen.append(places[skip : skip + per_class])
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def downsample(
    images: UInt8[np.ndarray, "n h w *c"], size: int = 14
) -> Float32[np.ndarray, "n {size} {size} *c"]:
    """Returns the mean grey level (0 to 255) of every block of h / size by w / size pixels.

    Exact where the number of pixels in a block is a power of two, correctly rounded elsewhere.

    Raises:
        UserError: If `size` does not divide height and width.
    """
    n, height, width, *channels = images.shape
    if size < 1 or height % size or width % size:
        raise UserError(
            f"size={size!r} does not divide images of {height} x {width} pixels into whole blocks"
        )
    rows, columns = height // size, width // size
    blocks = images.reshape(n, size, rows, size, columns, *channels)
    sums = blocks.sum(axis=(2, 4), dtype=np.uint32)
    return (sums / (rows * columns)).astype(np.float32)


def _read(found: Found) -> ImageSet:
    """Returns the set of a place; the last ones are kept while their files are as they were.

    Decompressing and checking are slow, and a run asks for its images again and again: for what
    they are called, for their checksum, for every part of its data.
    """
    key = (found.source, found.title, found.path, _stamps(found.path))
    if key not in _KEPT:
        images = _checked(found)
        while len(_KEPT) >= MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)), None)
        _KEPT[key] = images
    return _KEPT[key]


def _stamps(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Returns what changes when a file is written: its number, time and size."""
    with formats.reading(path):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        facts = [(file.name, file.stat()) for file in files]
    return tuple((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in facts)


def _checked(found: Found) -> ImageSet:
    arrays = found.read()
    for field in ("train", "test"):
        images, labels = arrays[f"{field}_images"], arrays[f"{field}_labels"]
        if len(images) != len(labels):
            raise DataError(f"{found.path}: {len(images):,} {field} images, {len(labels):,} labels")
        arrays[f"{field}_labels"] = labels.astype(np.int32)
    for array in arrays.values():
        array.flags.writeable = False
    return ImageSet(found.title, found.source, **arrays, sha256=_arrays_sha256(arrays))


def _source(source: str | None) -> tuple[str, ...]:
    if not source:
        return SOURCES
    chosen = EMBEDDED if source == "embedded" else source
    if chosen not in SOURCES:
        allowed = ("embedded", *SOURCES)
        raise UserError(
            f"no data source {source!r}{nearest(source, allowed)}; allowed: embedded (the sample "
            "that comes with this code), DATA_DIR (the folder that this environment variable "
            "names), debian (the package of the system), fetched (what `lab data fetch` has "
            "downloaded), or nothing for the first of them that has the set"
        )
    return (chosen,)


def _places(
    entry: DataSet, sources: tuple[str, ...], fetched: Path | None = None
) -> Iterator[Found]:
    fashion = entry.key == "fashion_mnist"
    for source in sources:
        folders: list[Path] = []
        if source == "DATA_DIR" and os.environ.get("DATA_DIR"):
            folders = [user_path(os.environ["DATA_DIR"], "DATA_DIR") / f for f in entry.folders]
        elif source == "debian" and fashion:
            folders = [DEBIAN_FOLDER]
        elif source == "fetched":
            folders = [(fetched or fetched_folder()) / entry.key]
        elif source == EMBEDDED and fashion:
            read = partial(_read_idx_set, SAMPLE_FOLDER, SAMPLE_SHA256)
            yield Found(source, entry.title, SAMPLE_FOLDER, read)
        for folder in folders:
            with formats.reading(folder):
                held = _held(entry, folder)
            if held is not None:
                yield Found(source, *held)


def _held(entry: DataSet, folder: Path) -> tuple[str, Path, Callable[[], Arrays]] | None:
    """Returns title, path and reader of what the folder holds of the set, if anything."""
    if entry.key in ("mnist", "fashion_mnist"):
        if any(_idx_path(folder, name) for name in IDX_FILES):
            sums = (download.content_sha256 for download in entry.downloads)
            wanted = dict(zip(IDX_FILES, sums, strict=True))
            return entry.title, folder, partial(_read_idx_set, folder, wanted)
    elif entry.key == "cifar10":
        return _held_cifar10(entry, folder)
    elif entry.key == "cifar10_lossless":
        path = folder / "lossless_subset.npz"
        if path.exists():
            return entry.title, path, partial(_read_lossless, path)
    elif (path := folder / "digits.npz").exists():
        return entry.title, path, partial(_read_digits, path)
    return None


def _held_cifar10(entry: DataSet, folder: Path) -> tuple[str, Path, Callable[[], Arrays]] | None:
    read = formats.read_cifar10_binary
    for path in (folder / CIFAR_BINARY_FOLDER, folder):
        if any((path / name).exists() for name in CIFAR_BINARY_FILES):
            return entry.title, path, partial(read, path)
    archive = folder / CIFAR_BINARY_ARCHIVE
    if archive.exists():
        return entry.title, archive, partial(read, archive, checksum=entry.downloads[0].digest)
    if any(folder.glob("data_batch_*.npz")) or (folder / "test_batch.npz").exists():
        return f"{entry.title} (JPEG copies)", folder, partial(_read_jpeg_copies, folder)
    return None


def _idx_path(folder: Path, name: str) -> Path | None:
    """Returns the IDX file under any of its names; None if there is none."""
    paths = (folder / f"{name}{suffix}" for suffix in ("", ".gz", ".xz"))
    return next((path for path in paths if path.exists()), None)


def _read_idx_set(folder: Path, sha256: dict[str, str]) -> Arrays:
    arrays = []
    for name in IDX_FILES:
        path = _idx_path(folder, name)
        if path is None:
            raise DataError(f"{folder}: is incomplete: lacks {name}.gz")
        arrays.append(formats.read_idx(path, sha256=sha256[name]))
    names = ("train_images", "train_labels", "test_images", "test_labels")
    return dict(zip(names, arrays, strict=True))


def _read_jpeg_copies(folder: Path) -> Arrays:
    arrays = formats.read_cifar10_npz(folder)
    formats.check_arrays(folder, arrays, ARRAY_SHA256["cifar10_jpeg"])
    return arrays


def _read_lossless(path: Path) -> Arrays:
    pixels, labels = (None, 32, 32, 3), (None,)
    shapes = {
        f"{s}_{k}": v
        for s in ("train", "test")
        for k, v in (("images", pixels), ("labels", labels))
    }
    arrays = formats.read_npz(path, shapes)
    formats.check_arrays(path, arrays, ARRAY_SHA256["cifar10_lossless"])
    return arrays


def _read_digits(path: Path) -> Arrays:
    arrays = formats.read_npz(path, {"images": (None, 8, 8), "labels": (None,)})
    formats.check_arrays(path, arrays, ARRAY_SHA256["digits8x8"])
    images, labels = arrays["images"], arrays["labels"]
    return {
        "train_images": images[:DIGITS_TRAIN],
        "train_labels": labels[:DIGITS_TRAIN],
        "test_images": images[DIGITS_TRAIN:],
        "test_labels": labels[DIGITS_TRAIN:],
    }


def _arrays_sha256(arrays: Arrays) -> str:
    checksum = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        checksum.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        checksum.update(array.data)
    return checksum.hexdigest()


def _missing(entry: DataSet, source: str | None) -> str:
    folder = entry.folders[0]
    data_dir = os.environ.get("DATA_DIR", "")
    looked = f"source {source!r}" if source else f"DATA_DIR={data_dir!r}, {fetched_folder()}"
    if entry.downloads:
        way = f"run `lab data fetch {entry.key}` ({entry.size})"
    else:
        way = f"copy it to $DATA_DIR/{folder}/; it cannot be fetched"
    return f"no {entry.title} found ({looked}): {way}"
