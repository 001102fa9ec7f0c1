"""Runs what is missing of a table and writes its JSON, Markdown and figure."""

import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from common import papers
from common.aggregates import measured
from common.config import config_hash, load_config
from common.errors import DataError, Interrupted, UserError, nearest
from common.files import json_files
from common.files.data_dir import require_data_files
from common.files.storage import locked, write_file
from common.jobs import pool as job_list
from common.jobs import trainings
from common.jobs.trainings import LAB, Training, read_result
from common.progress import duration
from common.provenance import source
from common.results import cell as cell_process
from common.results.collect import TableRun, collect, config_spec, judged, metric_value
from common.results.pages import render, result_stem
from common.results.table_files import read_table
from common.run_folders.records import run_directory
from common.seeds import in_groups, result_name
from common.tables import Table, aggregate, check_table

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
    allow_changed_code: bool = False

    @property
    def command(self) -> str:
        """Returns the command that makes this table."""
        command = ["lab", "table", self.paper.name, self.table.name, f"--preset={self.preset}"]
        if self.seeds == tuple(range(len(self.seeds))):
            command += [f"--seeds={len(self.seeds)}"] if self.seeds != self.table.seeds else []
        elif self.seeds != self.table.seeds:
            comma = "," if len(self.seeds) == 1 else ""  # "4," is seed 4, "4" is four seeds
            command += [f"--seeds={_listed(self.seeds)}{comma}"]
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
    allow_changed_code: bool = False,
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
        out: Folder of the results; default: the last of `papers.results_folders`.
        jobs: Child processes at a time; default: `common.jobs.pool.default_workers()`.
        lab: The `lab` command, another one in tests.
        allow_changed_code: Take and continue runs that other code began, with a warning.

    Raises:
        UserError: If there is no such paper, table or preset, or runs are of other code.
        MissingData: If files that the table reads are not on this machine.
        DataError: If a result or log cannot be written.
        Interrupted: After a signal; finished runs are kept and the same command continues.
    """
    info = papers.find_paper(paper) if isinstance(paper, str) else paper
    table = find_table(info, name)
    table = table.at.get(preset, table)
    require_data_files(table.data_files, f"table {table.name} of {info.name}")
    chosen = _seeds(table, seeds)
    request = Request(info, table, preset, chosen, Path(workdir), tuple(lab), allow_changed_code)
    data, planned = measure(request, jobs)
    return _write(data, table, planned, Path(out) if out else papers.results_folders(info)[-1])


def measure(request: Request, jobs: int | None) -> tuple[dict[str, Any], tuple[TableRun, ...]]:
    """Runs what is missing; returns the table's JSON, and its runs. Writes no result."""
    info, table, preset = request.paper, request.table, request.preset
    planned = plan(request)
    trainings.check_code(_finished(planned), allowed=request.allow_changed_code)
    folder = request.workdir / "tables" / f"{info.name}.{table.name}.{preset}"
    with locked(folder, f"table {table.name} of {info.name}"):
        problems = _run_missing(request, planned, folder / "logs", jobs)
    data = collect(info, table, preset, request.seeds, planned, problems, request.command)
    return data, planned


def rejudge_table(
    paper: papers.PaperInfo | str, name: str, *, preset: str = "cpu", out: str | Path | None = None
) -> Measured:
    """Returns a table judged and written again from its JSON, without run folders.

    The figure is drawn again where it needs only the cells.

    Raises:
        UserError: If there is no such paper, table or result, or its cells are others.
        DataError: If the result is damaged or cannot be written.
    """
    info = papers.find_paper(paper) if isinstance(paper, str) else paper
    table = find_table(info, name)
    table = table.at.get(preset, table)
    folder = Path(out) if out else papers.results_folders(info)[-1]
    path = folder / f"{result_stem({'table': table.name, 'preset': preset})}.json"
    if not path.is_file():
        raise UserError(f"--rejudge: there is no {path}; without it the same command measures")
    data = judged(read_table(path, any_format=True), table)
    return _write(data, table, (), folder)


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
        first = {**trainings.texts(cell.overrides), "seed": str(request.seeds[0])}
        file = cell.config or request.table.config
        config = load_config(config_spec(file, request.preset, cell.variant), first)
        key = (config_hash(config), cell.run)
        if key in found:
            found[key] = found[key]._replace(cells=(*found[key].cells, cell))
            continue
        folder = run_directory(request.workdir, config).parent
        name = f"cells/{cell.run.replace(':', '.')}.json" if cell.run else "result.json"
        results = {seed: folder / result_name(seed) / name for seed in request.seeds}
        found[key] = TableRun(
            config, file, dict(cell.overrides), cell.run, (cell,), results, cell.variant
        )
    return tuple(found.values())


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
    """Runs every missing run; returns why some have no result."""
    owners = {}
    missing = []
    for run in planned:
        for seeds in _missing_groups(run):
            missing.append(_training(request, run, seeds))
            owners[missing[-1].name] = run, seeds
    if not missing:
        return {}
    logging.info("%s", _outlook(request, planned, owners, workers))
    result, reasons = trainings.run(
        missing,
        logs=logs,
        workers=workers,
        label=f"table {request.table.name}",
        measured=lambda training: _measured(*owners[training.name]),
    )
    if result.interrupted:
        done = job_list.stopped(result, len(missing))
        raise Interrupted(f"{done}; to continue: {request.command}")
    problems: Problems = {}
    for name, text in reasons.items():
        run, seeds = owners[name]
        problems.update({(run.name, seed): text for seed in seeds})
    return problems


def _finished(
    planned: Sequence[TableRun],
) -> Iterator[tuple[Path, dict[str, Any], source.Digests]]:
    """Yields file, content and code of every result that there is."""
    codes: dict[tuple[str, str, str | None], source.Digests] = {}
    for run in planned:
        wanted = config_hash(run.config)
        named = (run.config.experiment, run.config.config_dir, run.function)
        if named not in codes:
            codes[named] = source.digests(run.config, run.function)
        for path in run.results.values():
            result = read_result(path, wanted)
            if result is not None:
                yield path, result, codes[named]


def _outlook(
    request: Request,
    planned: Sequence[TableRun],
    owners: Mapping[str, tuple[TableRun, tuple[int, ...]]],
    workers: int | None,
) -> str:
    """Returns what is about to run and, from the committed results, about how long that takes."""
    total = sum(len(run.results) for run in planned)
    count = sum(len(seeds) for _, seeds in owners.values())
    workers = min(workers or job_list.default_workers(), len(owners))
    text = f"table {request.table.name} at preset {request.preset}: {count} of {total} runs to do"
    text += f", {workers} at a time" if workers > 1 else ""
    stem = result_stem({"table": request.table.name, "preset": request.preset})
    committed: dict[str, Any]
    try:
        committed = read_table(request.paper.folder / "results" / f"{stem}.json", any_format=True)
    except DataError:  # none, or nothing to go by
        committed = {"runs": [], "provenance": {}}
    seconds = {run.get("name"): list(run["wall_time_s"].values()) for run in committed["runs"]}
    known = [second for run in seconds.values() for second in run]
    if not known:
        return f"{text}; nobody has measured yet how long one takes"
    mean = sum(known) / len(known)
    machine = committed["provenance"].get("cpu", "not recorded")
    expected = 0.0
    for run, seeds in owners.values():
        own = seconds.get(run.name, [])
        expected += len(seeds) * (sum(own) / len(own) if own else mean)
    cpu = machine if isinstance(machine, str) else machine[0]
    about = duration(expected / workers)
    return f"{text}; about {about} on the machine of the committed ones ({cpu})"


def _missing_groups(run: TableRun) -> list[tuple[int, ...]]:
    missing = run.missing()
    groups = in_groups(tuple(run.results), run.group_size)
    return [group for group in groups if any(seed in missing for seed in group)]


def _training(request: Request, run: TableRun, seeds: tuple[int, ...]) -> Training:
    more = f" (+{len(run.cells) - 1})" if len(run.cells) > 1 else ""
    label = f"{run.cells[0].row}, {run.cells[0].column}{more}, seed {_listed(seeds)}"
    name = f"{run.name}.seed{seeds[0]}"
    fields, config = trainings.texts(run.overrides), run.spec(request.preset)
    if run.function is None:
        command = trainings.train_command(request.lab, config, fields, seeds[0], request.workdir)
        training = Training(name, label, command, seeds, trainings.data_key(run.config))
        return trainings.allowing(training) if request.allow_changed_code else training
    fields["seed"] = str(seeds[0])
    result = run.results[seeds[0]]
    arguments = cell_process.request(run.function, config, fields, result)
    env = {"JAX_ENABLE_X64": "1"} if run.config.x64 else {}
    return Training(name, label, (*job_list.PYTHON, *arguments), seeds, env=env)


def _measured(run: TableRun, seeds: Sequence[int]) -> str:
    """Returns what a finished run measured, for its first cell."""
    values, metric = {}, run.cells[0].metric
    for seed in seeds:
        result = read_result(run.results[seed], config_hash(run.config))
        if result is None:
            return f"no complete result in {run.results[seed]}"
        try:
            values[seed] = metric_value(metric, result)
        except ValueError as error:
            return str(error)
    return f"{metric} {measured(aggregate(values))}"


def _listed(seeds: Sequence[int]) -> str:
    return ",".join(map(str, seeds))


def _write(
    data: dict[str, Any], table: Table, planned: Sequence[TableRun], folder: Path
) -> Measured:
    """Writes JSON and Markdown, then the figure: one that fails loses no number."""
    stem = result_stem(data)
    complete = not any(cell["problems"] for cell in data["cells"])
    drawn = bool(table.figures and complete and (planned or table.drawn_from_cells))
    if drawn or (folder / (data["figure"] or "?")).is_file():
        data["figure"] = f"{stem}.png"
    elif table.figures:
        logging.warning("table %s is not complete: its figure is not drawn", table.name)
    json_path, markdown_path = folder / f"{stem}.json", folder / f"{stem}.md"
    text = json_files.text_of(json_files.sealed(data))  # an edit by hand will be noticed
    data = json.loads(text)  # as everybody else will see it: tuples are lists
    write_file(json_path, text.encode())
    write_file(markdown_path, render(data).encode())
    if not drawn:
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
