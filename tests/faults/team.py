"""Several processes of `lab train --distributed` over loopback, some of which are killed."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.processes import REPOSITORY, free_port


class Ended(NamedTuple):
    """How a process ended: exit code, what it said, and when by `time.monotonic`."""

    code: int
    error: str
    at: float


class Team:
    """The processes of one run; all end when the block does.

    Args:
        arguments: After `lab`; "--distributed" is added.
        size: How many processes.
        folder: Where what they say is kept.
        env: Environment variables to set.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        size: int,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shared = {"LAB_COORDINATOR": f"127.0.0.1:{free_port()}", "LAB_NUM_PROCESSES": str(size)}
        self._logs = [folder / f"process{k}.log" for k in range(size)]
        self.processes = []
        for k, log in enumerate(self._logs):
            with log.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "common.lab.cli", *arguments, "--distributed"],
                        cwd=REPOSITORY,
                        env={**os.environ, "XLA_FLAGS": "", **shared, **(env or {})}
                        | {"LAB_PROCESS_ID": str(k), "PYTHONPATH": str(REPOSITORY)},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=file,
                    )
                )

    def __enter__(self) -> "Team":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def wait(self, *, seconds: float) -> list[Ended]:
        """Returns how all processes ended.

        Raises:
            TimeoutError: If one goes on for longer.
        """
        ends: dict[int, float] = {}
        deadline = time.monotonic() + seconds
        while len(ends) < len(self.processes):
            for k, process in enumerate(self.processes):
                if k not in ends and process.poll() is not None:
                    ends[k] = time.monotonic()
            if time.monotonic() > deadline:
                said = [log.read_text()[-500:] for log in self._logs]
                raise TimeoutError(f"after {seconds:g} s only {sorted(ends)} have ended: {said}")
            time.sleep(0.01)
        return [
            Ended(process.returncode, log.read_text(), ends[k])
            for k, (process, log) in enumerate(zip(self.processes, self._logs, strict=True))
        ]
