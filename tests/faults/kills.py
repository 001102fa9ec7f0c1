"""`kill -9` at random moments, again and again, and the same command every time."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults import experiments
from tests.faults.nursery import Moment, ended, live

MOST_KILLS_OF_A_RUN = 4
SOON = 0.05  # seconds: a save takes about as long


def campaign(name: str, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kills runs of one experiment `kills` times; every one of them is trained to its end.

    Every other moment is drawn evenly over the life of a run that is left alone, from the first
    import to the last file; those between come soon after a step, so that many kills meet training
    and saving. After every kill all checkpoints are verified; the newest step must not be older
    than it was before.

    Args:
        name: Of `tests.faults.experiments`.
        kills: How often to kill, over as many runs as it takes.
        seed: Of the moments.
        folder: Where the runs are made.

    Returns:
        Counts: `bitwise` of `runs` ended with the state, the metrics and the log of the run that
        was left alone; after `lost` kills a step was gone.
    """
    draw = random.Random(f"{seed} {name}")
    folder.mkdir(parents=True)
    whole = [live(experiments.train(name, folder / f"whole{k}"), folder) for k in range(2)]
    assert [life.code for life in whole] == [0, 0], whole[0].stderr
    wanted = experiments.outcome(folder / "whole0")
    assert experiments.outcome(folder / "whole1") == wanted
    counts = dict(kills=0, runs=0, bitwise=0, lost=0, before_the_first_save=0, tracebacks=0)
    while counts["kills"] < kills:
        workdir = folder / f"run{counts['runs']}"
        counts["runs"] += 1
        newest = -1
        for _ in range(min(kills - counts["kills"], MOST_KILLS_OF_A_RUN)):
            if counts["kills"] % 2:
                moment = _after(draw.uniform(0, whole[1].seconds))
            else:
                moment = _at_step(draw.randrange(1, wanted["step"] + 1), draw, workdir)
            life = live(experiments.train(name, workdir), folder, moment)
            if life.code == 0:
                break
            assert life.code == -signal.SIGKILL, life.stderr
            counts["kills"] += 1
            counts["tracebacks"] += "Traceback" in life.stderr
            before, newest = newest, experiments.newest_step(workdir)
            counts["before_the_first_save"] += newest < 0
            counts["lost"] += newest < before
        last = live(experiments.train(name, workdir), folder)
        counts["bitwise"] += last.code == 0 and experiments.outcome(workdir) == wanted
    return {**counts, "seed": seed, "state_sha256": wanted["state_sha256"]}


def _after(seconds: float) -> Moment:
    """Returns the moment so many seconds after the start."""

    def moment(number: int) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not ended(number):
            time.sleep(min(0.002, max(0.0, until - time.monotonic())))
        os.kill(number, signal.SIGKILL)

    return moment


def _at_step(step: int, draw: random.Random, workdir: Path) -> Moment:
    """Returns a moment soon after a step is in the log; one that is saved already comes at once."""
    pause = draw.uniform(0, SOON)

    def moment(number: int) -> None:
        wanted = f'"step": {step},'.encode()
        while not ended(number):
            if any(wanted in log.read_bytes() for log in workdir.glob("*/*/*/*/metrics.jsonl")):
                break
            time.sleep(0.002)
        time.sleep(pause)
        os.kill(number, signal.SIGKILL)

    return moment
