"""Runs a list of child processes, a few at a time; signals are passed on and failures isolated.

Children are `lab` commands that save and exit with 75 when they are signalled, so a stopped job
list is continued by running it again. Each child gets its own share of the cores: XLA sizes its
thread pools by the cores a process may use, and two pools on the same cores slow each other down.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.devices.interrupts import Asked, handled, say
from common.errors import Interrupted, UserError
from common.files.storage import storage_errors
from common.papers import REPOSITORY

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
POLL_SECONDS = 0.05
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
# What XLA, JAX, Python and the C++ library say where memory could not be had.
NO_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "MemoryError", "std::bad_alloc")
LESS = "run fewer at a time (--jobs=1), lower config.batch_size or sizes in config.data"
PYTHON = (sys.executable, "-P")  # -P: a folder `common` in the working directory is not ours


class Job(NamedTuple):
    """A child process: `name` identifies it in state files, `label` is for people."""

    name: str
    label: str
    command: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = {}


class Outcome(NamedTuple):
    """How a job ended: `message` is the last line of its log."""

    job: Job
    status: str
    returncode: int
    seconds: float
    message: str


class JobsResult(NamedTuple):
    """Outcomes of the jobs that were started, in the order they ended."""

    outcomes: tuple[Outcome, ...]
    interrupted: bool

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Returns the jobs that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == FAILED)


def usable_cpus() -> tuple[int, ...]:
    """Returns the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def default_workers() -> int:
    """Returns how many jobs to run at once if nobody says: two, or one on a single core."""
    return min(2, len(usable_cpus()))


def core_shares(cpus: Sequence[int], workers: int) -> tuple[tuple[int, ...], ...]:
    """Returns disjoint shares of the cores, one for each worker; more workers than cores share."""
    if workers >= len(cpus):
        return tuple((cpus[worker % len(cpus)],) for worker in range(workers))
    edges = [worker * len(cpus) // workers for worker in range(workers + 1)]
    return tuple(tuple(cpus[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True))


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    on_start: Callable[[Job], None] | None = None,
    on_finish: Callable[[Outcome], None] | None = None,
) -> JobsResult:
    """Returns how the jobs ended, having run `workers` (0: as many as is best) at a time.

    One that fails does not stop the others. SIGINT, SIGTERM and the like
    (`common.devices.interrupts`) are passed to the children as SIGTERM and no job is started after
    them; a second Ctrl-C kills the children.

    Raises:
        UserError: If `workers` is negative.
        DataError: If a log file cannot be written.
    """
    workers = workers or default_workers()
    if workers < 0:
        raise UserError(f"--jobs={workers}: expected an integer of at least 1")
    workers = min(workers, max(1, len(jobs)))
    free = list(core_shares(usable_cpus(), workers))
    waiting, running, outcomes = list(jobs), [], []
    with caught_signals() as signals:
        try:
            while running or (waiting and not signals.received):
                while waiting and free and not signals.received:
                    running.append(_start(waiting.pop(0), free.pop(0)))
                    if on_start:
                        on_start(running[-1].job)
                signals.forward(running)
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    free.append(child.cpus)
                    outcomes.append(_outcome(child, stopped=bool(signals.received)))
                    if on_finish:
                        on_finish(outcomes[-1])
                time.sleep(POLL_SECONDS)
        finally:
            _end(running)
        stopped = bool(signals.received)
    return JobsResult(tuple(outcomes), stopped or any(o.status == INTERRUPTED for o in outcomes))


def stopped(result: JobsResult, total: int) -> str:
    """Returns how far a stopped list came: "stopped: 3 of 12 done, 2 stopped halfway"."""
    counts = {s: sum(o.status == s for o in result.outcomes) for s in (DONE, FAILED, INTERRUPTED)}
    failed = f", {counts[FAILED]} failed" if counts[FAILED] else ""
    return f"stopped: {counts[DONE]} of {total} done{failed}, {counts[INTERRUPTED]} stopped halfway"


def record(path: Path, job: str, status: str, **facts: Any) -> None:
    """Appends one line to a state file and forces it to disk.

    Raises:
        DataError: If it cannot be written.
    """
    line = json.dumps({"job": job, "status": status, "time": round(time.time(), 3), **facts})
    with storage_errors(path), path.open("a+b") as file:
        torn = file.tell() > 0 and _last_byte(file) != b"\n"  # a crash in the middle of a line
        file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


class Child(NamedTuple):
    """A running job and the cores it may use."""

    job: Job
    process: subprocess.Popen[bytes]
    cpus: tuple[int, ...]
    start: float


class Signals:
    """Counts how often somebody asked to stop, once it is told of signals."""

    def __init__(self) -> None:
        self._asked = Asked()
        self._forwarded = 0

    @property
    def received(self) -> int:
        """Returns 0, 1 after a signal, and more after Ctrl-C again."""
        return self._asked.times

    def count(self, number: int) -> None:
        """Handles a signal."""
        before = self.received
        if self._asked.count(number) > before == 0:
            say(
                f"{signal.Signals(number).name}: the runs under way save and stop; "
                "a second Ctrl-C ends them at once, without saving"
            )

    def forward(self, children: Sequence[Child]) -> None:
        """Passes what came since the last call on: SIGTERM the first time, then SIGKILL."""
        if self.received == self._forwarded:
            return
        number = signal.SIGTERM if self._forwarded == 0 else signal.SIGKILL
        self._forwarded = self.received
        for child in children:
            _kill(child, number)


@contextlib.contextmanager
def caught_signals() -> Iterator[Signals]:
    """Catches the signals that stop a program, so that what runs can be stopped in order."""
    signals = Signals()
    with handled(signals.count):
        yield signals


def _start(job: Job, cpus: tuple[int, ...]) -> Child:
    env = {**os.environ, **_thread_limits(cpus), **job.env}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), env.get("PYTHONPATH"))))
    pinned = ",".join(map(str, cpus))
    command = [*PYTHON, "-m", "common.jobs.child", str(os.getpid()), pinned, *job.command]
    with storage_errors(job.log):
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            log.write(f"$ {shlex.join(job.command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,  # Ctrl-C reaches the children once, through us
            )
    return Child(job, process, cpus, time.monotonic())


def _thread_limits(cpus: Sequence[int]) -> dict[str, str]:
    if len(cpus) == len(usable_cpus()):
        return {}
    return {"OMP_NUM_THREADS": str(len(cpus)), "OPENBLAS_NUM_THREADS": str(len(cpus))}


def _outcome(child: Child, *, stopped: bool) -> Outcome:
    code = child.process.returncode
    killed = stopped and code in (-signal.SIGTERM, -signal.SIGKILL)  # before it could save
    if code == 0:
        status = DONE
    elif code == Interrupted.exit_code or killed:
        status = INTERRUPTED
    else:
        status = FAILED
    seconds = time.monotonic() - child.start
    said = _last_lines(child.job.log)
    message = _death(said, code) if code < 0 and not killed else ""
    return Outcome(child.job, status, code, seconds, message or _last_line(said, code))


def _death(said: Sequence[str], code: int) -> str:
    """Returns what happened to a job that did not end by itself, and what to do; "" if unknown."""
    name = signal.Signals(-code).name
    short = next((line for line in said if any(word in line for word in NO_MEMORY)), "")
    if short and -code in (*CRASHES, signal.SIGKILL):
        return f"{name}: no memory left ({short[:200]}); {LESS}"
    if -code == signal.SIGKILL:
        return f"{name}: killed by the system, which does so when memory runs out; then {LESS}"
    if -code in CRASHES:
        return f"{name}: crashed, its log ends with: {said[-1][:200] if said else 'nothing'}"
    return ""


def _last_lines(log: Path) -> list[str]:
    """Returns the last lines that a job wrote, stripped, without empty ones and its command."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 100_000))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    written = [line for line in lines if line]
    begins = max((k for k, line in enumerate(written) if line.startswith("$ ")), default=-1)
    return written[begins + 1 :]


def _last_line(said: Sequence[str], code: int) -> str:
    if said:
        return said[-1][:500]
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}, nothing printed"


def _end(running: Sequence[Child]) -> None:
    for child in running:  # only after an error of our own
        _kill(child, signal.SIGTERM)
    for child in running:
        child.process.wait()


def _kill(child: Child, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.killpg(child.process.pid, number)


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
