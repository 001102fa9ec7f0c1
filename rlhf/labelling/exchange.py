"""Labels in other files: out as lines of JSON, and in from such a file or from another store."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DataError, LabError, UserError
from common.files.storage import storage_errors, write_file
from rlhf.labelling.clips import unpacked
from rlhf.labelling.store import CHOICES, opened, store_errors, writing

VERSION = 1
IMPORTED = -1  # the step of pairs that this run did not ask
_TABLES = {
    "clip": "SELECT id, content, sha256, true_return FROM clips ORDER BY id",
    "pair": "SELECT id, clip_a, clip_b, step, slot, source, expected, origin FROM pairs "
    "ORDER BY id",
    "label": "SELECT labels.id, labels.pair, raters.name AS rater, choice, left_is_a, answered_at, "
    "latency_ms, undone FROM labels JOIN raters ON raters.id = labels.rater "
    "LEFT JOIN showings ON showings.id = showing ORDER BY labels.id",
}
Line = dict[str, Any]


def lines_of(store: sqlite3.Connection) -> Iterator[Line]:
    """Yields everything that was shown and said, in the order in which it came."""
    run = store.execute("SELECT hash, name FROM runs").fetchone()
    if run is None:
        raise UserError("the store of labels is empty: training has not begun")
    yield {"kind": "labels", "version": VERSION, "run": run["hash"], "task": run["name"]}
    for kind, query in _TABLES.items():
        for row in store.execute(query):
            line: Line = {"kind": kind, **dict(row)}
            if kind == "clip":
                line["content"] = base64.b64encode(line["content"]).decode()
            yield line


def export_lines(store: sqlite3.Connection, target: Path) -> int:
    """Writes a store as lines of JSON; returns how many labels there are, undone ones included.

    Raises:
        DataError: If the file cannot be written.
    """
    lines = list(lines_of(store))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_file(target, text.encode())
    return sum(line["kind"] == "label" for line in lines)


def import_labels(store: sqlite3.Connection, source: Path, name: str, like: np.ndarray) -> int:
    """Takes in the labels of another store or of lines of JSON; returns how many are new.

    Answers that were taken back stay behind, those of check pairs too. Taking in a file twice
    changes nothing.

    Args:
        store: Of this run.
        source: A store, or what `export_lines` wrote.
        name: Of the task, which has to be the same.
        like: What a reward model of this run sees of a clip.

    Raises:
        UserError: If it is of another task, or its clips are of another shape.
        DataError: If it is missing or damaged.
    """
    lines = _read(source)
    head = lines[0] if lines else {}
    if head.get("kind") != "labels" or head.get("version") != VERSION:
        raise DataError(f"{source}: holds no labels of version {VERSION}")
    if head.get("task") != name:
        raise UserError(f"{source}: labels of {head.get('task')!r}, this run is {name!r}")
    try:
        clips = {x["id"]: _clip(x, source, like) for x in lines if x["kind"] == "clip"}
        pairs = {x["id"]: x for x in lines if x["kind"] == "pair" and x["source"] != "check"}
        labels = [x for x in lines if x["kind"] == "label" and x["undone"] is None]
        labels = [x for x in labels if x["pair"] in pairs and x["choice"] in CHOICES]
        with store_errors(source), writing(store):
            return _insert(store, str(head["run"]), clips, pairs, labels)
    except (KeyError, TypeError) as error:
        raise DataError(f"{source}: is damaged: {error!r} is not as it should be") from error


def _read(source: Path) -> list[Line]:
    if not source.is_file():
        raise UserError(f"{source}: is not there")
    with storage_errors(source), source.open("rb") as file:
        is_store = file.read(16) == b"SQLite format 3\0"
    if is_store:
        with store_errors(source), opened(source) as other:
            return list(lines_of(other))
    found = []
    with storage_errors(source), source.open("rb") as file:
        for number, text in enumerate(file, start=1):
            try:
                line = json.loads(text)
            except ValueError as error:
                raise DataError(f"{source}, line {number}: is damaged: {error}") from error
            if not isinstance(line, dict):
                raise DataError(f"{source}, line {number}: is damaged: expected an object")
            found.append(line)
    return found


def _clip(line: Line, source: Path, like: np.ndarray) -> Line:
    """Returns a line with its bytes, after a look at what is in them."""
    try:
        content = base64.b64decode(line["content"])
        clip = unpacked(content, line["sha256"])
    except (LabError, ValueError) as error:
        raise DataError(f"{source}: clip {line['id']}: {error}") from error
    if (clip.seen.shape, clip.seen.dtype) != (like.shape, like.dtype):
        raise UserError(
            f"{source}: a clip is {clip.seen.dtype}{clip.seen.shape}, this run has "
            f"{like.dtype}{like.shape}"
        )
    return {**line, "content": content, "k": len(clip.seen)}


def _insert(
    store: sqlite3.Connection,
    run: str,
    clips: dict[int, Line],
    pairs: dict[int, Line],
    labels: list[Line],
) -> int:
    new = 0
    for label in labels:
        pair = pairs[label["pair"]]
        origin = pair["origin"] or f"{run}/{pair['id']}"
        number = _pair(store, origin, pair, clips)
        store.execute(
            "INSERT INTO raters (name, joined) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (label["rater"], label["answered_at"]),
        )
        row = store.execute(
            "INSERT INTO labels (pair, rater, choice, answered_at, latency_ms) "
            "SELECT ?, id, ?, ?, ? FROM raters WHERE name = ? ON CONFLICT DO NOTHING",
            (number, *(label[n] for n in ("choice", "answered_at", "latency_ms", "rater"))),
        )
        new += row.rowcount
        store.execute("UPDATE pairs SET answers = answers + ? WHERE id = ?", (row.rowcount, number))
    return new


def _pair(store: sqlite3.Connection, origin: str, pair: Line, clips: dict[int, Line]) -> int:
    """Returns the number that a pair of another run has here."""
    row = store.execute("SELECT id FROM pairs WHERE origin = ?", (origin,)).fetchone()
    if row is not None:
        return row["id"]
    ids = []
    for name in ("clip_a", "clip_b"):
        clip = clips[pair[name]]
        row = store.execute(
            "INSERT INTO clips (step, k, content, sha256, true_return) VALUES (?, ?, ?, ?, ?)",
            (IMPORTED, *(clip[n] for n in ("k", "content", "sha256", "true_return"))),
        )
        ids.append(row.lastrowid)
    (slot,) = store.execute(
        "SELECT coalesce(max(slot) + 1, 0) FROM pairs WHERE step = ?", (IMPORTED,)
    ).fetchone()
    row = store.execute(
        "INSERT INTO pairs (step, slot, clip_a, clip_b, source, origin, created) "
        "SELECT ?, ?, ?, ?, 'import', ?, created FROM runs",
        (IMPORTED, slot, *ids, origin),
    )
    assert row.lastrowid is not None
    return row.lastrowid
