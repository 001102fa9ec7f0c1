"""How training takes answers: each once, in an order that is written down before they are used."""

import sqlite3
from typing import NamedTuple

from common.errors import DataError
from rlhf.labelling.clips import Clip, unpacked
from rlhf.labelling.store import now, writing
from rlhf.preference import FIRST, SECOND, TIE

PREFERENCES = {"a": FIRST, "b": SECOND, "tie": TIE}  # of "none" there is none: it is dropped


class Taken(NamedTuple):
    """A label as a step takes it: the weight on the first clip, the clips, and who gave it."""

    preferred: float
    a: Clip
    b: Clip
    rater: int


def missing(store: sqlite3.Connection, upto: int, settle_seconds: float = 0.0) -> int:
    """Returns how many pairs of the steps before `upto` have no answer yet.

    Args:
        store: Of the run.
        upto: Number of a step.
        settle_seconds: How long an answer may still be taken back.
    """
    (count,) = store.execute(
        "SELECT count(*) FROM pairs WHERE step < ? AND step >= 0 AND source != 'check' "
        "AND NOT EXISTS (SELECT 1 FROM labels WHERE pair = pairs.id AND undone IS NULL "
        "AND answered_at <= ?)",
        (upto, now() - settle_seconds),
    ).fetchone()
    return count


def is_taken(store: sqlite3.Connection, step: int) -> bool:
    """Returns whether a step has taken its labels before."""
    found = store.execute("SELECT 1 FROM steps WHERE step = ?", (step,)).fetchone()
    return found is not None


def take(
    store: sqlite3.Connection, step: int, room: int, settle_seconds: float = 0.0
) -> list[Taken]:
    """Returns the labels of a step: those it took before, or the oldest that none has taken.

    Which ones is written in the same transaction, and on the disk when this returns. They are in
    the order of their pairs, so that it does not matter in which order people were.

    Args:
        store: Of the run.
        step: Number of the step.
        room: The most labels that it takes.
        settle_seconds: How long an answer may still be taken back.

    Raises:
        DataError: If the clips of one are missing or damaged.
    """
    if not is_taken(store, step):
        with writing(store):
            _hand_out(store, step, room, now() - settle_seconds)
    rows = store.execute(
        "SELECT labels.id, choice, rater, a.content AS content_a, a.sha256 AS sha_a, "
        "b.content AS content_b, b.sha256 AS sha_b FROM taken JOIN labels ON labels.id = label "
        "JOIN pairs ON pairs.id = pair LEFT JOIN clips a ON a.id = clip_a "
        "LEFT JOIN clips b ON b.id = clip_b WHERE taken.step = ? AND place IS NOT NULL "
        "ORDER BY place",
        (step,),
    ).fetchall()
    return [_taken(row) for row in rows]


def _taken(row: sqlite3.Row) -> Taken:
    try:
        a, b = (unpacked(row[f"content_{which}"], row[f"sha_{which}"]) for which in "ab")
    except DataError as error:
        raise DataError(f"label {row['id']}: {error}") from error
    return Taken(PREFERENCES[row["choice"]], a, b, row["rater"])


def _hand_out(store: sqlite3.Connection, step: int, room: int, settled: float) -> None:
    rows = store.execute(
        "SELECT labels.id, pair, choice FROM labels JOIN pairs ON pairs.id = pair "
        "WHERE undone IS NULL AND answered_at <= ? AND source != 'check' AND NOT EXISTS "
        "(SELECT 1 FROM taken WHERE label = labels.id) ORDER BY labels.id",
        (settled,),
    ).fetchall()
    usable = [row for row in rows if row["choice"] in PREFERENCES][:room]
    dropped = [row for row in rows if row["choice"] not in PREFERENCES]
    usable.sort(key=lambda row: (row["pair"], row["id"]))
    store.execute("INSERT INTO steps VALUES (?, ?)", (step, now()))
    places = [(row["id"], step, place) for place, row in enumerate(usable)]
    places += [(row["id"], step, None) for row in dropped]
    store.executemany("INSERT INTO taken VALUES (?, ?, ?)", places)


def raters_before(store: sqlite3.Connection, step: int) -> list[int]:
    """Returns who gave the labels that the steps before `step` took, in the order of taking."""
    rows = store.execute(
        "SELECT rater FROM taken JOIN labels ON labels.id = label "
        "WHERE taken.step < ? AND place IS NOT NULL ORDER BY taken.step, place",
        (step,),
    )
    return [row["rater"] for row in rows]
