"""What pages may ask: the fields of a request, each of its type and size, and nothing besides."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlhf.labelling.answers import MAX_LATENCY_MS, SIDES
from rlhf.labelling.showing import NAME_LENGTH, QUEUE

NONCE_LENGTH = 64
_FIELDS = {"rater": str, "held": list, "showing": str, "choice": str, "latency_ms": int}


class Request(NamedTuple):
    """What a page says; fields that it did not need to give are empty."""

    rater: str
    held: tuple[str, ...] = ()
    showing: str = ""
    choice: str = ""
    latency_ms: int | None = None


def read(content: bytes, *needed: str) -> Request:
    """Returns the request in a body.

    Args:
        content: JSON.
        *needed: Fields besides "rater"; "held" and "latency_ms" may be left out.

    Raises:
        ValueError: Naming what is wrong.
    """
    try:
        fields = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("the body is no JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("the body is no JSON object")
    wanted = {"rater", *needed}
    allowed = wanted | {"held"} | ({"latency_ms"} if "choice" in wanted else set())
    if unknown := sorted(fields.keys() - allowed):
        raise ValueError(f"field {unknown[0][:40]!r} is unknown")
    if missing := sorted(wanted - fields.keys()):
        raise ValueError(f"field {missing[0]!r} is missing")
    for name, value in fields.items():
        if type(value) is not _FIELDS[name]:  # a bool is no int here
            raise ValueError(f"field {name!r} is a {type(value).__name__}")
    _check_sizes(fields)
    given: dict[str, Any] = {**fields, "held": tuple(fields.get("held", ()))}
    return Request(**given)


def _check_sizes(fields: Mapping[str, Any]) -> None:
    """Checks lengths and values.

    Raises:
        ValueError: Naming the first that is out of range.
    """
    held = fields.get("held", [])
    if len(held) > QUEUE or not all(isinstance(x, str) and len(x) <= NONCE_LENGTH for x in held):
        raise ValueError(f"field 'held': expected at most {QUEUE} showings")
    for name, length in (("rater", NAME_LENGTH), ("showing", NONCE_LENGTH)):
        if len(fields.get(name, "")) > length:
            raise ValueError(f"field {name!r}: expected at most {length} signs")
    if fields.get("choice", SIDES[0]) not in SIDES:
        raise ValueError(f"field 'choice': expected one of {', '.join(SIDES)}")
    if not 0 <= fields.get("latency_ms", 0) <= MAX_LATENCY_MS:
        raise ValueError(f"field 'latency_ms': expected 0 to {MAX_LATENCY_MS}")


def _refuse(name: str) -> None:
    raise ValueError(name)
