"""Starting a process of its own for a test: with simulated devices, a time limit and one retry."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

Done = subprocess.CompletedProcess[str]
Child = Callable[..., Done]  # what the fixture `child` is: `run_child`


def run_child(
    what: str | Sequence[str],
    *arguments: str,
    devices: int = 1,
    env: dict[str, str] | None = None,
    cwd: Path = REPOSITORY,
    seconds: float = 120.0,
) -> Done:
    """Runs a Python snippet with `arguments`, or `lab` with a list of them, in a new process.

    A process over its time limit is killed with all it started, and run once more: a rendezvous of
    more simulated devices than cores can hang. The second time-out raises TimeoutExpired.
    """
    flags = [os.environ.get("XLA_FLAGS", "")]  # the instruction set alone, see tests/conftest.py
    flags += [f"--xla_force_host_platform_device_count={devices}"] if devices > 1 else []
    environment = {**os.environ, "XLA_FLAGS": " ".join(flags), "PYTHONPATH": str(REPOSITORY)}
    environment |= env or {}
    start = ["-c", what, *arguments] if isinstance(what, str) else ["-m", "common.lab.cli", *what]
    command = [sys.executable, *start]
    try:
        return _run(command, environment, cwd, seconds)
    except subprocess.TimeoutExpired:
        return _run(command, environment, cwd, seconds)


def _run(command: list[str], env: dict[str, str], cwd: Path, seconds: float) -> Done:
    with subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
