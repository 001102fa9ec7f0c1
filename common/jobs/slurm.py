"""Runs the members of a sweep as Slurm jobs, through submitit (extra `slurm`)."""

import importlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import Interrupted, LabError, UserError
from common.jobs import pool as job_list
from common.jobs import trainings
from common.jobs.members import Member, metrics_text
from common.jobs.pool import DONE, FAILED, INTERRUPTED, Job, JobsResult, Outcome
from common.papers import REPOSITORY
from common.progress import Progress

POLL_SECONDS = 2.0


def run_on_slurm(
    missing: Sequence[Member], folder: Path, options: Mapping[str, Any]
) -> tuple[JobsResult, dict[str, str]]:
    """Returns how the submitted jobs ended, and why some members have no result.

    Waits for the jobs. A signal such as SIGINT cancels them: they save, and the same command
    continues.

    Args:
        missing: Members to run.
        folder: State folder of the sweep; submitit's files go into `slurm/` below it.
        options: Parameters of submitit such as {"timeout_min": 60, "slurm_partition": "gpu"};
            "cluster" chooses another executor than Slurm ("local": processes of this machine).

    Raises:
        UserError: If submitit is not installed or refuses an option.
        LabError: If a job cannot be submitted.
    """
    executor = _executor(folder / "slurm", options)
    if not missing:
        return JobsResult((), False), {}
    state, start = folder / "state.jsonl", time.monotonic()
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    try:
        submitted = [
            (member, executor.submit(subprocess.call, _command(member, path))) for member in missing
        ]
    except RuntimeError as error:  # FailedSubmissionError, or no sbatch
        raise LabError(f"--slurm: cannot submit: {_line(str(error))}") from error
    for member, job in submitted:
        job_list.record(state, member.training.name, "submitted", slurm_job=job.job_id)
    outcomes: list[Outcome] = []
    with job_list.caught_signals() as signals, Progress(len(missing), label="Slurm") as progress:
        progress.say(f"submitted {len(missing)} jobs; logs in {folder / 'slurm'}")
        waiting, cancelled = list(submitted), False
        while waiting:
            if signals.received and not cancelled:
                cancelled = True
                progress.say("cancelling the jobs, which save and exit")
                for _, job in waiting:
                    job.cancel(check=False)
            for member, job in [pair for pair in waiting if pair[1].done()]:
                waiting.remove((member, job))
                outcome = _outcome(member, job, time.monotonic() - start, cancelled=cancelled)
                outcomes.append(outcome)
                facts = {"returncode": outcome.returncode, "message": outcome.message}
                job_list.record(state, member.training.name, outcome.status, **facts)
                measured = metrics_text(member) if outcome.status == DONE else ""
                progress.finished(f"{outcome.job.label}: {trainings.ending(outcome, measured)}")
            time.sleep(POLL_SECONDS)
    result = JobsResult(tuple(outcomes), any(o.status == INTERRUPTED for o in outcomes))
    problems = {o.job.name: trainings.reason(o) for o in result.failed}
    return result, problems


def _command(member: Member, python_path: str) -> list[str]:
    return ["env", f"PYTHONPATH={python_path}", *member.training.command]


def _executor(folder: Path, options: Mapping[str, Any]) -> Any:
    try:
        submitit: Any = importlib.import_module("submitit")
    except ImportError as error:
        raise UserError("--slurm: submitit is missing; install it with the extra: slurm") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=options.get("cluster", "slurm"))
        parameters = {key: value for key, value in options.items() if key != "cluster"}
        executor.update_parameters(**{"name": "lab-sweep", **parameters})
    except (AssertionError, NameError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"--slurm: the sweep's slurm={options}: {_line(str(error))}") from error
    return executor


def _outcome(member: Member, job: Any, seconds: float, *, cancelled: bool) -> Outcome:
    """Returns how a job ended; its own result, the exit code, is there if it was not killed."""
    training = member.training
    failure = job.exception()
    code = 1 if failure is not None else int(job.result())
    if member.is_done():
        status = DONE
    elif cancelled or code == Interrupted.exit_code:
        status = INTERRUPTED
    else:
        status = FAILED
    errors = (job.stderr() or "").strip().splitlines()
    message = errors[-1] if errors else _line(str(failure)) if failure else f"exit code {code}"
    log = Path(str(job.paths.stderr))
    described = Job(training.name, training.label, training.command, log)
    return Outcome(described, status, code, seconds, message[:300])


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
