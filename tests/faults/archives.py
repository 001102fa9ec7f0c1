"""Hostile archives and files of arrays: that lead out, blow up, run code, or never end."""

import gzip
import io
import json
import lzma
import os
import pickle
import resource
import signal
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.checkpoints import weights
from common.data import fetch, formats
from common.data.catalogue import DATA_SETS
from common.errors import LabError
from tests.faults.nursery import apart

SECONDS, BYTES = 20, 1 << 30  # what a reader may take
RECORDS = 10
ENTRY = DATA_SETS["cifar10"]._replace(member_bytes=RECORDS * 3073)
TOP = Path(ENTRY.members[0]).parts[0]
Case = tuple[str, bytes, Callable[[Path], Any]]  # file name, content, reader


class Runs:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def tar(*members: tuple[str, bytes, dict[str, Any]], pax: dict[str, str] | None = None) -> bytes:
    """Returns a tar.gz of the six files of CIFAR-10, and these members."""
    good = bytes(np.tile(np.arange(RECORDS, dtype=np.uint8)[:, np.newaxis], (1, 3073)))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content, changes in [*((m, good, {}) for m in ENTRY.members), *members]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.pax_headers = pax or {}
            for field, value in changes.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def npz(content: bytes, *, name: str = "images.npy", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a zip of one member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def npy(header: str) -> bytes:
    """Returns an array file with this header, and 16 bytes."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16)


def safetensors(header: Any, *, size: int | None = None, body: bytes = bytes(64)) -> bytes:
    """Returns a file with this header, which may lie about its size."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def cases() -> dict[str, Case]:
    """Returns every file with its reader, by what is wrong with it."""
    return {**_tars(), **_arrays(), **_tensors(), **_images()}


def _tars() -> dict[str, Case]:
    unpack = lambda path: fetch._unpack(path, path.parent, ENTRY)
    link = dict(type=tarfile.SYMTYPE)
    found = {
        "leads up": tar(("../evil", b"x", {})),
        "leads up from below": tar((f"{TOP}/../../evil", b"x", {})),
        "is absolute": tar(("/tmp/evil", b"x", {})),
        "leads up as on Windows": tar(("..\\evil", b"x", {})),
        "a link out": tar((f"{TOP}/l", b"", {**link, "linkname": "/etc/passwd"})),
        "a file through a link": tar(
            (f"{TOP}/l", b"", {**link, "linkname": "../.."}), (f"{TOP}/l/evil", b"x", {})
        ),
        "a hard link out": tar((f"{TOP}/h", b"", dict(type=tarfile.LNKTYPE, linkname="../evil"))),
        "a device": tar((f"{TOP}/d", b"", dict(type=tarfile.CHRTYPE))),
        "a pipe": tar((f"{TOP}/p", b"", dict(type=tarfile.FIFOTYPE))),
        "a member twice": tar((ENTRY.members[0], bytes(ENTRY.member_bytes), {})),
        "a large member": tar((f"{TOP}/x", bytes(2 << 20), {})),
        "many members": tar(*((f"{TOP}/{k}", b"", {}) for k in range(2_000))),
        "another name in its extended header": tar(pax={"path": "../evil"}),
        "cut off": tar()[:200],
        "no archive": b"\x1f\x8b" + bytes(100),
    }
    return {
        f"tar: {name}": (f"{k}.tar.gz", content, unpack)
        for k, (name, content) in enumerate(found.items())
    }


def _arrays() -> dict[str, Case]:
    def one(path: Path) -> Any:
        return formats.read_npz(path, {"images": (None,)})

    stream = io.BytesIO()
    np.save(stream, np.array([Runs()], dtype=object), allow_pickle=True)
    bomb = npz(
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (6442450944,), }") + bytes(6 << 20)
    )
    locked = bytearray(npz(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (16,), }")))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    found = {
        "code in an array": npz(stream.getvalue()),
        "more entries than bytes": bomb,
        "code in a header": npz(npy("{'descr': __import__('os').system('touch ran')}")),
        "a header without end": npz(npy("(" * 60_000)),
        "encrypted": bytes(locked),
        "a pickle": pickle.dumps(Runs()),
    }
    listed: dict[str, Case] = {
        f"npz: {name}": (f"{k}.npz", content, one)
        for k, (name, content) in enumerate(found.items())
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        header = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (536870912,), }")[:-16]
        for k in range(3):  # of 512 MiB each
            archive.writestr(f"w{k}.npy", header + bytes(512 << 20))
    listed["weights: code in an array"] = ("8.npz", npz(stream.getvalue()), weights.load)
    listed["weights: 1.5 GiB in 7 MiB"] = ("9.npz", content.getvalue(), weights.load)
    return listed


def _tensors() -> dict[str, Case]:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    deep = b"[" * 100_000 + b"]" * 100_000
    found = {
        "a header of 2^63 bytes": safetensors({}, size=2**63),
        "offsets behind the end": safetensors({"a": {**entry, "data_offsets": [0, 1 << 40]}}),
        "negative offsets": safetensors({"a": {**entry, "data_offsets": [-16, 0]}}),
        "arrays that overlap": safetensors({"a": entry, "b": entry}),
        "a shape that overflows": safetensors({"a": {**entry, "shape": [1 << 40, 1 << 40]}}),
        "a type nobody has": safetensors({"a": {**entry, "dtype": "F7"}}),
        "a header without end": safetensors(deep),
        "metadata without end": safetensors(
            {"__metadata__": {"jax-paper-lab": deep.decode()}, "a": entry}, body=bytes(16)
        ),
        "names that lead up": safetensors({"../../evil": entry}, body=bytes(16)),
    }
    return {
        f"safetensors: {name}": (f"{k}.safetensors", content, weights.load)
        for k, (name, content) in enumerate(found.items())
    }


def _images() -> dict[str, Case]:
    head = b"\0\0\x08\x03" + struct.pack(">3I", 60_000, 28, 28)
    huge = b"\0\0\x08\x04" + struct.pack(">4I", *[2**32 - 1] * 4)
    zeros = gzip.compress(bytes(64 << 20), 1) * 16  # 1 GiB
    return {
        "idx: sizes that overflow": ("a.idx", huge, formats.read_idx),
        "idx: 1 GiB in 1 MiB": ("b.gz", gzip.compress(head) + zeros, formats.read_idx),
        "idx: an xz that blows up": (
            "c.xz",
            lzma.compress(head + bytes(64 << 20), preset=0),
            formats.read_idx,
        ),
        "cifar: a folder in the place of a file": (
            "d.tar.gz",
            tar()[::-1],
            formats.read_cifar10_binary,
        ),
    }


def campaign(folder: Path) -> dict[str, Any]:
    """Reads every file with its reader, in a process of its own with bounded memory and time.

    Returns:
        Counts, and what was not harmless: refused in one line, or read without any effect.
    """
    outcomes = {}
    for name, case in cases().items():
        place = folder / str(len(outcomes)) / "inner"
        place.mkdir(parents=True)
        outcomes[name] = apart(lambda case=case, place=place: _outcome(case, place), folder)
    bad = {
        name: outcome for name, outcome in outcomes.items() if outcome not in ("refused", "read")
    }
    return {"files": len(outcomes), "harmless": len(outcomes) - len(bad), "failures": bad}


def _outcome(case: Case, place: Path) -> str:
    name, content, read = case
    os.chdir(place)
    path = place / name
    path.write_bytes(content)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    before = _held()
    resource.setrlimit(resource.RLIMIT_AS, (before + BYTES, before + BYTES))
    try:
        read(path)
        outcome = "read"
    except LabError as error:
        outcome = "refused" if "\n" not in str(error) else f"many lines: {error}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"[:300]
    outside = [p.name for p in place.parent.rglob("*") if "evil" in p.name or p.name == "ran"]
    outside += ["/tmp/evil"] if os.path.lexists("/tmp/evil") else []
    return f"wrote {outside}" if outside else outcome


def _held() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
