"""Readers of image files: IDX, the binary version of CIFAR-10, npz. None of them unpickles.

A file that is missing, cut short, corrupt or not what it should be is a DataError of one line
that names the file and what is wrong with it.
"""

import contextlib
import gzip
import hashlib
import io
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from common.data.catalogue import CIFAR_BINARY_FILES
from common.errors import DataError
from common.files.numpy_files import read_npy
from common.files.storage import digest

try:  # some Pythons are built without it
    import lzma

    _LZMA_ERRORS: tuple[type[Exception], ...] = (lzma.LZMAError,)
except ImportError:
    lzma, _LZMA_ERRORS = None, ()

Arrays = dict[str, np.ndarray]

# RuntimeError: zipfile, for what a flipped bit declares as encrypted or of an unknown method.
_CORRUPT = (zlib.error, zipfile.BadZipFile, tarfile.TarError, ValueError, RuntimeError)
_MAX_BYTES = 1 << 30  # of one array; the largest known here has 154 MB
SUMS_FILE = "SHA256SUMS"  # in the format of sha256sum
_CIFAR_RECORD = 1 + 3 * 32 * 32  # label, then the red, green and blue plane


@contextlib.contextmanager
def reading(path: Path) -> Generator[None, None, None]:
    """Turns whatever a damaged file does to its reader into a DataError that names `path`."""
    try:
        yield
    except (EOFError, struct.error) as error:
        raise DataError(f"{path}: is cut short: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (*_CORRUPT, *_LZMA_ERRORS) as error:
        raise DataError(f"{path}: is corrupt: {' '.join(str(error).split())}") from error


def read_idx(path: Path, *, sha256: str = "") -> UInt8[np.ndarray, "..."]:
    """Returns the bytes of an IDX file (big-endian header), plain, `.gz` or `.xz`.

    Args:
        path: The file; its suffix says how it is compressed.
        sha256: What the decompressed file must have; not checked if empty.

    Raises:
        DataError: If magic number, sizes, length or checksum are wrong.
    """
    with reading(path), _open(path) as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
            raise DataError(
                f"{path}: is not an IDX file of bytes: it starts with {magic.hex() or 'nothing'}, "
                "wanted 00000801 to 00000804"
            )
        header = stream.read(4 * magic[3])
        shape = struct.unpack(f">{magic[3]}I", header)
        size = math.prod(shape)
        if size > _MAX_BYTES:
            raise DataError(f"{path}: its header declares {shape}, more than {_MAX_BYTES:,} bytes")
        body = stream.read(size + 1)  # one more: reaches the end, where gz and xz check themselves
    if len(body) != size:
        found = f"{len(body):,}" if len(body) < size else "more"
        raise DataError(f"{path}: its header declares {shape} = {size:,} bytes, found {found}")
    if sha256:
        check_sha256(path, hashlib.sha256(magic + header + body).hexdigest(), sha256)
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_cifar10_binary(path: Path, *, checksum: str = "", records: int = 10_000) -> Arrays:
    """Returns CIFAR-10 from its binary version: images [n, 32, 32, 3] RGB and labels, as uint8.

    The train order is that of the binary version, which is not the one of the Python version.

    Args:
        path: The `.tar.gz`, or a folder with `data_batch_1.bin` to `_5.bin` and `test_batch.bin`.
        checksum: "algorithm:hex" the archive must have; not checked if empty.
        records: Images in each of the six files.

    Raises:
        DataError: If a file is missing or has another size, a label is above 9, or the classes do
            not have the same number of images.
    """
    with reading(path):
        blobs = _cifar_folder(path) if path.is_dir() else _cifar_archive(path, checksum, records)
    batches = []
    for name in CIFAR_BINARY_FILES:
        if name not in blobs:
            raise DataError(f"{path}: lacks {name}")
        if len(blobs[name]) != records * _CIFAR_RECORD:
            raise DataError(
                f"{path}: {name} has {len(blobs[name]):,} bytes, "
                f"wanted {records * _CIFAR_RECORD:,} ({records:,} records of {_CIFAR_RECORD})"
            )
        batches.append(np.frombuffer(blobs[name], np.uint8).reshape(records, _CIFAR_RECORD))
    arrays: Arrays = {}
    for split, rows in (("train", np.concatenate(batches[:5])), ("test", batches[5])):
        labels = rows[:, 0].copy()
        _check_balanced(path, split, labels)
        planes = rows[:, 1:].reshape(-1, 3, 32, 32)
        arrays[f"{split}_images"] = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        arrays[f"{split}_labels"] = labels
    return arrays


def read_cifar10_npz(folder: Path) -> Arrays:
    """Returns the 60,000 images of `data_batch_1.npz` to `_5.npz` and `test_batch.npz`.

    These are decoded JPEG copies, not CIFAR-10: whoever shows results must call them so.
    """
    shapes = {"images": (None, 32, 32, 3), "labels": (None,)}
    batches = [read_npz(folder / f"data_batch_{i}.npz", shapes) for i in range(1, 6)]
    test = read_npz(folder / "test_batch.npz", shapes)
    return {
        "train_images": np.concatenate([batch["images"] for batch in batches]),
        "train_labels": np.concatenate([batch["labels"] for batch in batches]),
        "test_images": test["images"],
        "test_labels": test["labels"],
    }


def read_npz(path: Path, shapes: Mapping[str, tuple[int | None, ...]]) -> Arrays:
    """Returns the named uint8 arrays of an npz file.

    Args:
        path: The file; what else it holds is ignored.
        shapes: Shape of each wanted array; None where any size will do.

    Raises:
        DataError: If an array is missing, of another type or shape, or does not have its CRC.
    """
    arrays: Arrays = {}
    with reading(path), zipfile.ZipFile(path) as archive:
        for name, shape in shapes.items():
            member = f"{name}.npy"
            if member not in archive.namelist():
                raise DataError(f"{path}: holds no array {name!r}")
            if archive.getinfo(member).file_size > _MAX_BYTES:
                raise DataError(f"{path}: {name} has more than {_MAX_BYTES:,} bytes")
            content = archive.read(member)  # whole, which checks the CRC
            array = read_npy(content)
            fits = len(array.shape) == len(shape) and all(
                want in (None, got) for got, want in zip(array.shape, shape, strict=True)
            )
            if array.dtype != np.uint8 or not fits:
                wanted = ", ".join("any" if size is None else str(size) for size in shape)
                raise DataError(
                    f"{path}: {name} is {array.dtype} {array.shape}, wanted uint8 ({wanted})"
                )
            arrays[name] = array
    return arrays


def read_sums(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of files by name, as SHA256SUMS in the folder has them; {} without it."""
    path = folder / SUMS_FILE
    with reading(path):
        text = path.read_text(errors="replace") if path.exists() else ""
    rows = (line.partition("  ") for line in text.splitlines())
    return {name: checksum for checksum, _, name in rows}


def check_arrays(path: Path, arrays: Arrays, wanted: Mapping[str, str]) -> None:
    """Raises DataError unless every array named in `wanted` has its SHA-256 (C order)."""
    for name, checksum in wanted.items():
        got = hashlib.sha256(np.ascontiguousarray(arrays[name]).data).hexdigest()
        check_sha256(path, got, checksum, name)


def check_sha256(path: Path, got: str, wanted: str, part: str = "content") -> None:
    """Raises DataError if two checksums differ."""
    if got != wanted:
        raise DataError(
            f"{path}: {part} is not what it was published as: its sha256 starts with {got[:12]}, "
            f"wanted {wanted[:12]}"
        )


def _open(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix != ".xz":
        return path.open("rb")
    if lzma is None:
        raise DataError(
            f"{path}: this Python was built without lzma; use one that has it, "
            "or set DATA_DIR to a folder with fashion_mnist/*.gz"
        )
    return lzma.open(path)


def _cifar_folder(folder: Path) -> dict[str, bytes]:
    """Returns the files that are there, checked if checksums lie beside them."""
    paths = [folder / name for name in CIFAR_BINARY_FILES if (folder / name).exists()]
    blobs = {path.name: path.read_bytes() for path in paths}
    sums = read_sums(folder)
    for name in blobs.keys() & sums.keys():
        check_sha256(folder / name, hashlib.sha256(blobs[name]).hexdigest(), sums[name])
    return blobs


def _cifar_archive(path: Path, checksum: str, records: int) -> dict[str, bytes]:
    if checksum:
        algorithm, _, wanted = checksum.partition(":")
        got = digest(path, algorithm)
        if got != wanted:
            raise DataError(f"{path}: {algorithm} is {got}, wanted {wanted}")
    blobs = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = Path(member.name).name
            if name not in CIFAR_BINARY_FILES or not member.isreg():
                continue
            if member.size != records * _CIFAR_RECORD:
                raise DataError(
                    f"{path}: {name} has {member.size:,} bytes, wanted {records * _CIFAR_RECORD:,}"
                )
            stream = archive.extractfile(member)
            blobs[name] = stream.read() if stream else b""
    return blobs


def _check_balanced(path: Path, split: str, labels: UInt8[np.ndarray, " n"]) -> None:
    counts = np.bincount(labels, minlength=10)
    if len(counts) > 10:
        raise DataError(f"{path}: {split} has label {len(counts) - 1}, wanted 0 to 9")
    if counts.min() != counts.max():
        raise DataError(
            f"{path}: {split} has {counts.tolist()} images a class, wanted equal numbers"
        )
