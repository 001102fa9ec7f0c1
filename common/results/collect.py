"""From the result files of a table's runs to the table's JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from common import metric_names
from common.config import config_hash, describe_diff, load_config
from common.curves import curves_json
from common.errors import UserError, nearest
from common.jobs.trainings import read_result
from common.loop_fields import NOT_HASHED
from common.papers import PaperInfo
from common.results.table_files import FORMAT
from common.seeds import seeds_of
from common.tables import Cell, Table, evaluate_claims, results_from_json

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

    @property
    def group_size(self) -> int:
        """Returns how many seeds one process makes; its time is that of all of them."""
        return 1 if self.function else len(seeds_of(self.config))

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
        metric: Name of the metric, as `common.metric_names` reads it.
        result: Content of a result.json.

    Raises:
        ValueError: If the result has no such metric or it is not finite.
    """
    which, name = metric_names.place(metric, result)
    known = result["metrics"].get(which) or {}
    if name not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"no metric {which}/{name}{nearest(name, known)}; there are: {names}")
    if known[name] is None or not math.isfinite(known[name]):
        raise ValueError(f"metric {name} is {known[name]}")
    return float(known[name])


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
        "paper": paper.name,
        "table": table.name,
        "preset": preset,
        "config": table.config,
        "seeds": list(seeds),
        "cells": [_cell_json(c, run, results[run.name], problems) for c, run in runs_of_cells],
        "figure": None,
        "data": distinct(result["data"] for result in found if result.get("data")),
        "runs": runs_json,
        "provenance": _provenance(command, found, runs_json),
    }
    return judged(data, table)


def judged(data: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Returns a table's JSON with all that follows from the cells and the table's text today.

    Values, runs, data and provenance stay what they are.

    Raises:
        UserError: If the table has other cells than the JSON.
    """
    measured = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    declared = {(cell.row, cell.column): cell for cell in table.cells}
    for place, cell in declared.items():
        if place not in measured or measured[place]["metric"] != cell.metric:
            raise UserError(
                f"table {table.name}: {', '.join(place)} has not been measured; without "
                "--rejudge the same command does"
            )
    cells = []
    for place, cell in declared.items():
        family, setting = table.split(cell.column)
        published = cell.paper._asdict() if cell.paper else None
        more = {"family": family, "setting": setting, "paper": published}
        cells.append({**measured[place], **more})
    found = {
        "format": FORMAT,
        **{name: data[name] for name in ("paper", "table")},
        "title": table.title,
        "source": table.source,
        **{name: data[name] for name in ("preset", "config", "seeds")},
        "unit": table.unit,
        "scale": table.scale,
        "paper_spread": table.paper_spread,
        "headline": list(table.headline),
        "cells": cells,
        "claims": [],
        "figure": data["figure"],
        "notes": list(table.notes),
        "deviations": deviations(table, data["preset"]),
        **{name: data[name] for name in ("data", "runs", "provenance")},
    }
    if table.curves:
        found["curves"] = curves_json(table.curves, results_from_json(found, table))
    found["claims"] = [outcome.to_json() for outcome in evaluate_claims(table, found)]
    return found


def deviations(table: Table, preset: str) -> list[dict[str, Any]]:
    """Returns the config fields in which a preset differs from the preset "paper".

    For every config file and variant that makes a cell; what only some of them differ in says
    `of` which.
    """
    if preset == "paper":
        return []
    made = tuple(dict.fromkeys((cell.config or table.config, cell.variant) for cell in table.cells))
    found: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {}
    for file, variant in made:
        paper, ours = (load_config(config_spec(file, p, variant)) for p in ("paper", preset))
        for field, (theirs, value) in describe_diff(paper, ours).items():
            if field.partition(".")[0] not in NOT_HASHED:
                entry = {"field": field, "paper": theirs, "ours": value}
                found.setdefault(json.dumps(entry), (entry, []))[1].append((file, variant))
    rows = []
    for entry, which in found.values():
        others = [one for one in made if one not in which]
        named, left_out = (_said_of(some, made, table.config) for some in (which, others))
        if len(left_out) < len(named):
            named = [f"all except {', '.join(left_out)}"]
        rows.append({**entry, **({"of": named} if others else {})})
    return sorted(rows, key=lambda row: row["field"])


def _said_of(
    which: Sequence[tuple[str, str]], made: Sequence[tuple[str, str]], config: str
) -> list[str]:
    """Returns the options, "pde=heat", that choose some of the config files and variants made."""

    def options(one: tuple[str, str]) -> list[str]:
        file, variant = one
        return [*([] if file == config else [file]), *filter(None, variant.split(","))]

    said, left = [], list(which)
    for option in dict.fromkeys(option for one in which for option in options(one)):
        chosen = [one for one in made if option in options(one)]
        if set(chosen) <= set(which) and set(chosen) & set(left):
            said.append(option)
            left = [one for one in left if one not in chosen]
    return [*said, *(",".join(options(one)) or config for one in left)]


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
        "run": run.name,
        "values": values,
        "problems": wrong,
    }


def _run_json(
    run: TableRun, results: Mapping[int, Mapping[str, Any]], table: Table
) -> dict[str, Any]:
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
            str(seed): round(result["wall_time_s"] / run.group_size, 3)
            for seed, result in results.items()
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
