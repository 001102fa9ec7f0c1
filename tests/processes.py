"""Starting a process of its own for a test: with simulated devices, a time limit and one retry."""

import json
import os
import signal
import socket
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_pair(code: str, *arguments: str, seconds: float = 60.0) -> list[dict]:
    """Runs `code` in two processes of one run; returns the JSON of their last lines."""
    try:
        return _run_pair(code, arguments, seconds)
    except subprocess.TimeoutExpired:  # a rendezvous can hang on a busy machine
        return _run_pair(code, arguments, seconds)


def _run_pair(code: str, arguments: Sequence[str], seconds: float) -> list[dict]:
    shared = {"LAB_COORDINATOR": f"127.0.0.1:{free_port()}", "LAB_NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **shared, "LAB_PROCESS_ID": str(i), "PYTHONPATH": str(REPOSITORY)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0, 0], outputs
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]
