"""What a clip is in the store: poses or images to look at, and what a reward model sees of it."""

import base64
import hashlib
import json
import math
import zlib
from typing import Any, NamedTuple

import numpy as np

from common.errors import DataError

MAX_BYTES = 1 << 26  # of a clip: whoever made a file of labels could make it of any size
DTYPES = {name: name for name in ("<f4", "<f8", "|u1", "|b1", "<i4")}
DIGITS = 3  # of coordinates on the page, in the units of the window


class Clip(NamedTuple):
    """One clip; shapes [k, ...].

    Attributes:
        shown: What people see: "segments" [k, n, 5] and "circles" [k, m, 3] as `rlhf.envs.Pose` has
            them, or "frames" [k, height, width] or [k, height, width, 3] of bytes.
        seen: What the reward model sees of every step.
        true_return: What the task pays for it, None if nobody knows. No learner reads it.
    """

    shown: dict[str, np.ndarray]
    seen: np.ndarray
    true_return: float | None = None


def check(clip: Clip) -> None:
    """Checks the arrays of a clip.

    Raises:
        ValueError: Naming what is there and what is allowed.
    """
    shapes = {name: f"{value.dtype}{value.shape}" for name, value in clip.shown.items()}
    if set(shapes) not in ({"segments", "circles"}, {"frames"}):
        raise ValueError(
            f"a clip shows {', '.join(shapes)}: expected segments and circles, or frames"
        )
    lengths = {len(value) for value in (*clip.shown.values(), clip.seen)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"a clip of {shapes} and seen {clip.seen.shape}: expected one length")
    frames = clip.shown.get("frames")
    if frames is not None and (
        frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[3:] not in ((), (3,))
    ):
        raise ValueError(f"frames are {shapes['frames']}: expected bytes [k, height, width(, 3)]")


def packed(clip: Clip) -> tuple[bytes, str]:
    """Returns a clip as bytes, and the checksum of its numbers.

    The bytes are a line of JSON, types and shapes by name, and the arrays after it, compressed.
    """
    check(clip)
    arrays = {f"shown/{name}": value for name, value in sorted(clip.shown.items())}
    arrays["seen"] = clip.seen
    head = {name: [value.dtype.str, value.shape] for name, value in arrays.items()}
    content = json.dumps(head).encode() + b"\n"
    content += b"".join(np.ascontiguousarray(value).tobytes() for value in arrays.values())
    return zlib.compress(content), hashlib.sha256(content).hexdigest()


def unpacked(content: bytes | None, sha256: str | None, true_return: float | None = None) -> Clip:
    """Returns the clip of these bytes.

    Raises:
        DataError: If it is missing or damaged, or larger than any clip.
    """
    if content is None:
        raise DataError("a clip is missing")
    try:
        whole = zlib.decompressobj().decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise DataError(f"a clip is damaged: {error}") from error
    found = hashlib.sha256(whole).hexdigest()
    if found != sha256:
        raise DataError(f"a clip is damaged: its checksum is {found[:12]}, not {str(sha256)[:12]}")
    try:
        line, _, numbers = whole.partition(b"\n")
        arrays, at = {}, 0
        for name, (dtype, shape) in json.loads(line).items():
            kind = np.dtype(DTYPES[dtype])
            size = kind.itemsize * math.prod(shape)
            arrays[name] = np.frombuffer(numbers[at : at + size], kind).reshape(shape)
            at += size
        seen = arrays.pop("seen")
        clip = Clip({n.removeprefix("shown/"): x for n, x in arrays.items()}, seen, true_return)
        check(clip)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"a clip is damaged: {error}") from error
    return clip


def for_page(clip: Clip) -> dict[str, Any]:
    """Returns what the page draws, as plain values: nothing of what a learner or the task says."""
    frames = clip.shown.get("frames")
    if frames is None:
        return {
            name: [[_rounded(row) for row in step] for step in clip.shown[name].tolist()]
            for name in ("segments", "circles")
        }
    return {
        "height": frames.shape[1],
        "width": frames.shape[2],
        "channels": 3 if frames.ndim == 4 else 1,
        "count": len(frames),
        "frames": base64.b64encode(zlib.compress(frames.tobytes())).decode(),
    }


def _rounded(row: list[float]) -> list[float]:
    return [round(value, DIGITS) for value in row]
