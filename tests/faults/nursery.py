"""Many lives of `lab` for the price of one start: processes forked from one that has its imports.

A life is a process of its own with a number of its own, which signals and `kill -9` end like any
other; only Python and JAX's modules are there already. No JAX backend may be started before.
"""

import json
import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# What a life would import, so that it is there.
import common.loop.export
import common.loop.train  # noqa: F401
from common.lab import cli


class Life(NamedTuple):
    """How a process ended.

    Attributes:
        code: Its exit code; minus the number of the signal that killed it.
        seconds: From its start to its end.
        stdout: What it printed.
        stderr: What it said.
    """

    code: int
    seconds: float
    stdout: str
    stderr: str

    def errors(self) -> list[str]:
        """Returns the lines that say what went wrong."""
        return [line for line in self.stderr.splitlines() if line.startswith("lab: error: ")]

    def is_one_line(self, code: int) -> bool:
        """Returns whether it ended with this exit code and one line that says why."""
        ours = self.code == code and len(self.errors()) == 1
        return ours and "Traceback" not in self.stderr


Moment = Callable[[int], None]  # is given the number of the process; may wait, and send signals


def live(
    arguments: Sequence[str],
    folder: Path,
    moment: Moment | None = None,
    *,
    env: Mapping[str, str] | None = None,
    seconds: float = 120.0,
) -> Life:
    """Runs `lab` with `arguments` in a process of its own.

    Args:
        arguments: After `lab`.
        folder: Where what it prints is kept.
        moment: What to do while it lives; returns before the process is waited for.
        env: Environment variables to set.
        seconds: When it is killed, at the latest.
    """
    name = f"{os.getpid()}-{time.monotonic_ns()}"
    out, err = folder / f"{name}.stdout", folder / f"{name}.stderr"
    start = time.monotonic()
    number = _fork(lambda: _be_lab(arguments, out, err, env or {}))
    try:
        if moment is not None:
            moment(number)
        status = _wait(number, start + seconds)
    except BaseException:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        raise
    took = time.monotonic() - start
    return Life(os.waitstatus_to_exitcode(status), took, out.read_text(), err.read_text())


def apart(function: Callable[[], Any], folder: Path, *, seconds: float = 900.0) -> Any:
    """Returns what `function` returns in a process of its own, plain values only.

    For what starts a JAX backend, or changes the process for good.
    """
    answer = folder / f"{time.monotonic_ns()}.json"

    def run() -> int:
        answer.write_text(json.dumps(function()))
        return 0

    status = _wait(_fork(run), time.monotonic() + seconds)
    assert status == 0, f"{function}: it ended with {os.waitstatus_to_exitcode(status)}"
    return json.loads(answer.read_text())


def ended(number: int) -> bool:
    """Returns whether a child has ended, without taking its exit code."""
    return os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def cpu_seconds() -> float:
    """Returns the CPU time of this process and of the children it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _fork(run: Callable[[], int]) -> int:
    """Returns the number of a new process that ends with the exit code of `run`, and as it does."""
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        code = run()
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(number: int, deadline: float) -> int:
    while not ended(number):
        if time.monotonic() > deadline:
            os.kill(number, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitpid(number, 0)[1]


def _be_lab(arguments: Sequence[str], out: Path, err: Path, env: Mapping[str, str]) -> int:
    for stream, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    logging.getLogger().handlers.clear()  # those of the imports, which `lab` would come before
    os.environ.update(env)
    sys.argv = ["lab", *arguments]
    return cli.main()
