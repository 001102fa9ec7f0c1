"""Runs for Python users: find them, read what they say, compare them, load their states.

    from common.runs import find, load

    run = load(find("runs")[-1].path)       # or load("0123456789ab"), a config hash
    outputs = run.predict(inputs)

`common.run_folders` says what is in a run folder. Importing this module does not import JAX.
"""

from pathlib import Path
from typing import Any

from common.checkpoints import manifest
from common.config import describe_diff
from common.loop.loading import History, Loaded, history, load
from common.loop.metrics import read_metrics
from common.run_folders.records import Run, find, read, read_result

__all__ = [
    "History",
    "Loaded",
    "Run",
    "compare",
    "find",
    "history",
    "load",
    "read",
    "read_metrics",
    "read_result",
    "verify",
]


def compare(a: Run, b: Run) -> str:
    """Returns the config fields in which two runs differ, and their last and best metrics."""
    lines = [f"a: {a.path}", f"b: {b.path}", ""]
    rows = [
        (name, _text(x), _text(y)) for name, (x, y) in describe_diff(a.config, b.config).items()
    ]
    results = [run.result["metrics"] if run.result else {} for run in (a, b)]
    for which in ("last", "best"):
        values = [metrics.get(which) or {} for metrics in results]
        names = dict.fromkeys([*values[0], *values[1]])
        rows += [(f"{which} {n}", _text(values[0].get(n)), _text(values[1].get(n))) for n in names]
    widths = [max([len(row[i]) for row in rows] + [1]) for i in range(2)]
    lines += [f"{name:{widths[0]}}  {x:{widths[1]}}  {y}" for name, x, y in rows]
    return "\n".join(lines)


def verify(path: str | Path) -> dict[int, str | None]:
    """Returns {step: None if every byte is as written, else the reason} of a run's checkpoints."""
    return manifest.verify(Path(path) / "checkpoints")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
