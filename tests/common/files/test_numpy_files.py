"""Arrays in NumPy's format are read as they were written, or refused before they take memory."""

import io
import struct
import zipfile

import numpy as np
import pytest

from common.files.numpy_files import FREE_BYTES, check_sizes, read_npy


def written(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.zeros((0, 4), np.uint8),
        np.array(3 + 4j),
        np.array("text"),
        np.zeros(2, [("a", "f4"), ("b", "i8", (2,))]),
    ],
    ids=lambda array: f"{array.dtype}",
)
def test_an_array_comes_back_as_numpy_reads_it(array: np.ndarray) -> None:
    found = read_npy(written(array))

    assert found.dtype == array.dtype and found.shape == array.shape
    assert found.flags.writeable and found.tobytes() == array.tobytes()
    assert found.flags.f_contiguous == array.flags.f_contiguous


def headed(header: str, body: bytes = bytes(16)) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            headed("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }"),
            "declares",
        ),
        (headed("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -4), }"), "declares"),
        (headed("{'descr': '|u1', 'fortran_order': False, 'shape': (15,), }"), "it has 16"),
        (headed("{'descr': __import__('os').system('true')}"), "its header is none"),
        (headed("(" * 9_000), "its header is none"),
        (headed("'''"), "its header is none"),
        (written(np.array([{}], dtype=object), allow_pickle=True), "Python objects"),
        (b"\x93NUMPY\x03\x00", "version 3.0"),
        (b"", "magic"),
    ],
)
def test_what_is_no_array_is_refused_in_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as info:
        read_npy(content)
    assert "\n" not in str(info.value)


def test_an_archive_may_grow_but_not_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [zipfile.ZipInfo("a"), zipfile.ZipInfo("b")]
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    monkeypatch.setattr(archive, "infolist", lambda: members)
    for member in members:
        member.file_size = FREE_BYTES // 2
    check_sizes(archive, 10)  # small things may be of zeros
    members[0].file_size += 1
    with pytest.raises(ValueError, match="its 10 bytes would become 1,073,741,825"):
        check_sizes(archive, 10)
    check_sizes(archive, FREE_BYTES // 40)
