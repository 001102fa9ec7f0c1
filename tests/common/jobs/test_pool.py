"""Job lists: failures isolated, signals passed on, cores shared, state that survives a crash."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.devices.interrupts import STOPPING
from common.errors import DataError, UserError
from common.files.storage import locked
from common.jobs import pool
from common.jobs.pool import DONE, FAILED, INTERRUPTED, Job, Outcome, run_jobs
from common.papers import REPOSITORY
from common.progress import duration
from tests.common.state_files import read_state

WAIT = (  # a child that saves and exits with 75 when it is signalled
    "import pathlib, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
    "pathlib.Path(sys.argv[1]).touch()\n"
    "time.sleep(60)\n"
)
STUBBORN = WAIT.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN")


def job(tmp_path: Path, name: str, code: str, *words: str) -> Job:
    command = (sys.executable, "-c", code, *words)
    return Job(name, f"job {name}", command, tmp_path / f"{name}.log")


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 30
    while not all(path.exists() for path in paths) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(path.exists() for path in paths)


def run_and_signal(
    tmp_path: Path, code: str, *, signals: int, number: signal.Signals = signal.SIGINT
) -> tuple[str, float]:
    """Runs three waiting jobs, two at a time, in a process that is then signalled."""
    runner = (
        "import sys; from pathlib import Path; from common.jobs.pool import Job, run_jobs\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"command = lambda i: (sys.executable, '-c', {code!r}, str(folder / f'ready{{i}}'))\n"
        "jobs = [Job(f'j{i}', '', command(i), folder / f'{i}.log') for i in range(3)]\n"
        "result = run_jobs(jobs, workers=2)\n"
        "print([(o.job.name, o.status, o.returncode) for o in result.outcomes], result.interrupted)"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", runner], env=env, stdout=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "ready0", tmp_path / "ready1")
    start = time.monotonic()
    for _ in range(signals):
        process.send_signal(number)
        time.sleep(0.3)
    out, _ = process.communicate(timeout=30)
    return out, time.monotonic() - start


def test_a_failing_job_does_not_stop_the_others(tmp_path: Path) -> None:
    fails = "import sys; print('why\\n'); sys.exit(3)"
    listed = [
        job(tmp_path, "fails", fails),
        job(tmp_path, "prints", "print('one\\ntwo')"),
        job(tmp_path, "dies", "import os; os.kill(os.getpid(), 9)"),
        Job("missing", "", (str(tmp_path / "no-such-program"),), tmp_path / "missing.log"),
    ]
    seen: list[Outcome] = []

    result = run_jobs(listed, workers=2, on_finish=seen.append)

    ended = {o.job.name: (o.status, o.returncode, o.message) for o in result.outcomes}
    assert ended["fails"] == (FAILED, 3, "why")
    assert ended["prints"] == (DONE, 0, "two")
    assert ended["dies"][:2] == (FAILED, -9)
    assert ended["dies"][2].startswith("SIGKILL: killed by the system")
    assert ended["missing"][:2] == (FAILED, 1)
    assert "no-such-program: No such file" in ended["missing"][2]
    assert seen == list(result.outcomes)
    assert {o.job.name for o in result.failed} == {"fails", "dies", "missing"}
    assert not result.interrupted


def test_a_job_that_memory_ended_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    # As XLA for CPUs does it: a line with the reason, a stack trace, and SIGABRT.
    trace = "*** Check failure stack trace: ***\\n    @ 0x7f33e1 absl::LogMessage::Die()"
    why = "F1130 status.cc:42] RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes."
    aborts = f"import os; os.write(2, b'{why}\\n{trace}\\n'); os.abort()"
    crashes = "import os; print('a bug', flush=True); os.kill(os.getpid(), 11)"
    listed = [job(tmp_path, "aborts", aborts), job(tmp_path, "crashes", crashes)]

    result = run_jobs(listed, workers=1)

    assert [o.status for o in result.outcomes] == [FAILED, FAILED]
    no_memory, crashed = (o.message for o in result.outcomes)
    assert no_memory.startswith(f"SIGABRT: no memory left ({why})")
    assert "--jobs=1" in no_memory and "config.batch_size" in no_memory
    assert crashed == "SIGSEGV: crashed, its log ends with: a bug"


def test_workers_run_at_the_same_time_on_cores_of_their_own(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    # Each of the two waits until the other has started: one at a time would never end.
    code = (
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1]).write_text(','.join(map(str, os.sched_getaffinity(0))))\n"
        "deadline = time.monotonic() + 30\n"
        "while not pathlib.Path(sys.argv[2]).exists() and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)\n"
        "sys.exit(not pathlib.Path(sys.argv[2]).exists())\n"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    listed = [job(tmp_path, "a", code, a, b), job(tmp_path, "b", code, b, a)]

    result = run_jobs(listed, workers=2)

    assert [o.status for o in result.outcomes] == [DONE, DONE]
    used = [set(map(int, Path(p).read_text().split(","))) for p in (a, b)]
    if len(cores) > 1:
        assert not used[0] & used[1]
        assert used[0] | used[1] == set(cores)


@pytest.mark.parametrize(
    ("workers", "shares"),
    [
        (1, ((2, 3, 5, 7, 11),)),
        (2, ((2, 3), (5, 7, 11))),
        (5, ((2,), (3,), (5,), (7,), (11,))),
        (6, ((2,), (3,), (5,), (7,), (11,), (2,))),
    ],
)
def test_core_shares_are_disjoint_and_use_every_core(workers: int, shares: tuple) -> None:
    assert pool.core_shares((2, 3, 5, 7, 11), workers) == shares


@pytest.mark.parametrize(
    ("number", "signals"), [(signal.SIGINT, 1), (signal.SIGHUP, 2), (signal.SIGUSR1, 1)]
)
def test_a_signal_is_passed_on_once_and_starts_nothing_new(
    tmp_path: Path, number: signal.Signals, signals: int
) -> None:
    out, _ = run_and_signal(tmp_path, WAIT, signals=signals, number=number)

    assert "('j0', 'interrupted', 75)" in out
    assert "('j1', 'interrupted', 75)" in out
    assert "j2" not in out
    assert out.rstrip().endswith("True")
    assert not (tmp_path / "ready2").exists()


def test_a_second_signal_kills_children_that_do_not_stop(tmp_path: Path) -> None:
    out, seconds = run_and_signal(tmp_path, STUBBORN, signals=2)

    assert "('j0', 'interrupted', -9)" in out
    assert seconds < 20  # they would have slept for 60


def test_children_stop_when_their_runner_is_killed(tmp_path: Path) -> None:
    marked = WAIT.replace("sys.exit(75)", "(pathlib.Path(sys.argv[2]).touch(), sys.exit(75))")
    runner = (
        "import sys; from pathlib import Path; from common.jobs.pool import Job, run_jobs\n"
        f"words = (sys.executable, '-c', {marked!r}, {str(tmp_path / 'ready')!r},"
        f" {str(tmp_path / 'saved')!r})\n"
        f"run_jobs([Job('j', '', words, Path({str(tmp_path / 'log')!r}))])"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-c", runner], env=env)
    wait_for(tmp_path / "ready")
    process.kill()
    process.wait()

    wait_for(tmp_path / "saved")


def test_a_child_that_was_stopped_by_itself_counts_as_interrupted(tmp_path: Path) -> None:
    listed = [job(tmp_path, "a", "raise SystemExit(75)"), job(tmp_path, "b", "")]

    result = run_jobs(listed, workers=1)

    assert [o.status for o in result.outcomes] == [INTERRUPTED, DONE]
    assert result.interrupted
    assert pool.stopped(result, 2) == "stopped: 1 of 2 done, 1 stopped halfway"


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in STOPPING]

    run_jobs([job(tmp_path, "a", "")])

    assert [signal.getsignal(number) for number in STOPPING] == before


def test_an_error_of_our_own_leaves_no_child_behind(tmp_path: Path) -> None:
    def broken(outcome: Outcome) -> None:
        raise RuntimeError("bug")

    waits = job(tmp_path, "waits", WAIT, str(tmp_path / "ready"))
    ends = job(
        tmp_path,
        "ends",
        "import pathlib, time, sys\nwait = pathlib.Path(sys.argv[1])\n"
        "while not wait.exists(): time.sleep(0.01)",
        str(tmp_path / "ready"),
    )

    start = time.monotonic()
    with pytest.raises(RuntimeError, match="bug"):
        run_jobs([waits, ends], workers=2, on_finish=broken)
    assert time.monotonic() - start < 30


def test_state_keeps_the_latest_record_and_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    pool.record(path, "a", "started")
    pool.record(path, "b", "started")
    pool.record(path, "a", "failed", message="why")
    with path.open("a") as file:
        file.write('{"job": "b", "stat')  # the process was killed here
    assert read_state(path)["b"]["status"] == "started"

    pool.record(path, "c", "done")

    state = read_state(path)
    assert {name: entry["status"] for name, entry in state.items()} == {
        "a": "failed",
        "b": "started",
        "c": "done",
    }
    assert state["a"]["message"] == "why"


def test_two_runners_of_the_same_jobs_are_refused(tmp_path: Path) -> None:
    def lock() -> contextlib.AbstractContextManager[None]:
        return locked(tmp_path / "state", "sweep s")

    with lock(), pytest.raises(UserError, match="sweep s is being run by another process"), lock():
        pass
    with lock():
        pass


def test_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "log"

    with pytest.raises(DataError, match="file"):
        run_jobs([Job("a", "", ("true",), inside)])
    with pytest.raises(DataError, match="file"):
        pool.record(inside, "a", "done")
    with pytest.raises(UserError, match="--jobs=-1"):
        run_jobs([], workers=-1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text
