"""Which pair a person sees next, on which sides, and for how long it is theirs."""

import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from common.errors import DataError
from rlhf.labelling.clips import for_page, unpacked
from rlhf.labelling.store import now, writing

QUEUE = 3  # pairs that a page holds
LEASE_SECONDS = 120.0  # a pair that was shown and not answered returns after that
NAME_LENGTH = 40
# Pairs that nobody has answered, nor has on the screen; what everybody is asked; second opinions.
# Each with those on the page at hand, which `_candidates` leaves out.
_FRESH = """
SELECT * FROM pairs WHERE answers = 0 AND source != 'check' AND NOT EXISTS
  (SELECT 1 FROM showings WHERE showings.pair = pairs.id AND rater != :rater
   AND shown_at > :expired AND NOT EXISTS (SELECT 1 FROM labels WHERE showing = showings.id))
ORDER BY priority DESC, id DESC LIMIT :number"""
_CHECKS = """
SELECT * FROM pairs WHERE source = 'check' AND NOT EXISTS
  (SELECT 1 FROM labels WHERE labels.pair = pairs.id AND labels.rater = :rater AND undone IS NULL)
ORDER BY id DESC LIMIT :number"""
_SECONDS = """
SELECT * FROM pairs WHERE answers = 1 AND wants_second = 1 AND source != 'check' AND NOT EXISTS
  (SELECT 1 FROM labels WHERE labels.pair = pairs.id AND labels.rater = :rater AND undone IS NULL)
AND NOT EXISTS
  (SELECT 1 FROM showings WHERE showings.pair = pairs.id AND rater != :rater
   AND shown_at > :expired AND NOT EXISTS (SELECT 1 FROM labels WHERE showing = showings.id))
ORDER BY id DESC LIMIT :number"""


class Showing(NamedTuple):
    """A pair as one person sees it; `nonce` is what an answer refers to, once."""

    nonce: str
    left: dict[str, Any]
    right: dict[str, Any]


def rater_named(store: sqlite3.Connection, name: str) -> int:
    """Returns the number of a rater, who is new or known.

    Raises:
        ValueError: If the name is empty, too long or not printable.
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise ValueError(f"a name of {len(name)} signs: expected 1 to {NAME_LENGTH} printable ones")
    row = store.execute("SELECT id FROM raters WHERE name = ?", (name,)).fetchone()
    if row is None:
        with writing(store):
            store.execute(
                "INSERT INTO raters (name, joined) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (name, now()),
            )
        row = store.execute("SELECT id FROM raters WHERE name = ?", (name,)).fetchone()
    return row["id"]


def refill(store: sqlite3.Connection, rater: int, held: Sequence[str]) -> list[Showing]:
    """Returns pairs for a person whose page holds some already, so that it holds `QUEUE`.

    What they had and did not answer, on a page that is gone, comes first and on the same sides.

    Raises:
        DataError: If a clip is missing or damaged.
    """
    want = QUEUE - len(held)
    if want <= 0:
        return []
    if not _candidates(store, rater, held, want):  # most often while people wait: no write
        return []
    with writing(store, is_lasting=False):  # a pair whose showing is lost is shown again
        chosen = _candidates(store, rater, held, want)
        showings = [_shown(store, pair, rater) for pair in chosen]
    return [showing_of(store, number) for number in showings]


def _candidates(store: sqlite3.Connection, rater: int, held: Sequence[str], want: int) -> list[int]:
    """Returns the pairs that come next: the newest first, those of known answer among them."""
    has: set[int] = set()
    for nonce in held:
        row = store.execute("SELECT pair FROM showings WHERE nonce = ?", (nonce,)).fetchone()
        has |= {row["pair"]} if row else set()
    options = {"rater": rater, "expired": now() - LEASE_SECONDS, "number": want + len(has)}

    def found(query: str) -> list[sqlite3.Row]:
        return [row for row in store.execute(query, options) if row["id"] not in has]

    first = found(_FRESH) + found(_CHECKS)
    first.sort(key=lambda row: (row["priority"], row["id"]), reverse=True)
    if len(first) < want:
        first += found(_SECONDS)
    return [row["id"] for row in first[:want]]


def _shown(store: sqlite3.Connection, pair: int, rater: int) -> int:
    """Returns the number of a showing: the one that is not answered, or a new one."""
    row = store.execute(
        "SELECT id FROM showings WHERE pair = ? AND rater = ? AND NOT EXISTS "
        "(SELECT 1 FROM labels WHERE showing = showings.id)",
        (pair, rater),
    ).fetchone()
    if row is None:
        return show(store, pair, rater, secrets.randbelow(2))
    store.execute("UPDATE showings SET shown_at = ? WHERE id = ?", (now(), row["id"]))
    return row["id"]


def show(store: sqlite3.Connection, pair: int, rater: int, left_is_a: int) -> int:
    """Writes that a pair is shown; returns the number of the showing."""
    row = store.execute(
        "INSERT INTO showings (nonce, pair, rater, shown_at, left_is_a) VALUES (?, ?, ?, ?, ?)",
        (secrets.token_urlsafe(12), pair, rater, now(), left_is_a),
    )
    assert row.lastrowid is not None
    return row.lastrowid


def showing_of(store: sqlite3.Connection, number: int) -> Showing:
    """Returns a showing with its clips.

    Raises:
        DataError: If one is missing or damaged.
    """
    row = store.execute(
        "SELECT nonce, pair, left_is_a, clip_a, clip_b FROM showings JOIN pairs ON pairs.id = pair "
        "WHERE showings.id = ?",
        (number,),
    ).fetchone()
    sides = [row["clip_a"], row["clip_b"]]
    try:
        left, right = (_clip(store, side) for side in (sides if row["left_is_a"] else sides[::-1]))
    except DataError as error:
        raise DataError(f"pair {row['pair']}: {error}") from error
    return Showing(row["nonce"], left, right)


def _clip(store: sqlite3.Connection, number: int) -> dict[str, Any]:
    row = store.execute("SELECT content, sha256 FROM clips WHERE id = ?", (number,)).fetchone()
    return for_page(unpacked(*(row or (None, None))))
