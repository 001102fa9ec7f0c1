"""From the result files of a table's runs to the table's JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from common import json_files
from common.config import NOT_HASHED, config_hash, describe_diff, load_config
from common.errors import DataError, nearest
from common.json_files import NUMBER, PLAIN
from common.papers import PaperInfo
from common.tables import FAILS, HOLDS, NOT_RUN, Cell, Table, evaluate_claims
from common.train_jobs import read_result

FORMAT = 1
# What of environment.json stands below a table: nothing that names a person's machine or folders.
ENVIRONMENT = {
    "commit": "commit",
    "dirty": "uncommitted_changes",
    "python": "python",
    "packages": "packages",
    "platform": "platform",
    "cpu": "cpu",
    "cpu_count": "cores_of_a_run",
    "devices": "devices_of_a_run",
}

# Form of a table's JSON; `common.json_files` says how to read it.
TABLE = {
    **dict.fromkeys(("paper", "table", "title", "source", "preset", "unit", "paper_spread"), str),
    "seeds": [int],
    "scale": NUMBER,
    "cells": [
        {
            **dict.fromkeys(("row", "column", "metric", "run"), str),
            "paper": ({"value": NUMBER, "spread": (NUMBER, None)}, None),
            "values": {str: NUMBER},
            "problems": {str: str},
        }
    ],
    "claims": [
        {
            **dict.fromkeys(("name", "statement", "detail", "reason"), str),
            "status": (HOLDS, FAILS, NOT_RUN),
        }
    ],
    "figure": (str, None),
    "notes": [str],
    "deviations": [{"field": str, "paper": PLAIN, "ours": PLAIN}],
    "data": [{str: PLAIN}],
    "runs": [
        {
            "config_hash": str,
            "config?": str,
            "variant?": str,
            "overrides": {str: PLAIN},
            "function": (str, None),
            "cells": [[str]],
            "wall_time_s": {str: NUMBER},
        }
    ],
    "provenance": {"command?": str, "time_of_all_runs_s?": NUMBER},
}


class TableRun(NamedTuple):
    """One configuration of a table and the cells that read its results.

    Attributes:
        config: Resolved config at the first seed.
        file: Config file that it comes from.
        variant: What follows the preset in its argument.
        overrides: Fields that differ from the config file's preset.
        function: "module:function" if this is no training run.
        cells: Cells that share it.
        results: Result file by seed.
    """

    config: ConfigDict
    file: str
    overrides: dict[str, Any]
    function: str | None
    cells: tuple[Cell, ...]
    results: dict[int, Path]
    variant: str = ""

    @property
    def name(self) -> str:
        """Returns what identifies the run in its table, up to the seed."""
        suffix = f".{self.function.replace(':', '.')}" if self.function else ""
        return config_hash(self.config) + suffix

    def spec(self, preset: str) -> str:
        """Returns what follows --config= at a preset."""
        return config_spec(self.file, preset, self.variant)

    def missing(self) -> tuple[int, ...]:
        """Returns the seeds without a complete result of this very config."""
        wanted = config_hash(self.config)
        return tuple(s for s, path in self.results.items() if read_result(path, wanted) is None)


def config_spec(file: str, preset: str, variant: str) -> str:
    """Returns "FILE:PRESET,VARIANT", as `load_config` takes it."""
    return f"{file}:{preset},{variant}" if variant else f"{file}:{preset}"


def metric_value(metric: str, result: Mapping[str, Any]) -> float:
    """Returns a metric of a result: of the best checkpoint if it has one, else of the last step.

    Args:
        metric: Name of the metric; "last/NAME" and "best/NAME" say which step.
        result: Content of a result.json.

    Raises:
        ValueError: If the result has no such metric or it is not finite.
    """
    which, separator, name = metric.partition("/")
    if not separator or which not in ("last", "best"):
        which, name = "best" if result["metrics"].get("best") else "last", metric
    known = result["metrics"].get(which) or {}
    if name not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"no metric {which}/{name}{nearest(name, known)}; there are: {names}")
    if known[name] is None or not math.isfinite(known[name]):
        raise ValueError(f"metric {name} is {known[name]}")
    return float(known[name])


def read_table(path: Path) -> dict[str, Any]:
    """Returns the content of a table's JSON.

    Raises:
        DataError: If it is no such file, or one that was damaged.
    """
    try:
        data = json_files.parse(path.read_bytes())
        wrong = json_files.fault(data, TABLE) or _fault(data)
        if not wrong and json_files.is_edited(data):
            wrong = "it was changed after `lab table` had written it"
    except (OSError, ValueError) as error:
        data, wrong = {}, str(error)
    if wrong:
        raise DataError(f"{path}: is not the result of a table: {wrong}")
    return data


def _fault(data: Mapping[str, Any]) -> str:
    """Returns what a form cannot say about a table's JSON."""
    seeds = {seed for cell in data["cells"] for seed in [*cell["values"], *cell["problems"]]}
    odd = next((seed for seed in seeds if not (seed.isdecimal() and len(seed) < 12)), None)
    if odd is not None:
        return f"a cell has the seed {odd!r}"
    pairs = [pair for run in data["runs"] for pair in run["cells"]]
    if any(len(pair) != 2 for pair in pairs):
        return "a cell of a run is no pair of row and column"
    times = {k: v for k, v in data["provenance"].items() if k.endswith("_s")}
    return json_files.fault({"provenance": times}, {"provenance": {str: NUMBER}})


def collect(
    paper: PaperInfo,
    table: Table,
    preset: str,
    seeds: Sequence[int],
    planned: Sequence[TableRun],
    problems: Mapping[tuple[str, int], str],
    command: str,
) -> dict[str, Any]:
    """Returns a table's JSON: all that is needed to render it and to judge its claims again.

    Args:
        paper: The paper.
        table: Its table.
        preset: Preset of the runs.
        seeds: Seeds asked for.
        planned: The table's runs.
        problems: Why a run has no result, by (name of the run, seed).
        command: The command that makes the table.
    """
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for run in planned:
        wanted = config_hash(run.config)
        read = {seed: read_result(path, wanted) for seed, path in run.results.items()}
        results[run.name] = {seed: result for seed, result in read.items() if result is not None}
    runs_of_cells = [(cell, next(r for r in planned if cell in r.cells)) for cell in table.cells]
    found = [result for by_seed in results.values() for result in by_seed.values()]
    runs_json = [_run_json(run, results[run.name], table) for run in planned]
    data = {
        "format": FORMAT,
        "paper": paper.name,
        "table": table.name,
        "title": table.title,
        "source": table.source,
        "preset": preset,
        "config": table.config,
        "seeds": list(seeds),
        "unit": table.unit,
        "scale": table.scale,
        "paper_spread": table.paper_spread,
        "cells": [_cell_json(c, run, results[run.name], problems) for c, run in runs_of_cells],
        "claims": [],
        "figure": None,
        "notes": list(table.notes),
        "deviations": deviations(table, preset),
        "data": distinct(result["data"] for result in found if result.get("data")),
        "runs": runs_json,
        "provenance": _provenance(command, found, runs_json),
    }
    data["claims"] = [outcome._asdict() for outcome in evaluate_claims(table, data)]
    return data


def deviations(table: Table, preset: str) -> list[dict[str, Any]]:
    """Returns the config fields in which a preset differs from the preset "paper"."""
    if preset == "paper":
        return []
    paper, ours = (load_config(f"{table.config}:{name}") for name in ("paper", preset))
    return [
        {"field": field, "paper": theirs, "ours": value}
        for field, (theirs, value) in describe_diff(paper, ours).items()
        if field.partition(".")[0] not in NOT_HASHED
    ]


def distinct(items: Iterable[Any]) -> list[Any]:
    """Returns the different items in the order they first appear."""
    return [json.loads(text) for text in dict.fromkeys(json.dumps(item) for item in items)]


def _cell_json(
    cell: Cell,
    run: TableRun,
    results: Mapping[int, Mapping[str, Any]],
    problems: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    values, wrong = {}, {}
    for seed in run.results:
        if seed not in results:
            wrong[str(seed)] = problems.get((run.name, seed), "not run")
            continue
        try:
            values[str(seed)] = metric_value(cell.metric, results[seed])
        except ValueError as error:
            wrong[str(seed)] = str(error)
    return {
        "row": cell.row,
        "column": cell.column,
        "metric": cell.metric,
        "paper": cell.paper._asdict() if cell.paper else None,
        "run": run.name,
        "values": values,
        "problems": wrong,
    }


def _run_json(
    run: TableRun, results: Mapping[int, Mapping[str, Any]], table: Table
) -> dict[str, Any]:
    group = 1 if run.function else run.config.seed_group  # a group's time is that of all its seeds
    foreign = {} if run.file == table.config else {"config": run.file}
    foreign |= {"variant": run.variant} if run.variant else {}
    return {
        "name": run.name,
        "config_hash": config_hash(run.config),
        **foreign,
        "overrides": run.overrides,
        "function": run.function,
        "cells": [[cell.row, cell.column] for cell in run.cells],
        "wall_time_s": {
            str(seed): round(result["wall_time_s"] / group, 3) for seed, result in results.items()
        },
    }


def _provenance(
    command: str, results: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the command and, of every fact about the environment, what the runs had."""
    times = [seconds for run in runs for seconds in run["wall_time_s"].values()]
    facts: dict[str, Any] = {
        "command": command,
        "runs": len(times),
        "time_of_all_runs_s": sum(times),
    }
    latest = [result.get("environment", {}) for result in results]
    environments = [e for last in latest for e in (*last.get("earlier_sessions", ()), last)]
    for key, shown in ENVIRONMENT.items():
        values = distinct(e[key] for e in environments if e.get(key) is not None)
        if values:
            facts[shown] = values[0] if len(values) == 1 else values
    return facts
