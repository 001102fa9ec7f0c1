"""Generated sets on disk: a pure function of a frozen spec is run once, its arrays kept.

An entry is a folder `<cache>/<function>/<key>` with `arrays.npz` and `MANIFEST.json` (spec and
SHA-256). It appears by one rename when it is complete, so that neither a killed process nor a
second one at work sees half of it. The cache is `cache/` in $LAB_CACHE (`~/.cache/jax-paper-lab`
without); any entry may be deleted at any time.
"""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from absl import logging

from common.files import json_files
from common.files.storage import digest, lock, publish, storage_errors, user_folder

Arrays = dict[str, np.ndarray]
Spec = TypeVar("Spec", bound=tuple[Any, ...])  # a NamedTuple

_ARRAYS, _MANIFEST = "arrays.npz", "MANIFEST.json"
_PLAIN_KINDS = "biufcSU"  # what npz stores without pickle and without losing the type


def cached(spec: Spec, generate: Callable[[Spec], Arrays]) -> Arrays:
    """Returns `generate(spec)`, from disk if it was made before.

    Processes that ask for the same set at the same time wait for the one that makes it. An entry
    that does not match its manifest is reported and made again.

    Args:
        spec: All that the arrays depend on: a NamedTuple of numbers, strings, bools, None and
            tuples of these (also NamedTuples), with a field `version`, which is raised whenever
            `generate` changes what it returns.
        generate: A function at the top level of a module; pure, may take long.

    Raises:
        TypeError: If spec, function or arrays are not of this kind.
        DataError: If the cache cannot be written; names the path.
    """
    path, facts = cache_path(spec, generate), identity(spec, generate)
    arrays = in_cache(spec, generate)
    if arrays is not None:
        return arrays
    with lock(path.with_name(f"{path.name}.lock")):
        arrays = _read(path, facts, warn=True)  # another process may just have made it
        if arrays is None:
            arrays = _checked(generate(spec), generate)
            with storage_errors(path):
                _write(path, arrays, facts)
    return arrays


def in_cache(spec: Spec, generate: Callable[[Spec], Arrays]) -> Arrays | None:
    """Returns `generate(spec)` if it was made before and is whole; makes nothing."""
    return _read(cache_path(spec, generate), identity(spec, generate))


def cached_parts(specs: Sequence[Spec], generate: Callable[[Spec], Arrays]) -> list[Arrays]:
    """Returns `cached(spec, generate)` of every spec, the parts of one large set.

    Processes that ask at the same time share the work: each makes the parts that no other one is
    making. A killed one loses the part at hand.
    """
    parts: dict[int, Arrays] = {}
    for wait in (False, True):  # first what is there or free, then what others were making
        for place, spec in enumerate(specs):
            if place not in parts and (wait or _is_free(cache_path(spec, generate))):
                parts[place] = cached(spec, generate)
    return [parts[place] for place in range(len(specs))]


def cache_path(spec: Spec, generate: Callable[[Spec], Arrays]) -> Path:
    """Returns the folder that holds, or would hold, `generate(spec)`."""
    facts = identity(spec, generate)
    return user_folder("LAB_CACHE", "cache") / facts["function"] / _key(facts)


def identity(spec: Spec, generate: Callable[..., Any]) -> dict[str, Any]:
    """Returns what makes a generated set what it is, cached or not: its function and its spec.

    Raises:
        TypeError: If the function is not at the top level of a module, or the spec no NamedTuple of
            plain values with a field `version`.
    """
    name = f"{getattr(generate, '__module__', None)}.{getattr(generate, '__qualname__', None)}"
    if not re.fullmatch(r"[\w.]+", name) or name.endswith(".None"):
        raise TypeError(f"cached wants a function at the top level of a module, got {name}")
    if "version" not in getattr(spec, "_fields", ()):
        raise TypeError(
            f"{type(spec).__name__} is no NamedTuple with a field `version: int`; add one and "
            f"raise it whenever {name} changes what it returns"
        )
    return {"function": name, "spec": _plain(spec, type(spec).__name__)}


def describe(spec: Spec, generate: Callable[[Spec], Arrays]) -> dict[str, Any]:
    """Returns function, spec, key and, once it was made, SHA-256 of a set, for result files."""
    facts = identity(spec, generate)
    manifest = _manifest(cache_path(spec, generate))
    sha256 = manifest["files"][_ARRAYS] if manifest else None
    return {**facts, "key": _key(facts), "sha256": sha256}


def _is_free(path: Path) -> bool:
    """Returns whether nobody is making the entry at this moment."""
    if os.path.lexists(path):
        return True
    try:
        with lock(path.with_name(f"{path.name}.lock"), wait=False):
            return True
    except BlockingIOError:
        return False


def _plain(value: Any, path: str) -> Any:
    """Returns the value as JSON has it: NamedTuples as objects, tuples as lists."""
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {k: _plain(v, f"{path}.{k}") for k, v in value._asdict().items()}
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and np.isfinite(value):
        return value
    raise TypeError(
        f"{path}={value!r} ({type(value).__name__}): a spec holds finite numbers, strings, bools, "
        "None and tuples of these"
    )


def _key(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checked(arrays: Mapping[str, Any], generate: Callable[..., Arrays]) -> Arrays:
    checked = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind not in _PLAIN_KINDS or not re.fullmatch(r"[\w./-]+", name):
            raise TypeError(
                f"{generate.__qualname__} returned {name!r} of type {array.dtype}; wanted plain "
                "NumPy types (no objects, no bfloat16) under names of letters, digits, _ . / -"
            )
        checked[name] = array
    return checked


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        found = json_files.parse((path / _MANIFEST).read_bytes())
    except (OSError, ValueError):  # no entry, or one that `_read` reports
        return None
    return None if json_files.fault(found, {"files": {_ARRAYS: str}}) else found


def _read(path: Path, facts: dict[str, Any], *, warn: bool = False) -> Arrays | None:
    """Returns the arrays of a good entry, else None; the reason is logged if `warn`."""
    if not os.path.lexists(path):
        return None
    try:
        manifest = json_files.parse((path / _MANIFEST).read_bytes())
        if {name: manifest[name] for name in facts} != facts:
            raise ValueError(f"{_MANIFEST} is that of another spec")
        got, wanted = digest(path / _ARRAYS), manifest["files"][_ARRAYS]
        if got != wanted:
            raise ValueError(f"{_ARRAYS} has sha256 {got[:12]}..., its manifest {wanted[:12]}...")
        with np.load(path / _ARRAYS, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if warn:
            logging.warning("%s: is corrupt and will be made again: %s", path, error)
        return None


def _write(path: Path, arrays: Arrays, facts: dict[str, Any]) -> None:
    """Writes an entry and gives it its name; the caller holds the lock."""
    for leftover in path.parent.glob(f"{path.name}.tmp-*"):  # of processes that were killed
        shutil.rmtree(leftover)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    try:
        with zipfile.ZipFile(temporary / _ARRAYS, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        manifest = {**facts, "files": {_ARRAYS: digest(temporary / _ARRAYS)}}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        if os.path.lexists(path):  # corrupt, as `_read` has said
            shutil.rmtree(path)
        publish(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
