"""Readers give back what was written, and refuse whatever was damaged in one line."""

import gzip
import hashlib
import io
import lzma
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.data import formats
from common.data.catalogue import CIFAR_BINARY_FILES
from common.errors import DataError

RECORDS = 20  # of each batch of the small CIFAR-10 made here


def idx(array: np.ndarray) -> bytes:
    """The IDX format by its definition: magic 0 0 8 rank, big-endian sizes, bytes."""
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def one_line(path: Path, read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as info:
        read()
    message = str(info.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("shape", [(7,), (3, 5, 4), (0, 28, 28)])
@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_idx_files_read_as_written_however_compressed(
    tmp_path: Path, shape: tuple[int, ...], suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(pack(idx(array)))

    read = formats.read_idx(path, sha256=hashlib.sha256(idx(array)).hexdigest())

    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.uint8


GOOD = idx(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty", b"", "is not an IDX file"),
        ("magic", b"\0\0\x0d\3" + GOOD[4:], "is not an IDX file"),
        ("html", b"<html>not found</html>", "is not an IDX file"),
        ("header", GOOD[:9], "is cut short"),
        ("body", GOOD[:-1], "= 60 bytes, found 59"),
        ("longer", GOOD + b"x", "= 60 bytes, found more"),
        ("huge", b"\0\0\x08\3" + b"\xff" * 12, "more than"),
        ("cut.gz", gzip.compress(GOOD)[:-9], "is cut short"),
        ("cut.xz", lzma.compress(GOOD)[:-9], "is cut short"),
        ("plain.gz", GOOD, "cannot be read"),
        ("plain.xz", GOOD, "is corrupt"),
        ("other", GOOD[:-1] + b"\0", "is not what it was published as"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_damaged_idx_files_are_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    checksum = hashlib.sha256(GOOD).hexdigest()
    assert reason in one_line(path, lambda: formats.read_idx(path, sha256=checksum))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in one_line(tmp_path / "no", lambda: formats.read_idx(tmp_path / "no"))
    assert "cannot be read" in one_line(tmp_path, lambda: formats.read_idx(tmp_path))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_no_flipped_bit_of_a_compressed_idx_file_changes_what_is_read(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(GOOD)
    path = tmp_path / f"file{suffix}"
    refused = 0
    for position in range(0, 8 * len(packed), 5):  # bits of every byte
        damaged = bytearray(packed)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            array = formats.read_idx(path)
        except DataError:
            refused += 1
        else:  # such as the time stamp in the header of gz
            assert idx(array) == GOOD
    assert refused > 0.7 * 8 * len(packed) / 5


def cifar_batch(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), RECORDS // 10))
    pixels = rng.integers(0, 256, (RECORDS, 3072), np.uint8)
    return np.concatenate([labels[:, None], pixels], axis=1).tobytes()


def cifar_batches() -> dict[str, bytes]:
    return {name: cifar_batch(seed) for seed, name in enumerate(CIFAR_BINARY_FILES)}


def write_cifar(folder: Path, batches: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in batches.items():
        (folder / name).write_bytes(content)
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_cifar10_records_are_a_label_and_three_planes(tmp_path: Path) -> None:
    batches = cifar_batches()
    folder = write_cifar(tmp_path / "bin", batches)

    arrays = formats.read_cifar10_binary(folder, records=RECORDS)

    assert arrays["train_images"].shape == (5 * RECORDS, 32, 32, 3)
    for split, image, name, record in (
        ("train", 2 * RECORDS + 3, "data_batch_3.bin", 3),
        ("test", 7, "test_batch.bin", 7),
    ):
        raw = batches[name][record * 3073 : (record + 1) * 3073]
        assert arrays[f"{split}_labels"][image] == raw[0]
        for row, column, channel in ((0, 0, 0), (31, 0, 1), (5, 17, 2)):
            pixel = raw[1 + channel * 1024 + row * 32 + column]
            assert arrays[f"{split}_images"][image, row, column, channel] == pixel


def test_cifar10_reads_the_same_from_archive_and_folder(tmp_path: Path) -> None:
    batches = cifar_batches()
    folder = write_cifar(tmp_path / "bin", batches)
    members = {f"cifar-10-batches-bin/{name}": content for name, content in batches.items()}
    archive = write_tar(
        tmp_path / "a.tar.gz", {**members, "cifar-10-batches-bin/readme.html": b"x"}
    )
    checksum = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()

    packed = formats.read_cifar10_binary(archive, checksum=checksum, records=RECORDS)

    unpacked = formats.read_cifar10_binary(folder, records=RECORDS)
    for name, array in unpacked.items():
        np.testing.assert_array_equal(packed[name], array)


def test_damaged_cifar10_is_refused(tmp_path: Path) -> None:
    batches = cifar_batches()
    label_10 = b"\x0a" + batches["test_batch.bin"][1:]
    other_class = bytes([(batches["test_batch.bin"][0] + 1) % 10]) + batches["test_batch.bin"][1:]
    cases = {
        "lacks data_batch_2.bin": {k: v for k, v in batches.items() if k != "data_batch_2.bin"},
        "data_batch_4.bin has 61,459 bytes, wanted 61,460": {
            **batches,
            "data_batch_4.bin": batches["data_batch_4.bin"][:-1],
        },
        "test has label 10": {**batches, "test_batch.bin": label_10},
        "wanted equal numbers": {**batches, "test_batch.bin": other_class},
    }
    for number, (reason, damaged) in enumerate(cases.items()):
        folder = write_cifar(tmp_path / str(number), damaged)
        read = lambda folder=folder: formats.read_cifar10_binary(folder, records=RECORDS)
        assert reason in one_line(folder, read)

    archive = write_tar(tmp_path / "a.tar.gz", batches)
    read = lambda: formats.read_cifar10_binary(archive, checksum="md5:0", records=RECORDS)
    assert "md5 is" in one_line(archive, read)
    archive.write_bytes(archive.read_bytes()[:50_000])
    one_line(archive, lambda: formats.read_cifar10_binary(archive, records=RECORDS))


def test_checksums_beside_unpacked_cifar10_are_heeded(tmp_path: Path) -> None:
    batches = cifar_batches()
    folder = write_cifar(tmp_path / "bin", batches)
    lines = [f"{hashlib.sha256(v).hexdigest()}  {k}\n" for k, v in batches.items()]
    (folder / "SHA256SUMS").write_text("".join(lines))
    formats.read_cifar10_binary(folder, records=RECORDS)

    flipped = bytearray(batches["data_batch_1.bin"])
    flipped[1000] ^= 4
    (folder / "data_batch_1.bin").write_bytes(flipped)

    read = lambda: formats.read_cifar10_binary(folder, records=RECORDS)
    assert "is not what it was published as" in one_line(folder / "data_batch_1.bin", read)


def test_npz_gives_the_wanted_arrays_only_as_declared(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.savez(path, images=images, labels=np.zeros(2), extra=np.array([{}], dtype=object))

    read = formats.read_npz(path, {"images": (None, 4, 4)})  # the pickle beside it stays untouched

    assert list(read) == ["images"]
    np.testing.assert_array_equal(read["images"], images)
    for shapes, reason in (
        ({"none": (None,)}, "holds no array 'none'"),
        ({"labels": (None,)}, "labels is float64"),
        ({"images": (None, 4, 5)}, "wanted uint8 (any, 4, 5)"),
        ({"images": (None, 4)}, "wanted uint8 (any, 4)"),
        ({"extra": (None,)}, "Python objects, which are not unpickled"),
    ):
        assert reason in one_line(path, lambda shapes=shapes: formats.read_npz(path, shapes))


def test_no_flipped_bit_of_an_npz_changes_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    labels = np.arange(40, dtype=np.uint8)
    np.savez(path, labels=labels)
    good = path.read_bytes()
    refused = 0
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            read = formats.read_npz(path, {"labels": (None,)})
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(read["labels"], labels)
    assert refused > 0.5 * len(good)


def test_a_cut_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, labels=np.arange(40, dtype=np.uint8))
    good = path.read_bytes()
    for length in (0, 10, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        one_line(path, lambda: formats.read_npz(path, {"labels": (None,)}))
