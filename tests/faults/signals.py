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
        line; `bitwise` the run left alone. Seconds of every trial: `to_the_end` of the process from
        the signal, of which `to_the_seal` of the state that was saved, of which `save`, from the
        first file of it to the last. `others`: saves that had begun before, and were waited for.
        `within`: sealed after one step and these saves, each as long as the longest of all.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    train = ["train", f"--config={CONFIG}", f"--config.milliseconds={1000 * STEP_SECONDS:g}"]
    assert live([*train, f"--workdir={folder / 'whole'}"], folder).code == 0
    wanted = outcome(folder / "whole")
    longest = max(end - start for start, end in _saves(folder / "whole").values())
    saved, bitwise, trials = 0, 0, []
    for trial in range(times):
        workdir = folder / str(trial)
        sent = _Sent(workdir, draw.randrange(1, STEPS - 10), draw.uniform(0, 2 * STEP_SECONDS))
        life = live([*train, f"--workdir={workdir}"], folder, sent.moment)
        end = time.time()
        step, saves = newest_step(workdir), _saves(workdir)
        # A line is logged a step later, while the next one runs.
        soon = sent.logged <= step <= sent.logged + 3
        says = life.stderr.strip().splitlines()[-1].startswith("lab: stopped at step")
        saved += life.code == 75 and soon and says and "Traceback" not in life.stderr
        begun, sealed = saves[step]
        others = sum(a < sent.at < b for k, (a, b) in saves.items() if k != step)
        longest = max(longest, *(b - a for a, b in saves.values()))
        seconds = {"to_the_end": end, "to_the_seal": sealed, "save": sealed - begun + sent.at}
        trials.append({k: round(x - sent.at, 3) for k, x in seconds.items()} | {"others": others})
        last = live([*train, f"--workdir={workdir}"], folder)
        bitwise += last.code == 0 and outcome(workdir) == wanted
    within = sum(
        one["to_the_seal"] <= STEP_SECONDS + (1 + one["others"]) * longest for one in trials
    )
    return {
        "signals": times,
        "saved": saved,
        "bitwise": bitwise,
        "within": within,
        "step_seconds": STEP_SECONDS,
        "longest_save": round(longest, 3),
        "longest_to_the_end": max(one["to_the_end"] for one in trials),
        "seed": seed,
        "seconds": trials,
    }


def _saves(workdir: Path) -> dict[int, tuple[float, float]]:
    """Returns when the first file of every checkpoint was written, and when its manifest was."""
    found = {}
    for seal in workdir.glob("*/*/*/*/checkpoints/*/MANIFEST.json"):
        times = [path.stat().st_mtime for path in seal.parent.rglob("*")]
        found[int(seal.parent.name)] = (min(times), seal.stat().st_mtime)
    return found


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
        self.logged, self.at = self._lines(), time.time()
        os.kill(number, signal.SIGTERM)

    def _lines(self) -> int:
        logs = list(self._workdir.glob("*/*/*/*/metrics.jsonl"))
        return sum(log.read_bytes().count(b'"kind": "train"') for log in logs)
