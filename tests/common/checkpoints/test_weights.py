"""Files of weights: what comes back, what other readers see, and what is refused."""

import contextlib
import errno
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from common.checkpoints import weights
from common.errors import DataError, UserError

FORMATS = pytest.mark.parametrize("suffix", weights.SUFFIXES)
FACTS = {"step": 3, "config": {"model": {"width": 2}, "rates": [0.5, None]}, "name": "é"}


def params() -> dict[str, Any]:
    """Arrays that others could get wrong: transposed, of one number, of none, complex."""
    columns = np.arange(6, dtype=np.float32).reshape(2, 3).T
    return {
        "block_0": {"conv": {"kernel": columns, "bias": jnp.ones(3) / 3}},
        "list": [np.int8(-1), np.zeros((0, 2), np.float16)],
        "phase": np.array([1 + 2j], np.complex64),
        "mask": np.array([True, False]),
    }


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        other = np.asarray(wanted[name])
        assert (array.dtype, array.shape) == (other.dtype, other.shape), name
        assert array.tobytes() == other.tobytes(), name


def flat() -> dict[str, Any]:
    block, rest = params()["block_0"]["conv"], params()
    names = {"block_0/conv/kernel": block["kernel"], "block_0/conv/bias": block["bias"]}
    names |= {"list/0": rest["list"][0], "list/1": rest["list"][1]}
    return {**names, "phase": rest["phase"], "mask": rest["mask"]}


@FORMATS
def test_every_bit_comes_back_under_its_path(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    weights.save(first, params(), FACTS)
    weights.save(second, flat(), dict(reversed(FACTS.items())))

    arrays, metadata, sha256 = weights.load(first)

    assert_same(arrays, flat())
    assert metadata == FACTS
    assert first.read_bytes() == second.read_bytes()
    assert sha256 == weights.load(second).sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


def test_other_readers_see_the_same(tmp_path: Path) -> None:
    one, other = tmp_path / "w.safetensors", tmp_path / "w.npz"
    weights.save(one, {**flat(), "half": jnp.full(3, 1.5, jnp.bfloat16)}, FACTS)
    weights.save(other, flat(), FACTS)

    # By hand, as the format is defined: 8 bytes of length, a JSON header, the arrays.
    content = one.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    assert json.loads(header.pop("__metadata__")["lab"])["config"] == FACTS["config"]
    half = header.pop("half")
    assert (half["dtype"], half["shape"]) == ("BF16", [3])
    assert body[slice(*half["data_offsets"])] == b"\xc0\x3f" * 3
    kernel = header["block_0/conv/kernel"]
    found = np.frombuffer(body[slice(*kernel["data_offsets"])], "<f4").reshape(kernel["shape"])
    np.testing.assert_array_equal(found, flat()["block_0/conv/kernel"])
    # By the readers that people use.
    weights.save(one, flat(), FACTS, overwrite=True)
    assert_same(load_file(one), flat())
    archive = dict(np.load(other, allow_pickle=False))
    assert json.loads(archive.pop("__metadata__").item())["step"] == 3
    assert_same(archive, flat())


def test_files_of_others_are_read(tmp_path: Path) -> None:
    one, other = tmp_path / "torch.safetensors", tmp_path / "numpy.npz"
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "fc.weight": entry}).encode()
    one.write_bytes(struct.pack("<Q", len(header)) + header + b"\xc0\x3f" * 2)
    np.savez_compressed(other, **{"fc.weight": np.arange(4)})

    found = weights.load(one)
    assert found.metadata == {"format": "pt"}
    assert_same(found.arrays, {"fc.weight": jnp.full(2, 1.5, jnp.bfloat16)})
    assert_same(weights.load(other).arrays, {"fc.weight": np.arange(4)})


@FORMATS
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    weights.save(path, flat(), FACTS)
    good = path.read_bytes()

    cut = [good[:size] for size in (0, 5, len(good) // 2, len(good) - 1)]
    places = [*range(9, len(good), 41), good.index(flat()["block_0/conv/kernel"].tobytes()) + 4]
    flipped = [good[:i] + bytes([good[i] ^ 4]) + good[i + 1 :] for i in places]
    refused = 0
    for content in (*cut, *flipped):
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            assert_same(weights.load(path).arrays, flat())  # the flip is in what says nothing
            continue
        refused += 1
    assert refused > len(cut) + len(flipped) // 2
    with pytest.raises(DataError, match=rf"{path}: is damaged, or no \{suffix} file: "):
        weights.load(path)  # the last flip is in an array


def test_what_would_run_code_or_has_no_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="damaged.*Python objects, which are not unpickled"):
        weights.load(path)
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    path.write_bytes(stream.getvalue())
    with pytest.raises(DataError, match="one array without a name"):
        weights.load(path)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("w.npz", jnp.bfloat16, r"a/b is bfloat16, which \.npz lacks; \.safetensors does"),
        ("w.safetensors", np.complex128, r"complex128, which \.safetensors lacks; \.npz does"),
        ("w.npz", jnp.int4, r"int4, which \.npz lacks; convert it first"),
        ("w.pt", np.float32, r"w\.pt: the suffix '\.pt' names no format; expected \.safetensors"),
    ],
)
def test_what_a_format_lacks_is_named(tmp_path: Path, name: str, kind: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        weights.save(tmp_path / name, {"a": {"b": np.ones(2, kind)}})
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_if_that_is_asked_for_and_never_by_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.npz"
    weights.save(path, {"a": np.ones(2)})
    with pytest.raises(UserError, match=r"w\.npz: is there already"):
        weights.save(path, {"a": np.zeros(2)})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="No space left on device"):
            weights.save(path, {"a": np.zeros(2)}, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["w.npz"]
    assert_same(weights.load(path).arrays, {"a": np.ones(2)})
    weights.save(path, {"a": np.zeros(2)}, overwrite=True)
    assert_same(weights.load(path).arrays, {"a": np.zeros(2)})
