"""Files as others leave them: cut off, with bits flipped, fields missing or of another type."""

import json
import random
from collections.abc import Callable
from typing import Any

WRONG = (None, True, -1, 0, 10**400, 1e308, "", "\ud800", "x" * 300, [], {}, [[]], {"a": {"b": 1}})


def places(value: Any) -> list[tuple[Any, Any]]:
    """Returns (container, key) of everything in a JSON value."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [p for key in keys for p in places(value[key])]


def _cut(content: bytes, r: random.Random) -> bytes:
    return content[: r.randrange(len(content))]


def _flip(content: bytes, r: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(r.choice((1, 1, 5, 50))):
        changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return bytes(changed)


def _in_json(change: Callable[[Any, Any, random.Random], None]) -> Callable[..., bytes]:
    def damage(content: bytes, r: random.Random) -> bytes:
        value = json.loads(content)
        change(*r.choice(places(value)), r)
        return json.dumps(value).encode()

    return damage


def _replace(container: Any, key: Any, r: random.Random) -> None:
    container[key] = r.choice(WRONG)


def _delete(container: Any, key: Any, r: random.Random) -> None:
    del container[key]


def _nest(container: Any, key: Any, r: random.Random) -> None:
    for _ in range(r.choice((50, 500))):
        container[key] = r.choice((lambda x: [x], lambda x: {"a": x}))(container[key])


def _bury(content: bytes, r: random.Random) -> bytes:
    levels = r.choice((900, 100_000))
    return b'{"cells": ' + b"[" * levels + content + b"]" * levels + b"}"


def _empty(content: bytes, r: random.Random) -> bytes:
    return r.choice((b"", b"{}", b"[]", b"null", b"7", b"\xff\xfe", b"\x00" * 100))


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut off": _cut,
    "bits flipped": _flip,
    "of another type": _in_json(_replace),
    "field missing": _in_json(_delete),
    "nested deeply": _in_json(_nest),
    "buried": _bury,
    "empty": _empty,
}
