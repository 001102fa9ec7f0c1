"""Requests that the labelling page refuses: what is no request of it, and what others send."""

from typing import Any


def bodies() -> dict[str, tuple[str, Any, int]]:
    """Returns address, body and status of what is no request of the page."""
    deep = b"[" * 2000
    good = {"rater": "Ada", "showing": "unknown", "choice": "left"}
    return {
        "no JSON": ("queue", b"{", 422),
        "no UTF-8": ("queue", b'{"rater": "\xff"}', 422),
        "empty": ("queue", b"", 422),
        "a list": ("queue", [], 422),
        "NaN": ("answer", b'{"rater": "A", "latency_ms": NaN}', 422),
        "nested": ("queue", deep, 422),
        "an unknown field": ("queue", {"rater": "Ada", "admin": 1}, 422),
        "no rater": ("queue", {}, 422),
        "a rater that is a number": ("queue", {"rater": 7}, 422),
        "a rater without a name": ("queue", {"rater": " "}, 422),
        "a long name": ("queue", {"rater": "x" * 41}, 422),
        "a name with a control sign": ("queue", {"rater": "a\u0007"}, 422),
        "held that is no list": ("queue", {"rater": "Ada", "held": "x"}, 422),
        "too much held": ("queue", {"rater": "Ada", "held": ["x"] * 4}, 422),
        "held numbers": ("queue", {"rater": "Ada", "held": [1]}, 422),
        "a long showing": ("answer", {**good, "showing": "x" * 65}, 422),
        "no showing": ("answer", {"rater": "Ada", "choice": "left"}, 422),
        "no choice": ("answer", {"rater": "Ada", "showing": "x"}, 422),
        "an unknown choice": ("answer", {**good, "choice": "a"}, 422),
        "a choice that is a list": ("answer", {**good, "choice": ["left"]}, 422),
        "a latency below 0": ("answer", {**good, "latency_ms": -1}, 422),
        "a latency that is a truth": ("answer", {**good, "latency_ms": True}, 422),
        "half a millisecond": ("answer", {**good, "latency_ms": 0.5}, 422),
        "a latency of years": ("answer", {**good, "latency_ms": 10**12}, 422),
        "an unknown showing": ("answer", good, 404),
        "SQL for a showing": ("answer", {**good, "showing": "' OR 1=1 --"}, 404),
        "an answer to undo": ("undo", {"rater": "Ada", "choice": "left"}, 422),
        "undo of nothing": ("undo", {"rater": "Nobody"}, 409),
        "a large body": ("queue", {"rater": "Ada", "held": ["x" * 5000]}, 413),
        "no such address": ("labels", good, 404),
    }


# Headers that an answer from another page has, or lacks.
CROSS = {
    "no origin": {"Origin": ""},
    "another site": {"Origin": "https://evil.example"},
    "a file": {"Origin": "null"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "an origin that begins alike": {"Origin": "http://127.0.0.1.evil.example"},
    "the browser says so": {"Sec-Fetch-Site": "cross-site"},
    "a neighbor": {"Sec-Fetch-Site": "same-site"},
    "no secret": {"X-Lab-Page": ""},
    "another secret": {"X-Lab-Page": "x" * 22},
    "a form": {"Content-Type": "application/x-www-form-urlencoded"},
    "plain text": {"Content-Type": "text/plain"},
    "a name of somebody else's": {"Host": "evil.example"},
    "a name with this port": {
        "Host": "evil.example:{port}",
        "Origin": "http://evil.example:{port}",
    },
    "this name with another port": {"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"},
    "a length that is a word": {"Content-Length": "4097"},
}
