"""How training asks: it says what the run is, and writes pairs of clips that are complete."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from common.config import config_hash
from common.errors import DataError, UserError
from rlhf.labelling.clips import Clip, packed
from rlhf.labelling.store import now, writing

SECOND_STRIDE = 1_000  # of the share of pairs that get a second opinion


class Pair(NamedTuple):
    """A pair to show.

    Attributes:
        slot: Its place among those of its step.
        a: The first clip, whose preference is 1 in the loss.
        b: The second.
        source: "active" or "random", or "check": of known answer, and never learned from.
        expected: That answer, "a" or "b".
    """

    slot: int
    a: Clip
    b: Clip
    source: str = "active"
    expected: str | None = None


def hash_of(config: ConfigDict) -> str:
    """Returns what a store says of the run that it belongs to."""
    return f"{config_hash(config)}/seed{config.seed}"


def register(
    store: sqlite3.Connection, path: Path, run_hash: str, name: str, facts: dict[str, Any]
) -> None:
    """Says which run a store belongs to, and what its page tells people.

    Args:
        store: Of the run.
        path: Its file, for errors.
        run_hash: Of the config, with the seed.
        name: Of the task.
        facts: "instruction", "window", "fps", "due" (pairs asked by the end of each step), "total",
            "folder" of the run; whatever the page shows of the run.

    Raises:
        UserError: If it belongs to another run.
    """
    with writing(store):
        row = store.execute("SELECT hash, name FROM runs").fetchone()
        if row is not None and row["hash"] != run_hash:
            raise UserError(
                f"{path}: holds labels of another run ({row['hash']}, not {run_hash}); "
                "to begin from them, move the file and give --config.people.labels=FILE"
            )
        text = json.dumps(facts, sort_keys=True)
        store.execute(
            "INSERT INTO runs VALUES (1, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET facts = excluded.facts",
            (run_hash, name, text, now()),
        )


def facts_of(store: sqlite3.Connection) -> dict[str, Any]:
    """Returns the facts that training gave, with "hash" and "name".

    Raises:
        UserError: If it has not come so far.
    """
    row = store.execute("SELECT * FROM runs").fetchone()
    if row is None:
        raise UserError("the store of labels is empty: training has not begun")
    return {**json.loads(row["facts"]), "hash": row["hash"], "name": row["name"]}


def ask(
    store: sqlite3.Connection, path: Path, step: int, pairs: Sequence[Pair], *, second_share: float
) -> None:
    """Writes the pairs of a step, all or none; those that are there already stay as they are.

    Raises:
        DataError: If others are there: what was answered then would be said of other clips.
    """
    with writing(store):
        for pair in pairs:
            rows = [packed(clip) for clip in (pair.a, pair.b)]
            found = store.execute(
                "SELECT a.sha256, b.sha256 FROM pairs JOIN clips a ON a.id = clip_a "
                "JOIN clips b ON b.id = clip_b WHERE pairs.step = ? AND slot = ?",
                (step, pair.slot),
            ).fetchone()
            if found is None:
                _insert(store, step, pair, rows, second_share)
            elif tuple(found) != tuple(sha256 for _, sha256 in rows):
                raise DataError(
                    f"{path}: holds another pair {pair.slot} of step {step}: this run does not "
                    "repeat the one that asked (another machine or version?); begin a new run from "
                    "these labels with --config.people.labels=FILE"
                )


def _insert(
    store: sqlite3.Connection,
    step: int,
    pair: Pair,
    rows: Sequence[tuple[bytes, str]],
    second_share: float,
) -> None:
    ids = [
        store.execute(
            "INSERT INTO clips (step, k, content, sha256, true_return) VALUES (?, ?, ?, ?, ?)",
            (step, len(clip.seen), content, sha256, clip.true_return),
        ).lastrowid
        for clip, (content, sha256) in zip((pair.a, pair.b), rows, strict=True)
    ]
    # By its own checksum: the same pairs, whenever they are written.
    drawn = int(rows[0][1][:8], 16) % SECOND_STRIDE
    wants_second = pair.source != "check" and drawn < second_share * SECOND_STRIDE
    store.execute(
        "INSERT INTO pairs (step, slot, clip_a, clip_b, source, expected, wants_second, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (step, pair.slot, *ids, pair.source, pair.expected, int(wants_second), now()),
    )


def report(store: sqlite3.Connection, step: int, missing: int) -> None:
    """Says where training is, and for how many answers it waits."""
    with writing(store, is_lasting=False):
        store.execute(
            "INSERT INTO learner VALUES (1, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "step = excluded.step, missing = excluded.missing, seen_at = excluded.seen_at",
            (step, missing, now()),
        )


def set_errors(store: sqlite3.Connection, errors: dict[int, float]) -> None:
    """Says which share of their answers raters give at random, by their number."""
    with writing(store, is_lasting=False):
        for rater, error in errors.items():
            store.execute("UPDATE raters SET error = ? WHERE id = ?", (error, rater))
