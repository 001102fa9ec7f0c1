"""Where training and labels are: what the strip below the clips says."""

import math
import sqlite3
from pathlib import Path
from typing import Any

from common import runs
from common.errors import LabError
from rlhf.labelling import agreement
from rlhf.labelling.store import now

SILENT_SECONDS = 30.0  # training that waits says so every second or two; a step may take a while
CURVE = 120  # points of the curve of returns
RATE_SECONDS = 300.0
MINUTE = 60.0
# What the page shows, by the metrics of a step.
SHOWN = {
    "train_loss": "reward_train_loss",
    "valid_loss": "reward_valid_loss",
    "coefficient": "coefficient",
    "correlation": "correlation",
}


def status(
    store: sqlite3.Connection, facts: dict[str, Any], folder: Path, rater: int | None = None
) -> dict[str, Any]:
    """Returns what there is to say, as plain values; numbers that are not known are None."""
    rows = metrics(folder / "metrics.jsonl")
    last = rows[-1] if rows else {}
    returns = [row["return"] for row in rows if _number(row.get("return")) is not None]
    every = max(1, math.ceil(len(returns) / CURVE))
    kappa, number = agreement.agreement(store)
    answered = _count(store, "SELECT count(*) FROM pairs WHERE answers > 0 AND source != 'check'")
    return {
        **learner(store, facts, folder),
        "answered": answered,
        "total": facts["total"],
        "a_minute": a_minute(store),
        "returns": returns[::every],
        **{name: _number(last.get(metric)) for name, metric in SHOWN.items()},
        "kappa": _number(kappa),
        "shared_pairs": number,
        "raters": raters(store),
        "yours": rater,
    }


def learner(store: sqlite3.Connection, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns what training does: "complete", "absent", "silent", "waiting" or "learning"."""
    row = store.execute("SELECT * FROM learner").fetchone()
    due = facts["due"]
    if row is None:
        return {"learner": "absent", "step": 0, "num_steps": len(due), "missing": 0, "due": 0}
    state = "waiting" if row["missing"] else "learning"
    if (folder / "result.json").exists():
        state = "complete"
    elif now() - row["seen_at"] > SILENT_SECONDS:
        state = "silent"
    asked = due[min(row["step"], len(due)) - 1] if row["step"] else 0
    said = {"step": row["step"], "num_steps": len(due), "missing": row["missing"], "due": asked}
    return {"learner": state, **said}


def a_minute(store: sqlite3.Connection) -> float:
    """Returns how many labels come in a minute, over the last five, or since the first one."""
    recent = (
        "SELECT count(*), min(answered_at) FROM labels WHERE undone IS NULL AND answered_at > ?"
    )
    count, first = store.execute(recent, (now() - RATE_SECONDS,)).fetchone()
    return count * MINUTE / max(now() - first, MINUTE / 2) if count else 0.0


def raters(store: sqlite3.Connection) -> list[dict[str, Any]]:
    """Returns of every rater: answers, seconds for one, share given at random, checks."""
    known = agreement.checks(store)
    found = []
    for row in store.execute(
        "SELECT raters.id, name, error, count(labels.id) AS answers, avg(latency_ms) AS latency "
        "FROM raters LEFT JOIN labels ON rater = raters.id AND undone IS NULL "
        "GROUP BY raters.id ORDER BY raters.id"
    ):
        right, number = known.get(row["id"], (0, 0))
        said = {name: row[name] for name in ("id", "name", "error", "answers")}
        seconds = None if row["latency"] is None else row["latency"] / 1_000
        found.append({**said, "seconds": seconds, "checks_right": right, "checks": number})
    return found


def metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the metrics of the steps so far; none if the file is not there yet, or damaged."""
    try:
        return [row for row in runs.read_metrics(path) if row["kind"] == "train"]
    except LabError:
        return []


def _number(value: Any) -> float | None:
    """Returns a finite number, or None: files hold "NaN" as a word."""
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None


def _count(store: sqlite3.Connection, query: str, *values: Any) -> int:
    return store.execute(query, values).fetchone()[0]
