"""`lab runs list`: the runs of every experiment as a table, with what differs between them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import metric_names
from common.config import describe_diff
from common.loop_fields import NOT_HASHED
from common.results import grids
from common.results.grids import Grid
from common.runs import Run
from common.values import flatten


def run_list(
    runs: Sequence[Run], state: Callable[[Run], str], *, width: int, metrics: bool = False
) -> str:
    """Returns a table for each experiment: runs, how far they came, their metric, what differs.

    The name of a run, "0123456789ab/seed0", is what `lab eval` and `lab runs compare` take.

    Args:
        runs: Runs, the latest last.
        state: How far a run without a result has come.
        width: Columns of the terminal; a table that is wider is printed in parts.
        metrics: Also show all metrics of every run.
    """
    groups: dict[Path, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.path.parent.parent, []).append(run)
    blocks = []
    for folder, members in groups.items():
        blocks.append(f"{folder}\n{grids.text(_table(members, state), width)}")
        if metrics:
            blocks += [f"{_name(run)}: {_all_metrics(run)}" for run in members if run.result]
    return "\n\n".join(blocks)


def _table(runs: Sequence[Run], state: Callable[[Run], str]) -> Grid:
    changed = [describe_diff(runs[0].config, run.config) for run in runs[1:]]
    names = dict.fromkeys(name for difference in changed for name in difference)
    differing = [name for name in names if name.partition(".")[0] not in NOT_HASHED]
    rows = []
    for run in runs:
        fields = flatten(run.config)
        status, step = state(run), ""
        if run.result is not None:
            status, step = run.result["status"], str(run.result["step"])
        shown = " ".join(f"{name}={fields[name]}" for name in differing if name in fields)
        rows.append((_name(run), status, step, _best(run), *([shown] if differing else [])))
    header = ("run", "status", "step", "metric", *(["what differs"] if differing else []))
    return Grid(header, tuple(rows))


def _name(run: Run) -> str:
    return f"{run.path.parent.name}/{run.path.name}"


def _best(run: Run) -> str:
    """Returns the metric by which the best checkpoint is chosen, else the first there is."""
    values = _values(run)
    name = metric_names.shown(str(run.config.get("best_metric", "")), values)
    return f"{name} {text_of(values[name])}" if name else ""


def _all_metrics(run: Run) -> str:
    return "  ".join(f"{name} {text_of(value)}" for name, value in _values(run).items())


def _values(run: Run) -> dict[str, Any]:
    return {} if run.result is None else metric_names.of_result(run.result)


def text_of(value: Any) -> str:
    """Returns a metric in six digits; a seed group's values are separated by slashes."""
    return "/".join(map(text_of, value)) if isinstance(value, list) else f"{float(value):.6g}"
