"""Weights in files that others write and read: `.safetensors` and `.npz`, nothing pickled.

A name in a file is the path of an array, "block_0/conv/kernel". What a file of ours says besides is
one JSON text: the entry "lab" of the metadata of a `.safetensors` file, the member `__metadata__`
of a `.npz` file. Equal arrays and metadata give equal bytes. Nothing here needs JAX but `save`.
"""

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import DataError, UserError, shortened
from common.files import json_files
from common.files.numpy_files import check_sizes, read_npy
from common.files.storage import storage_errors, user_path, write_file

PyTree = Any
Arrays = dict[str, np.ndarray]
SUFFIXES = (".safetensors", ".npz")
STATISTICS = "model_state/"
_OURS = "lab"  # our entry in the metadata of a .safetensors file
_MEMBER = "__metadata__"  # our member of a .npz file
_CHECKSUM = "arrays_sha256"
# The numbers that a .safetensors file may hold, by the names it has for them.
_SAFETENSORS = {
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_DAMAGED = (ValueError, TypeError, KeyError, EOFError, OSError, RuntimeError, OverflowError)
_DAMAGED += (AttributeError, SyntaxError, zlib.error, zipfile.BadZipFile)


class Weights(NamedTuple):
    """What a file holds: its arrays by name, what it says besides, and its own SHA-256."""

    arrays: Arrays
    metadata: dict[str, Any]
    sha256: str


def save(
    path: str | Path,
    params: PyTree,
    metadata: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Writes the arrays of a pytree under their paths; readers see all of the file or none of it.

    Args:
        path: The file; its suffix is its format.
        params: Pytree of arrays, or a dict of them by name.
        metadata: Plain values, as JSON has them.
        overwrite: Whether a file that is there is replaced.

    Raises:
        UserError: If a file is there, the suffix is another, or the format lacks the type of an
            array.
        DataError: If it cannot be written.
    """
    from common.checkpoints.snapshot import flatten

    path = check_target(path, overwrite=overwrite)
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in sorted(flatten(params).items())}
    lacking = [name for name, array in arrays.items() if not _holds(path.suffix, array.dtype)]
    if lacking:
        kind = arrays[lacking[0]].dtype
        other = next((s for s in SUFFIXES if _holds(s, kind)), "")
        advice = f"{other} does" if other else "convert it first, to float32 for one"
        raise UserError(f"{path}: {lacking[0]} is {kind}, which {path.suffix} lacks; {advice}")
    facts = json_files.sealed({**(metadata or {}), _CHECKSUM: _checksum(arrays)})
    text = json.dumps(facts, sort_keys=True)
    content = _npz(arrays, text) if path.suffix == ".npz" else _safetensors(arrays, text)
    write_file(path, content)


def load(path: str | Path) -> Weights:
    """Returns what a file holds, whoever made it.

    Raises:
        UserError: If there is no such file, or it has another suffix.
        DataError: If it cannot be read, or is damaged.
    """
    path = check_source(path)
    with storage_errors(path):
        content = path.read_bytes()
    try:
        read = _read_npz if path.suffix == ".npz" else _read_safetensors
        arrays, facts = read(content)
        if json_files.is_edited(facts) or facts.get(_CHECKSUM) not in (None, _checksum(arrays)):
            raise ValueError("it is not as it was written")
    except _DAMAGED as error:
        reason = shortened(" ".join(str(error).split()) or type(error).__name__, 200)
        raise DataError(f"{path}: is damaged, or no {path.suffix} file: {reason}") from error
    metadata = {k: v for k, v in facts.items() if k not in (_CHECKSUM, json_files.SEAL)}
    return Weights(dict(sorted(arrays.items())), metadata, hashlib.sha256(content).hexdigest())


def names(paths: Iterable[str]) -> dict[str, str]:
    """Returns {name in a file: path in a state} of those paths of a state that are weights.

    Parameters go by their own paths, statistics of a network by "model_state/...".

    Raises:
        UserError: If there are no parameters, or two paths have the same name.
    """
    parts = ("params", STATISTICS[:-1])
    chosen = [path for path in paths if path.partition("/")[0] in parts]
    found = {path.removeprefix("params/"): path for path in chosen}
    if not any(path.partition("/")[0] == "params" for path in chosen):
        raise UserError("the state of an experiment needs a field `params` for this")
    if len(found) < len(chosen):
        raise UserError(f"its parameters may not be called {STATISTICS[:-1]!r}")
    return found


def is_weights(text: str) -> bool:
    """Returns whether a text names a file of weights by its suffix, and is no folder."""
    return Path(text).suffix in SUFFIXES and not os.path.isdir(user_path(text))


def check_target(path: str | Path, *, overwrite: bool = False) -> Path:
    """Returns the path of a file that is to be written, having checked all that can be before.

    Raises:
        UserError: If its suffix is another, or it is there and may not be replaced.
        DataError: If its folder is not there or cannot be written.
    """
    path = _check_suffix(user_path(path))
    if os.path.lexists(path) and not (overwrite and path.is_file()):
        raise UserError(f"{path}: is there already; --overwrite replaces a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"{path.parent}: is no folder that can be written")
    return path


def check_source(path: str | Path) -> Path:
    """Returns the path of a file that is to be read.

    Raises:
        UserError: If there is no such file, or it has another suffix.
    """
    path = _check_suffix(user_path(path))
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    return path


def _check_suffix(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path}: the suffix {path.suffix!r} names no format; expected {' or '.join(SUFFIXES)}"
        )
    return path


def _holds(suffix: str, kind: np.dtype) -> bool:
    """Returns whether a format has a type of numbers."""
    if suffix == ".npz":  # NumPy writes the types of other libraries as nameless bytes
        return kind.isbuiltin == 1 and kind.kind in "biufc"
    return kind.name in _SAFETENSORS.values()


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of arrays: names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _safetensors(arrays: Arrays, text: str) -> bytes:
    from safetensors.numpy import save as serialized

    return serialized(arrays, {_OURS: text})  # one entry: it writes several in any order


def _read_safetensors(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    import ml_dtypes
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    arrays = {}
    for name, entry in found:
        if entry["dtype"] not in _SAFETENSORS:
            raise ValueError(f"{name} is {entry['dtype']}, which NumPy lacks")
        kind = _SAFETENSORS[entry["dtype"]]
        dtype = np.dtype(getattr(ml_dtypes, kind, kind))
        arrays[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    size = int.from_bytes(content[:8], "little")  # of the header, which is JSON
    metadata = json_files.parse(content[8 : 8 + size]).get("__metadata__") or {}
    return arrays, json_files.parse(metadata[_OURS]) if _OURS in metadata else metadata


def _npz(arrays: Arrays, text: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:  # np.savez writes the time of day, too
        for name, array in {_MEMBER: np.array(text), **arrays}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    return content.getvalue()


def _read_npz(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    if content.startswith(b"\x93NUMPY"):
        raise ValueError("it holds one array without a name")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_sizes(archive, len(content))
        arrays = {
            name.removesuffix(".npy"): read_npy(archive.read(name)) for name in archive.namelist()
        }
    text = arrays.pop(_MEMBER, None)
    return arrays, {} if text is None else json_files.parse(text.item())
