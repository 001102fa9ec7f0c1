"""Storage that fails: full, read-only, taken by another process, caches that somebody damaged."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import damage, experiments
from tests.faults.experiments import OPERATOR, POPULATION, newest_step, outcome
from tests.faults.nursery import Life, apart, ended, live

# What a small run needs: from before its first file to after its last.
KIBIBYTES = (8, 48, 96, 160, 256, 320, 400, 480)


def full_disk(trials: int, seed: int, folder: Path) -> dict[str, Any]:
    """Trains on a disk that fills, makes room, and trains on; needs the right to mount.

    Returns:
        Counts: `one_line` with exit code 4 that says so, or `had_room`; `intact` checkpoints;
        `bitwise` the run with room, after room was made. Without the right: why not.
    """
    folder.mkdir(parents=True)
    if (why := _cannot_mount()) is not None:
        return {"skipped": why}
    assert live(experiments.train(POPULATION, folder / "whole"), folder).code == 0
    wanted = outcome(folder / "whole")
    draw = random.Random(seed)
    counts = dict.fromkeys(("trials", "one_line", "had_room", "intact", "bitwise"), 0)
    for trial in range(trials):
        size = KIBIBYTES[trial % len(KIBIBYTES)] + draw.randrange(-4, 5)
        found = apart(lambda size=size: _on_a_small_disk(size, folder, wanted), folder)
        counts["trials"] += 1
        for name, value in found.items():
            counts[name] += value
    return {**counts, "seed": seed}


def _on_a_small_disk(kibibytes: int, folder: Path, wanted: dict[str, Any]) -> dict[str, bool]:
    disk = _mounted(folder / "disk", f"size={kibibytes}k")
    train = experiments.train(POPULATION, disk / "runs")
    first = live(train, folder)
    newest = newest_step(disk / "runs")
    intact = newest == _newest_name(disk / "runs")
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    last = live(train, folder)
    says = "No space left on device" in first.stderr
    return {
        "one_line": (first.is_one_line(4) and says) or first.code == 0,
        "had_room": first.code == 0,
        "intact": intact,
        "bitwise": last.code == 0 and outcome(disk / "runs") == wanted,
    }


def read_only(folder: Path) -> dict[str, Any]:
    """Starts a run in a folder that cannot be written, and goes on with one; needs to mount."""
    folder.mkdir(parents=True)
    if (why := _cannot_mount()) is not None:
        return {"skipped": why}

    def on_a_closed_disk() -> dict[str, int]:
        disk = _mounted(folder / "disk", "size=64m")
        train = experiments.train(POPULATION, disk / "runs", num_steps=20)
        (disk / "runs").mkdir()
        ends = []
        for _ in range(2):
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            ends.append(live(train, folder))
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            _stopped_early(train, folder, disk / "runs")
        named = [end.is_one_line(4) and "may not be written" in end.stderr for end in ends]
        return {"trials": 2, "one_line": sum(named)}

    return apart(on_a_closed_disk, folder)


def two_on_one_run(folder: Path) -> dict[str, Any]:
    """Starts a second process on a run that is being trained: refused, and the first unharmed."""
    folder.mkdir(parents=True)
    train = ["train", "--config=tests/tiny/slow.py:cpu"]
    assert live([*train, f"--workdir={folder / 'whole'}"], folder).code == 0
    both = [*train, f"--workdir={folder / 'both'}"]
    second: list[Life] = []

    def start_another(number: int) -> None:
        while not ended(number) and not list((folder / "both").glob("*/*/*/*/metrics.jsonl")):
            pass
        second.append(live(both, folder))

    first = live(both, folder, start_another)
    refused = second[0].is_one_line(2) and "another process" in second[0].stderr
    same = first.code == 0 and outcome(folder / "both") == outcome(folder / "whole")
    return {"trials": 1, "refused": int(refused), "bitwise": int(same)}


NAN = """
import pathlib
import numpy as np
from tests.tiny.experiment import line

def poisoned(config):
    one, mark = line(config), pathlib.Path(config.config_dir, "poison")
    asked = iter(range(10**9))

    def batch(step):
        rows = one.batch(step)
        if step == 26 and mark.exists() and next(asked):  # not when batches are looked at
            rows = {**rows, "y": rows["y"] * np.float32("nan")}
        return rows

    return one._replace(batch=batch)
"""


def nan_in_the_middle(folder: Path) -> dict[str, Any]:
    """Puts a NaN into the 27th batch: named, nothing bad is saved; without it the run goes on."""
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(NAN)
    text = Path("tests/tiny/config.py").read_text()
    (folder / "config.py").write_text(text.replace("experiment.py:line", "mine.py:poisoned"))
    train = ["train", f"--config={folder / 'config.py'}:cpu"]
    assert live([*train, f"--workdir={folder / 'whole'}"], folder).code == 0
    (folder / "poison").touch()
    bad = live([*train, f"--workdir={folder / 'runs'}"], folder)
    named = bad.is_one_line(3) and "27" in bad.stderr and newest_step(folder / "runs") == 20
    (folder / "poison").unlink()
    good = live([*train, f"--workdir={folder / 'runs'}"], folder)
    same = good.code == 0 and outcome(folder / "runs") == outcome(folder / "whole")
    return {"trials": 1, "named": int(named), "bitwise": int(same)}


def caches(trials: int, seed: int, folder: Path) -> dict[str, Any]:
    """Damages files of the cache of generated sets, and those of compiled programs, by turns.

    Programs are not exchanged for one another: JAX keeps no name inside of one, and runs whatever
    lies under the name that it looks for.

    Returns:
        Counts of runs that end as if nothing had happened, `bitwise`.
    """
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    counts: dict[str, Any] = {"seed": seed}
    every = list(damage.KINDS.values())
    for variable, name, what, kinds in (
        ("LAB_CACHE", OPERATOR, "generated sets", every),
        (
            "JAX_COMPILATION_CACHE_DIR",
            POPULATION,
            "compiled programs",
            [kind for kind in every if kind is not damage.swap],
        ),
    ):
        good, used = folder / f"{what}, good", folder / what
        first = live(experiments.train(name, folder / name), folder, env={variable: str(good)})
        assert first.code == 0, first.stderr
        wanted, same = outcome(folder / name), 0
        for trial in range(trials):
            shutil.rmtree(used, ignore_errors=True)
            shutil.copytree(good, used)
            _damage_all(used, kinds[trial % len(kinds)], draw)
            workdir = folder / f"{name}{trial}"
            life = live(experiments.train(name, workdir), folder, env={variable: str(used)})
            is_calm = life.code == 0 and "Traceback" not in life.stderr
            same += is_calm and outcome(workdir) == wanted
        counts[what] = {"trials": trials, "bitwise": same}
    return counts


def _damage_all(root: Path, kind: Callable[..., None], draw: random.Random) -> None:
    """Damages every third file, one at least."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    files = [path for path in files if path.stat().st_size and path.name != ".lock"]
    for path in draw.sample(files, max(1, len(files) // 3)):
        if path.exists():
            kind(path, draw, files)


def _stopped_early(train: list[str], folder: Path, workdir: Path) -> None:
    """Leaves a run with a checkpoint and without a result."""
    assert live(train, folder).code == 0
    for result in workdir.glob("*/*/*/*/result.json"):
        result.unlink()


def _newest_name(workdir: Path) -> int:
    names = [path.name for path in workdir.glob("*/*/*/*/checkpoints/*")]
    return max((int(name) for name in names if name.isdecimal()), default=-1)


def _mounted(disk: Path, options: str) -> Path:
    """Returns a disk of its own for this process; it is gone when the process is."""
    os.unshare(os.CLONE_NEWNS)
    disk.mkdir(exist_ok=True)
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", options, "none", str(disk)],
    ):
        subprocess.run(command, check=True)
    return disk


def _cannot_mount() -> str | None:
    if not hasattr(os, "unshare"):
        return "needs Python 3.12"
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no disk can be mounted here: {tried.stderr.strip()}"
