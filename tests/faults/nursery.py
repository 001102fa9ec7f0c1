"""Many lives of `lab` for the price of one start: processes forked from one that has its imports.

A life is a process of its own with a number of its own, which signals and `kill -9` end like any
other; only Python and JAX's modules are there already. No JAX backend may be started before.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Life(NamedTuple):
    """How a process ended.

    Attributes:
        code: Its exit code; minus the number of the signal that killed it.
        seconds: From its start to its end.
        cpu_seconds: Of the processor.
        stdout: What it printed.
        stderr: What it said.
    """

    code: int
    seconds: float
    cpu_seconds: float
    stdout: str
    stderr: str


Moment = Callable[[int], None]  # is given the number of the process; may wait, and send signals


def live(
    arguments: Sequence[str], folder: Path, moment: Moment | None = None, *, seconds: float = 300.0
) -> Life:
    """Runs `lab` with `arguments` in a process of its own.

    Args:
        arguments: After `lab`.
        folder: Where what it prints is kept.
        moment: What to do while it lives; returns before the process is waited for.
        seconds: When it is killed, at the latest.
    """
    out, err = folder / "stdout", folder / "stderr"
    start = time.monotonic()
    number = os.fork()
    if number == 0:
        _be_lab(arguments, out, err)
    try:
        if moment is not None:
            moment(number)
        status, used = _wait(number, start + seconds)
    except BaseException:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        raise
    code = os.waitstatus_to_exitcode(status)
    cpu = used.ru_utime + used.ru_stime
    return Life(code, time.monotonic() - start, cpu, out.read_text(), err.read_text())


def ended(number: int) -> bool:
    """Returns whether a child has ended, without taking its exit code."""
    return os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait(number: int, deadline: float) -> tuple[int, resource.struct_rusage]:
    while not ended(number):
        if time.monotonic() > deadline:
            os.kill(number, signal.SIGKILL)
        time.sleep(0.002)
    _, status, used = os.wait4(number, 0)
    return status, used


def _be_lab(arguments: Sequence[str], out: Path, err: Path) -> None:
    """Becomes `lab`: nothing of what started this process runs again in it."""
    code = 70
    try:
        for stream, path in ((1, out), (2, err)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, stream)
            os.close(descriptor)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        from common.lab import cli

        sys.argv = ["lab", *arguments]
        code = cli.main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
