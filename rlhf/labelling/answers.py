"""What people say of the pairs they saw: each showing is answered once, and may be taken back."""

import sqlite3
from typing import NamedTuple

from common.errors import LabError
from rlhf.labelling import showing
from rlhf.labelling.store import now, writing

# What is kept, by what was chosen and whether the left clip is the first.
_KEPT = {
    ("left", 1): "a",
    ("left", 0): "b",
    ("right", 1): "b",
    ("right", 0): "a",
    ("equal", 1): "tie",
    ("equal", 0): "tie",
    ("skip", 1): "none",
    ("skip", 0): "none",
}
SIDES = ("left", "right", "equal", "skip")
MAX_LATENCY_MS = 24 * 3_600_000


class Refused(LabError):
    """An answer that cannot be taken; `status` is what the page is told."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Undone(NamedTuple):
    """An answer that was taken back: how it was given, and the pair shown again."""

    side: str
    showing: int


def answer(
    store: sqlite3.Connection, rater: int, nonce: str, side: str, latency_ms: int | None = None
) -> int:
    """Writes an answer; returns its number. When this returns it is on the disk.

    Args:
        store: Of the run.
        rater: Who answers.
        nonce: Of the showing.
        side: "left", "right", "equal" or "skip".
        latency_ms: How long the pair was looked at.

    Raises:
        Refused: If it is no showing of theirs, or was answered before.
        ValueError: If it is no answer.
    """
    if side not in SIDES:
        raise ValueError(f"choice {side!r}: expected one of {', '.join(SIDES)}")
    if latency_ms is not None and not 0 <= latency_ms <= MAX_LATENCY_MS:
        raise ValueError(f"latency_ms {latency_ms}: expected 0 to {MAX_LATENCY_MS}")
    with writing(store):
        shown = store.execute(
            "SELECT id, pair, left_is_a FROM showings WHERE nonce = ? AND rater = ?", (nonce, rater)
        ).fetchone()
        if shown is None:
            raise Refused(404, "this pair was not shown to you")
        before = store.execute(
            "SELECT 1 FROM labels WHERE showing = ? OR (pair = ? AND rater = ? AND undone IS NULL)",
            (shown["id"], shown["pair"], rater),
        ).fetchone()
        if before is not None:
            raise Refused(409, "you have answered this pair")
        row = store.execute(
            "INSERT INTO labels (pair, rater, showing, choice, answered_at, latency_ms) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (shown["pair"], rater, shown["id"], _KEPT[side, shown["left_is_a"]], now(), latency_ms),
        )
        store.execute("UPDATE pairs SET answers = answers + 1 WHERE id = ?", (shown["pair"],))
        assert row.lastrowid is not None
        return row.lastrowid


def undo(store: sqlite3.Connection, rater: int) -> Undone:
    """Takes back the latest answer of a rater, and shows the pair again on the same sides.

    Raises:
        Refused: If there is none, or training has taken it.
    """
    with writing(store):
        last = store.execute(
            "SELECT id, pair, choice, showing FROM labels WHERE rater = ? AND undone IS NULL "
            "AND showing IS NOT NULL ORDER BY id DESC LIMIT 1",
            (rater,),
        ).fetchone()
        if last is None:
            raise Refused(409, "there is no answer to take back")
        if store.execute("SELECT 1 FROM taken WHERE label = ?", (last["id"],)).fetchone():
            raise Refused(409, "the learner has learned from your last answer: it stays")
        store.execute("UPDATE labels SET undone = ? WHERE id = ?", (now(), last["id"]))
        store.execute("UPDATE pairs SET answers = answers - 1 WHERE id = ?", (last["pair"],))
        (left_is_a,) = store.execute(
            "SELECT left_is_a FROM showings WHERE id = ?", (last["showing"],)
        ).fetchone()
        again = showing.show(store, last["pair"], rater, left_is_a)
    side = next(
        s for (s, left), kept in _KEPT.items() if (kept, left) == (last["choice"], left_is_a)
    )
    return Undone(side, again)
