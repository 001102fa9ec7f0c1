"""SIGTERM at random moments of training: saved, code 75, and the same command goes on."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults.experiments import newest_step, outcome
from tests.faults.nursery import Moment, ended, live

CONFIG = "tests/tiny/slow.py:cpu"
STEPS, STEP_SECONDS = 100, 0.015


def campaign(times: int, seed: int, folder: Path) -> dict[str, Any]:
    """Sends SIGTERM `times` times, each to a run of its own, which is then trained to its end.

    Returns:
        Counts: `saved` after a step that had begun when the signal came, with exit code 75 and one
        line; `bitwise` the run left alone. `seconds`: from the signal to the end of the process.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    train = ["train", f"--config={CONFIG}", f"--config.milliseconds={1000 * STEP_SECONDS:g}"]
    assert live([*train, f"--workdir={folder / 'whole'}"], folder).code == 0
    wanted = outcome(folder / "whole")
    saved, bitwise, seconds = 0, 0, []
    for trial in range(times):
        workdir = folder / str(trial)
        sent = _Sent(workdir, draw.randrange(1, STEPS - 10), draw.uniform(0, 2 * STEP_SECONDS))
        life = live([*train, f"--workdir={workdir}"], folder, sent.moment)
        seconds.append(round(time.monotonic() - sent.at, 3))
        # A line is logged a step later, while the next one runs.
        soon = sent.logged <= newest_step(workdir) <= sent.logged + 3
        says = life.stderr.strip().splitlines()[-1].startswith("lab: stopped at step")
        saved += life.code == 75 and soon and says and "Traceback" not in life.stderr
        last = live([*train, f"--workdir={workdir}"], folder)
        bitwise += last.code == 0 and outcome(workdir) == wanted
    return {
        "signals": times,
        "saved": saved,
        "bitwise": bitwise,
        "seed": seed,
        "step_seconds": STEP_SECONDS,
        "seconds": seconds,
    }


class _Sent:
    """A signal that is sent `pause` seconds after `step` is in the log."""

    def __init__(self, workdir: Path, step: int, pause: float) -> None:
        self._workdir, self._step, self._pause = workdir, step, pause
        self.logged, self.at = 0, 0.0
        self.moment: Moment = self._send

    def _send(self, number: int) -> None:
        while not ended(number) and self._lines() < self._step:
            time.sleep(0.002)
        time.sleep(self._pause)
        self.logged, self.at = self._lines(), time.monotonic()
        os.kill(number, signal.SIGTERM)

    def _lines(self) -> int:
        logs = list(self._workdir.glob("*/*/*/*/metrics.jsonl"))
        return sum(log.read_bytes().count(b'"kind": "train"') for log in logs)
