"""Runs what is missing of a table and writes its JSON, Markdown and figure."""

import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from common import cell as cell_process
from common import jobs as job_list
from common import papers, runs
from common.config import canonical_json, config_hash, load_config
from common.errors import DataError, Interrupted, UserError, nearest
from common.jobs import Job, JobsResult, Outcome
from common.table_render import measured, render, result_stem
from common.table_results import TableRun, collect, metric_value, read_result
from common.tables import Table, aggregate, check_table

LAB = (*job_list.PYTHON, "-m", "common.cli")
Problems = dict[tuple[str, int], str]  # why a run has no result, by (name of the run, seed)


class Measured(NamedTuple):
    """A table as measured: its JSON and the files that were written."""

    data: dict[str, Any]
    json_path: Path
    markdown_path: Path
    figure_path: Path | None

    @property
    def num_problems(self) -> int:
        """Returns how many (cell, seed) pairs have no value."""
        return sum(len(cell["problems"]) for cell in self.data["cells"])


class Request(NamedTuple):
    """What the user asked for, resolved."""

    paper: papers.PaperInfo
    table: Table
    preset: str
    seeds: tuple[int, ...]
    workdir: Path
    lab: tuple[str, ...]

    @property
    def config(self) -> str:
        """Returns the config as on the command line, "file.py:preset"."""
        return f"{self.table.config}:{self.preset}"

    @property
    def command(self) -> str:
        """Returns the command that makes this table."""
        command = ["lab", "table", self.paper.name, self.table.name, f"--preset={self.preset}"]
        if self.seeds == tuple(range(len(self.seeds))):
            command += [f"--seeds={len(self.seeds)}"] if self.seeds != self.table.seeds else []
        elif self.seeds != self.table.seeds:
            comma = "," if len(self.seeds) == 1 else ""  # "4," is seed 4, "4" is four seeds
            command += [f"--seeds={','.join(map(str, self.seeds))}{comma}"]
        return shlex.join(command)


def run_table(
    paper: papers.PaperInfo | str,
    name: str,
    *,
    preset: str = "cpu",
    seeds: int | Sequence[int] | None = None,
    workdir: str | Path = "runs",
    out: str | Path | None = None,
    jobs: int | None = None,
    lab: Sequence[str] = LAB,
) -> Measured:
    """Returns a table of a paper after running the cells that have no result yet.

    Each distinct (overrides, seed) is one child process; before them one process prepares the data
    of each distinct `config.data`, alone and on all cores. A cell that fails leaves a problem in
    the table and does not stop the others.

    Args:
        paper: The paper or its name, "nfn.equivariant".
        name: Key in the paper's `TABLES`.
        preset: Preset of the table's config file.
        seeds: Number of seeds or the seeds; default: the table's.
        workdir: Where the runs are.
        out: Folder of the results; default: `results/` of the paper.
        jobs: Child processes at a time; default: `common.jobs.default_workers()`.
        lab: The `lab` command, another one in tests.

    Raises:
        UserError: If there is no such paper, table or preset.
        DataError: If a result or log cannot be written.
        Interrupted: After a signal; finished runs are kept and the same command continues.
    """
    info = papers.find_paper(paper) if isinstance(paper, str) else paper
    table = find_table(info, name)
    request = Request(info, table, preset, _seeds(table, seeds), Path(workdir), tuple(lab))
    planned = plan(request)
    folder = request.workdir / "tables" / f"{info.name}.{name}.{preset}"
    with job_list.locked(folder, f"table {name} of {info.name}"):
        problems = _run_missing(request, planned, folder / "logs", jobs)
    data = collect(info, table, preset, request.seeds, planned, problems, request.command)
    return _write(data, table, planned, Path(out) if out else info.folder / "results")


def find_table(paper: papers.PaperInfo, name: str) -> Table:
    """Returns a checked table of a paper.

    Raises:
        UserError: If there is none of that name.
        ValueError: If the table is not well formed.
    """
    tables = papers.tables(paper)
    if name not in tables:
        known = ", ".join(tables) or "none"
        raise UserError(
            f"{paper.name} has no table {name!r}{nearest(name, tables)}; tables: {known}"
        )
    check_table(tables[name])
    return tables[name]


def plan(request: Request) -> tuple[TableRun, ...]:
    """Returns the distinct runs of a table: cells with equal resolved configs share one."""
    found: dict[tuple[str, str | None], TableRun] = {}
    for cell in request.table.cells:
        first = {**texts(cell.overrides), "seed": str(request.seeds[0])}
        config = load_config(request.config, first)
        key = (config_hash(config), cell.run)
        if key in found:
            found[key] = found[key]._replace(cells=(*found[key].cells, cell))
            continue
        folder = runs.run_directory(request.workdir, config).parent
        file = f"cells/{cell.run.replace(':', '.')}.json" if cell.run else "result.json"
        results = {seed: folder / f"seed{seed}" / file for seed in request.seeds}
        found[key] = TableRun(config, dict(cell.overrides), cell.run, (cell,), results)
    return tuple(found.values())


def texts(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Returns overrides as they are written on the command line."""
    return {
        key: value if isinstance(value, str) else repr(value) for key, value in overrides.items()
    }


def seed_groups(seeds: Sequence[int], size: int) -> tuple[tuple[int, ...], ...]:
    """Returns the seeds in groups of `size` successive ones, as `config.seed_group` trains them.

    Raises:
        UserError: If they are not whole groups.
    """
    groups = tuple(tuple(seeds[i : i + size]) for i in range(0, len(seeds), size))
    for group in groups:
        if group != tuple(range(group[0], group[0] + size)):
            raise UserError(
                f"--seeds={','.join(map(str, seeds))}: config.seed_group={size} trains {size} "
                f"successive seeds together; {group} is no such group"
            )
    return groups


def write_file(path: Path, content: bytes) -> None:
    """Writes a file atomically: another process sees the old content or all of the new.

    Raises:
        DataError: If it cannot be written; the old content is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _seeds(table: Table, seeds: int | Sequence[int] | None) -> tuple[int, ...]:
    if seeds is None:
        return table.seeds
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise UserError(f"--seeds={seeds}: expected a number of at least 1, or different seeds")
    return chosen


def _run_missing(
    request: Request, planned: Sequence[TableRun], logs: Path, workers: int | None
) -> Problems:
    """Prepares the data and runs every missing run; returns why some have no result."""
    todo = [(run, seeds) for run in planned for seeds in _missing_groups(run)]
    jobs = {_job_name(run, seeds): (run, seeds) for run, seeds in todo}
    total = len(jobs)
    prepared = _prepare(request, [run for run, _ in todo], logs)
    if prepared.interrupted:
        raise Interrupted(f"stopped while preparing data; to continue: {request.command}")
    broken = {outcome.job.name: outcome for outcome in prepared.failed}
    problems: Problems = {}
    for name, (run, seeds) in list(jobs.items()):
        if _data_key(run) in broken:
            message = f"data could not be prepared: {_failure(broken[_data_key(run)])}"
            problems.update({(run.name, seed): message for seed in seeds})
            del jobs[name]
    children = [_job(request, run, seeds, logs) for run, seeds in jobs.values()]
    with job_list.Progress(len(children), f"table {request.table.name}") as progress:
        result = job_list.run_jobs(
            children,
            workers=workers,
            on_finish=lambda outcome: progress.finished(_line(outcome, *jobs[outcome.job.name])),
        )
    if result.interrupted:
        raise Interrupted(f"{job_list.stopped(result, total)}; to continue: {request.command}")
    for outcome in result.failed:
        run, seeds = jobs[outcome.job.name]
        problems.update({(run.name, seed): _failure(outcome) for seed in seeds})
    return problems


def _missing_groups(run: TableRun) -> list[tuple[int, ...]]:
    size = 1 if run.function else run.config.seed_group
    missing = run.missing()
    groups = seed_groups(tuple(run.results), size)
    return [group for group in groups if any(seed in missing for seed in group)]


def _prepare(request: Request, todo: Sequence[TableRun], logs: Path) -> JobsResult:
    """Makes the artifacts of every distinct data config, one process at a time on all cores."""
    jobs = {}
    for run in todo:
        key = _data_key(run)
        if key and key not in jobs:
            command = (*_train(request, run, run.config.seed), "--prepare")
            jobs[key] = Job(key, f"data of {_cells(run)}", command, logs / f"{key}.log")
    with job_list.Progress(len(jobs), "preparing data") as progress:
        return job_list.run_jobs(
            tuple(jobs.values()),
            workers=1,
            on_finish=lambda o: progress.finished(_ended(o, f"{o.job.label}: {o.status}")),
        )


def _data_key(run: TableRun) -> str:
    if run.function or "data" not in run.config:
        return ""
    text = canonical_json({"experiment": run.config.experiment, "data": run.config.data.to_dict()})
    return f"data-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _job(request: Request, run: TableRun, seeds: tuple[int, ...], logs: Path) -> Job:
    name = _job_name(run, seeds)
    if run.function:
        overrides = {**texts(run.overrides), "seed": str(seeds[0])}
        result = run.results[seeds[0]]
        arguments = cell_process.request(run.function, request.config, overrides, result)
        command = (*job_list.PYTHON, *arguments)
    else:
        command = _train(request, run, seeds[0])
    env = {"JAX_ENABLE_X64": "1"} if run.function and run.config.x64 else {}
    return Job(name, _cells(run), command, logs / f"{name}.log", env)


def _train(request: Request, run: TableRun, seed: int) -> tuple[str, ...]:
    fields = {**texts(run.overrides), "seed": str(seed)}
    options = [f"--config.{key}={text}" for key, text in fields.items()]
    where = f"--workdir={request.workdir}"
    return (*request.lab, "train", f"--config={request.config}", *options, where)


def _job_name(run: TableRun, seeds: Sequence[int]) -> str:
    return f"{run.name}.seed{seeds[0]}"


def _cells(run: TableRun) -> str:
    first = f"{run.cells[0].row}, {run.cells[0].column}"
    return first + (f" (+{len(run.cells) - 1})" if len(run.cells) > 1 else "")


def _line(outcome: Outcome, run: TableRun, seeds: Sequence[int]) -> str:
    """Returns what a finished run measured, for its first cell."""
    label = f"{_cells(run)}, seed {', '.join(map(str, seeds))}"
    if outcome.status != job_list.DONE:
        return _ended(outcome, f"{label}: {outcome.status}: {outcome.message}")
    values, metric = {}, run.cells[0].metric
    for seed in seeds:
        result = read_result(run.results[seed], config_hash(run.config))
        try:
            if result is not None:
                values[seed] = metric_value(metric, result)
        except ValueError as error:
            return _ended(outcome, f"{label}: {error}")
    if not values:
        return _ended(outcome, f"{label}: exit code 0, but no complete result")
    return _ended(outcome, f"{label}: {metric} {measured(aggregate(values))}")


def _ended(outcome: Outcome, text: str) -> str:
    return f"{text}, {job_list.duration(outcome.seconds)}"


def _failure(outcome: Outcome) -> str:
    return f"exit code {outcome.returncode}: {outcome.message}"


def _write(
    data: dict[str, Any], table: Table, planned: Sequence[TableRun], folder: Path
) -> Measured:
    """Writes JSON and Markdown, then the figure: one that fails loses no number."""
    stem = result_stem(data)
    complete = not any(cell["problems"] for cell in data["cells"])
    if table.figures and complete:
        data["figure"] = f"{stem}.png"
    elif table.figures:
        logging.warning("table %s is not complete: its figure is not drawn", table.name)
    json_path, markdown_path = folder / f"{stem}.json", folder / f"{stem}.md"
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    data = json.loads(text)  # as everybody else will see it: tuples are lists
    write_file(json_path, text.encode())
    write_file(markdown_path, render(data).encode())
    if not data["figure"]:
        return Measured(data, json_path, markdown_path, None)
    figure_path = folder / data["figure"]
    directories = {
        (cell.row, cell.column): {seed: path.parent for seed, path in run.results.items()}
        for run in planned
        for cell in run.cells
    }
    draw = cell_process.resolve(table.figures or "")
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary) / figure_path.name
        draw(data, directories, drawn)
        write_file(figure_path, drawn.read_bytes())
    return Measured(data, json_path, markdown_path, figure_path)
