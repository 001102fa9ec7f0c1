"""`lab train` as child processes: command lines, finished results and data made beforehand."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from common.config import canonical_json
from common.errors import DataError, UserError
from common.files import json_files
from common.files.json_files import read_json
from common.jobs import pool as job_list
from common.jobs.pool import Job, JobsResult, Outcome
from common.progress import Progress, duration
from common.provenance import source
from common.run_folders.records import RESULT
from common.run_folders.trust import check_weights

LAB = (*job_list.PYTHON, "-m", "common.lab.cli")


class Training(NamedTuple):
    """One child process that makes the results of one or more seeds of a config.

    Attributes:
        name: Identifies the job in state and log files.
        label: What people call it.
        command: The whole command.
        seeds: Its seeds, more than one only with `config.seed_group`.
        data: What trainings on the same data share (`data_key`); "": nothing to prepare.
        env: Environment variables added for it.
    """

    name: str
    label: str
    command: tuple[str, ...]
    seeds: tuple[int, ...]
    data: str = ""
    env: Mapping[str, str] = {}

    def with_flags(self, flags: Sequence[str]) -> "Training":
        """Returns the same with more words at the end of its command."""
        return self._replace(command=(*self.command, *flags))


def train_command(
    lab: Sequence[str], config: str, overrides: Mapping[str, str], seed: int, workdir: str | Path
) -> tuple[str, ...]:
    """Returns the command that trains one seed (or the seed group that starts there)."""
    fields = {**overrides, "seed": str(seed)}
    options = [f"--config.{key}={text}" for key, text in fields.items()]
    return (*lab, "train", f"--config={config}", *options, f"--workdir={workdir}")


def allowing(training: Training) -> Training:
    """Returns the training as one that also goes on with a run that other code began."""
    return training._replace(command=(*training.command, "--allow-changed-code"))


def texts(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Returns overrides as they are written on the command line."""
    return {
        key: value if isinstance(value, str) else repr(value) for key, value in overrides.items()
    }


def read_result(path: Path, wanted_hash: str) -> dict[str, Any] | None:
    """Returns a result file's content if it says that the run of this config hash is complete."""
    if not path.exists():
        return None
    try:
        result = read_json(path)
        wrong = json_files.fault(result, RESULT)
    except DataError as error:
        result, wrong = {}, str(error)
    if wrong or json_files.is_edited(result):
        wrong = wrong or "it was changed after the run had written it"
        logging.warning("%s: is damaged and does not count: %s", path, wrong)
        return None
    complete = result["status"] == "complete" and result["config_hash"] == wanted_hash
    return result if complete else None


def check_code(
    found: Iterable[tuple[Path, Mapping[str, Any], Mapping[str, str]]], *, allowed: bool
) -> None:
    """Checks that finished runs, which are not done again, were made by the code of now.

    So were they from the files of weights of now.

    Args:
        found: File and content of each result, and its code now.
        allowed: Whether other code is only warned of.

    Raises:
        UserError: Naming how many were not, and one of them.
        DataError: Naming a file of weights that is another one.
    """
    known = list(found)
    check_weights((r.get("config", {}).get("init_from", ""), r) for _, r, _ in known)
    silent = sum("code" not in result for _, result, _ in known)
    if silent:
        logging.warning("%d of %d finished runs say nothing of their code", silent, len(known))
    pairs = [(path, source.changes(r.get("code", here), here)) for path, r, here in known]
    other = [(path, changes) for path, changes in pairs if changes]
    if not other:
        return
    path, changes = other[0]
    text = f"{len(other)} of {len(pairs)} finished runs were made by other code: {path}: {changes}"
    if allowed:
        logging.warning("%s", text)
        return
    raise UserError(
        f"{text}; bring it back, take their numbers as they are by --allow-changed-code, or run "
        "them again in another --workdir"
    )


def data_key(config: ConfigDict) -> str:
    """Returns a name that configs with the same data share, "" if there are no data to prepare."""
    if "data" not in config:
        return ""
    text = canonical_json({"experiment": config.experiment, "data": config.data.to_dict()})
    return f"data-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def prepare(trainings: Sequence[Training], logs: Path) -> JobsResult:
    """Makes the artifacts of every distinct `config.data`, one process at a time on all cores.

    The jobs are named as `Training.data` says.
    """
    jobs = {}
    # Generators spread their members over devices, here one a core (of no effect on accelerators);
    # the bits of what they make do not depend on how many.
    flag = f"--xla_force_host_platform_device_count={len(job_list.usable_cpus())}"
    env = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}
    for training in trainings:
        key = training.data
        if key and key not in jobs:
            command = (*training.command, "--prepare")
            jobs[key] = Job(key, f"data of {training.label}", command, logs / f"{key}.log", env)
    with Progress(len(jobs), label="preparing data") as progress:
        return job_list.run_jobs(
            tuple(jobs.values()),
            workers=1,
            on_finish=lambda o: progress.finished(f"{o.job.label}: {ending(o)}"),
        )


def ending(outcome: Outcome, measured: str = "") -> str:
    """Returns how a job ended, for its printed line: what it measured, or why it failed."""
    text = measured or outcome.status
    if outcome.status != job_list.DONE:
        text = f"{outcome.status}: {outcome.message}"
    return f"{text}, {duration(outcome.seconds)}"


def reason(outcome: Outcome) -> str:
    """Returns why a job has no result."""
    return f"exit code {outcome.returncode}: {outcome.message}"


def run(
    trainings: Sequence[Training],
    *,
    logs: Path,
    workers: int | None,
    label: str,
    measured: Callable[[Training], str],
    on_start: Callable[[Job], None] | None = None,
    on_finish: Callable[[Outcome], None] | None = None,
) -> tuple[JobsResult, dict[str, str]]:
    """Prepares data, then runs the trainings, one printed line for each.

    Args:
        trainings: What to run.
        logs: Folder of the log files.
        workers: How many at a time.
        label: What the progress bar says.
        measured: What the line of a finished training says.
        on_start: Called with every job that starts.
        on_finish: Called with every job that ended.

    Returns:
        How the jobs ended, and why some of them (by name) have no result.
    """
    prepared = prepare(trainings, logs)
    if prepared.interrupted:
        return prepared._replace(outcomes=()), {}
    broken = {outcome.job.name: reason(outcome) for outcome in prepared.failed}
    problems = {
        training.name: f"data could not be prepared: {broken[training.data]}"
        for training in trainings
        if training.data in broken
    }
    todo = {training.name: training for training in trainings if training.name not in problems}
    jobs = [Job(t.name, t.label, t.command, logs / f"{t.name}.log", t.env) for t in todo.values()]
    with Progress(len(jobs), label=label) as progress:

        def finished(outcome: Outcome) -> None:
            if on_finish:
                on_finish(outcome)
            text = measured(todo[outcome.job.name]) if outcome.status == job_list.DONE else ""
            progress.finished(f"{outcome.job.label}: {ending(outcome, text)}")

        result = job_list.run_jobs(jobs, workers=workers, on_start=on_start, on_finish=finished)
    problems.update({outcome.job.name: reason(outcome) for outcome in result.failed})
    return result, problems
