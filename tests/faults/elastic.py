"""Runs that are stopped and go on with other numbers of devices and of processes."""

import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults import papers
from tests.faults.experiments import newest_step, outcome
from tests.faults.nursery import Life, ended, live
from tests.faults.team import Ended, Team

# Sums in the order of eight parts of the batch: the same bits on any number of devices.
TRAIN = ("train", "--config=tests/tiny/slow.py:cpu", "--config.deterministic=true")
DEVICES = (8, 4, 2, 1, 8)
FAST_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
SLOWLY = "--config.milliseconds=40"  # leaves time to be killed; no part of the numbers


def devices(folder: Path, *, spec: Sequence[str] = TRAIN, every: int = 18) -> dict[str, Any]:
    """Trains on 8, 4, 2, 1 and again 8 simulated devices, a stop by SIGTERM between.

    Args:
        folder: Where the runs are made.
        spec: The words after `lab`.
        every: How many steps to train before a stop, at least.
    """
    folder.mkdir(parents=True)
    run = lambda words, moment=None: live(words, folder, moment, seconds=600.0)
    whole = run([*spec, f"--workdir={folder / 'whole'}"])
    assert whole.code == 0, whole.stderr
    stops, ends, life = 0, [], None
    for k, count in enumerate(DEVICES):
        moment = None if k == len(DEVICES) - 1 else _stop_after((k + 1) * every, folder / "moved")
        words = [*spec, f"--workdir={folder / 'moved'}", f"--devices={count}"]
        life = _again_if_it_hangs(lambda words=words, moment=moment: run(words, moment))
        stops += life.code == 75
        ends.append(newest_step(folder / "moved"))
    assert life is not None and life.code == 0, life
    same = outcome(folder / "moved")["state_sha256"] == outcome(folder / "whole")["state_sha256"]
    return {"devices": list(DEVICES), "stops": stops, "at_steps": ends, "bitwise": int(same)}


def paper(name: str, folder: Path) -> dict[str, Any]:
    """Does the same with a small experiment of a paper.

    Its programs are compiled with few optimizations, in two thirds of the time.
    """
    spec = papers.train(name, steps=60, deterministic=True)
    with mock.patch.dict(os.environ, XLA_FLAGS=FAST_TO_COMPILE):
        return devices(folder, spec=spec, every=10)


def lost_worker(size: int, victim: int, folder: Path, *, then: Sequence[int]) -> dict[str, Any]:
    """Kills one of several processes; the same command, or fewer processes, go on to the end.

    Args:
        size: How many processes.
        victim: The number of the one that is killed.
        folder: Where the runs are made.
        then: How many processes go on, one attempt after the other, each from a copy.

    Returns:
        `seconds` until the last of the others had ended, whether each said in one line which one
        is gone, and for each of `then` whether the run ended with the bits of a single process.
    """
    folder.mkdir(parents=True)
    whole = live([*TRAIN, f"--workdir={folder / 'whole'}"], folder)
    assert whole.code == 0, whole.stderr
    wanted = outcome(folder / "whole")["state_sha256"]
    lost, killed_at = _killed(size, victim, folder)
    others = [end for k, end in enumerate(lost) if k != victim]
    says = f"lab: process {victim} of {size} is gone"
    clear = [end.error.splitlines()[-1].startswith(says) and end.code == 75 for end in others]
    found: dict[str, Any] = {
        "processes": size,
        "killed": victim,
        "seconds": round(max(end.at for end in others) - killed_at, 2),
        "clear": int(all(clear) and not any("Traceback" in end.error for end in others)),
        "resumed": {},
    }
    for count in then:
        workdir = folder / f"then{count}"
        shutil.copytree(folder / "lost", workdir)
        began = newest_step(workdir)
        ends = _finish(count, workdir, folder)
        ok = began > 0 and all(code == 0 for code in ends)
        same = ok and outcome(workdir)["state_sha256"] == wanted
        found["resumed"][str(count)] = {"from_step": began, "bitwise": int(same)}
    return found


def _killed(size: int, victim: int, folder: Path) -> tuple[list[Ended], float]:
    words = [*TRAIN, SLOWLY, f"--workdir={folder / 'lost'}"]
    with Team(words, size, folder / "lost_logs") as team:
        deadline = time.monotonic() + 200
        while newest_step(folder / "lost") < 40 and time.monotonic() < deadline:
            time.sleep(0.05)
        team.processes[victim].kill()
        at = time.monotonic()
        return team.wait(seconds=150), at


def _finish(count: int, workdir: Path, folder: Path) -> list[int]:
    words = [*TRAIN, SLOWLY, f"--workdir={workdir}"]
    if count == 1:
        return [live(words, folder).code]
    with Team(words, count, folder / f"then{count}_logs") as team:
        return [end.code for end in team.wait(seconds=200)]


def _stop_after(step: int, workdir: Path) -> Any:
    def moment(number: int) -> None:
        wanted = f'"step": {step},'.encode()
        while not ended(number):
            if any(wanted in log.read_bytes() for log in workdir.glob("*/*/*/*/metrics.jsonl")):
                break
            time.sleep(0.005)
        os.kill(number, signal.SIGTERM)

    return moment


def _again_if_it_hangs(run: Any) -> Life:
    """A rendezvous of more simulated devices than cores can hang: killed, and tried once more."""
    life = run()
    return run() if life.code == -signal.SIGKILL else life
