"""Whether data are the same as before: what they were made of, their bytes, and their numbers.

The same seed gives other last bits on another CPU, so bytes alone cannot tell data that were made
again from other data. If both sides say what they are made of (`Experiment.identity`), that
decides: function, spec and version, or the SHA-256 of files. It has to, for sets of trained
networks: training is chaotic, and after some hundred steps one rounding has become another network.

Without it numbers decide. Every array of floats is recorded as its root mean square and a few sums
with fixed random signs, in units in which independent entries give sums of order 1. Relative
changes of the entries by at most r change all of these by about r, a lone entry changed by its own
size by 1 / sqrt(entries). All other arrays (labels, indices, pixels) are the same to the byte or
not.
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.errors import DataError
from common.files import json_files
from common.provenance import machine

PyTree = Any
Leaf = dict[str, Any]
SUMS, CHUNK = 8, 65_536
# Of results that are computed in this type: single operations differ by one or two eps between
# CPUs; sums of some hundred terms, or solutions of a system with a condition number of some
# hundreds, stay below. Training does not, see above.
ROUNDINGS = 512
NARROW_ROUNDINGS = 2  # bfloat16 and float16 hold results of wider ones: the next number at most
SHOWN = 3
# Form of what a checkpoint says of data; `common.files.json_files` says how to read it.
_RECORD = {
    "data_sha256": str,
    "data?": {
        "identity?": ({str: json_files.PLAIN}, None),
        "leaves?": ({str: {str: json_files.PLAIN}}, None),
        "cpu?": str,
    },
}


class Fingerprint(NamedTuple):
    """What is recorded of data.

    Attributes:
        sha256: Of all bytes, see `data_digest`.
        identity: What they were made of, None if the experiment does not say.
        leaves: Type and numbers of every array by its path; None in old records.
        cpu: Where they were, see `machine.cpu`.
    """

    sha256: str
    identity: dict[str, Any] | None = None
    leaves: dict[str, Leaf] | None = None
    cpu: str = ""


class Difference(NamedTuple):
    """How two arrays of one name and type differ.

    `distance` is relative to the size of the entries and infinite for arrays that have to be equal
    but are not; `allowed` is what rounding explains.
    """

    name: str
    distance: float
    allowed: float


def fingerprint(data: PyTree, identity: dict[str, Any] | None) -> Fingerprint:
    """Returns the fingerprint of host data."""
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): _leaf(np.ascontiguousarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(data)
    }
    plain = None if identity is None else json.loads(json.dumps(identity))  # tuples become lists
    return Fingerprint(data_digest(data), plain, leaves, machine.cpu())


def data_digest(data: PyTree) -> str:
    """Returns the SHA-256 of host data: paths, types, shapes and bytes of all arrays."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        rows = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)}{rows.dtype}{rows.shape}".encode())
        total.update(_bytes(rows))
    return total.hexdigest()


def to_record(found: Fingerprint) -> dict[str, Any]:
    """Returns what a checkpoint keeps of it."""
    facts = found._asdict()
    return {"data_sha256": facts.pop("sha256"), "data": facts}


def from_record(record: dict[str, Any]) -> Fingerprint:
    """Returns the fingerprint in a checkpoint, also in one of a version that kept SHA-256 only.

    Raises:
        DataError: If it is none.
    """
    wrong = json_files.fault(record, _RECORD)
    if wrong or set(record.get("data", {})) - {*Fingerprint._fields}:
        raise DataError(f"what a checkpoint says of its data is not what is written there: {wrong}")
    return Fingerprint(record["data_sha256"], **record.get("data", {}))


def contradiction(began: Fingerprint, here: Fingerprint) -> str:
    """Returns how one sees that these are other data, "" if they may be the same."""
    both_say = began.identity is not None and here.identity is not None
    changed = _changes(began.identity, here.identity) if both_say else []
    if not changed and began.sha256 != here.sha256:
        if began.leaves is None or here.leaves is None:
            changed = [] if both_say else [f"sha256 {began.sha256[:12]}, here {here.sha256[:12]}"]
        else:
            types = [{k: v["type"] for k, v in x.items()} for x in (began.leaves, here.leaves)]
            changed = _changes(*types)
            if not changed and not both_say:
                changed = [_text(d) for d in differences(began, here) if d.distance > d.allowed]
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return "; ".join(changed[:SHOWN]) + more


def differences(began: Fingerprint, here: Fingerprint) -> list[Difference]:
    """Returns the arrays that differ, the most different first; both have the same types."""
    found = []
    for name, now in (here.leaves or {}).items():
        before = (began.leaves or {}).get(name, now)
        if before != now:
            is_exact = "sha256" in now or before["not_finite"] != now["not_finite"]
            distance = np.inf if is_exact else _distance(before, now)
            found.append(Difference(name, distance, now.get("rounding", 0.0)))
    return sorted(found, key=lambda d: -d.distance)


def _bytes(rows: np.ndarray) -> np.ndarray:
    """Returns the bytes of a contiguous array, not copied; bfloat16 has no buffer of its own."""
    return rows.reshape(-1).view(np.uint8)


def _leaf(rows: np.ndarray) -> Leaf:
    kind = f"{rows.dtype}{list(rows.shape)}"
    if not jnp.issubdtype(rows.dtype, jnp.inexact):
        return {"type": kind, "sha256": hashlib.sha256(_bytes(rows)).hexdigest()}
    if jnp.issubdtype(rows.dtype, jnp.complexfloating):
        rows = rows.view(rows.real.dtype)
    eps = float(jnp.finfo(rows.dtype).eps)
    roundings = ROUNDINGS if rows.dtype.itemsize >= 4 else NARROW_ROUNDINGS
    return {"type": kind, "rounding": roundings * eps, **_numbers(rows.reshape(-1))}


def _numbers(entries: np.ndarray) -> Leaf:
    """Returns the number of entries that are not finite; of the others size and signed sums."""
    unit, lost = 1.0, 0
    if entries.dtype.itemsize > 4:  # squares of narrower ones neither overflow nor vanish
        unit = max((float(np.max(np.abs(_finite(x)))) for x in _chunks(entries)), default=0) or 1.0
    square, sums = 0.0, np.zeros(SUMS)
    for x, signs in zip(_chunks(entries), _signs(-(-entries.size // CHUNK), 1), strict=True):
        x /= unit
        if not np.isfinite(x @ x):
            lost += int(np.sum(~np.isfinite(x)))
            x = _finite(x)
        square += float(x @ x)
        sums += signs * (_pattern()[:, : x.size] @ x)
    rms = (square / max(entries.size, 1)) ** 0.5
    sums /= (rms or 1.0) * max(entries.size, 1) ** 0.5
    return {"not_finite": lost, "rms": rms * unit, "sums": sums.tolist()}


def _chunks(entries: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, entries.size, CHUNK):
        yield entries[start : start + CHUNK].astype(np.float64)


def _finite(entries: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(entries), entries, 0.0)


@functools.cache
def _pattern() -> np.ndarray:
    """Returns the signs of the entries of a chunk, in every sum [SUMS, CHUNK]."""
    return np.ascontiguousarray(_signs(CHUNK, 0).T)


def _signs(count: int, seed: int) -> np.ndarray:
    """Returns the first `count` rows of an endless table of signs [count, SUMS]."""
    # The raw words of a bit generator are the same in every version of NumPy.
    words = np.random.PCG64(seed).random_raw(-(-count * SUMS // 64))
    bits = np.unpackbits(np.asarray(words, "<u8").view(np.uint8))[: count * SUMS]
    return 1.0 - 2.0 * bits.reshape(count, SUMS)


def _distance(before: Leaf, now: Leaf) -> float:
    sums = np.abs(np.subtract(before["sums"], now["sums"]))
    size = abs(before["rms"] - now["rms"]) / max(before["rms"], now["rms"], np.finfo(float).tiny)
    return float(max(size, *sums))


def _changes(before: Any, now: Any) -> list[str]:
    old, new = dict(_fields(before, "")), dict(_fields(now, ""))
    names = [*old, *(name for name in new if name not in old)]
    told = [(n, old.get(n, "nothing"), new.get(n, "nothing")) for n in names]
    return [f"{name} was {a}, is {b}" for name, a, b in told if a != b]


def _fields(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _fields(item, f"{path}.{name}" if path else name)
    else:
        yield path, json.dumps(value)


def _text(difference: Difference) -> str:
    if np.isinf(difference.distance):
        return f"{difference.name} has other values"
    return (
        f"{difference.name} differs by {difference.distance:.1e} of its size, more than rounding "
        f"({difference.allowed:.1e})"
    )
