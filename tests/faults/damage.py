"""Files of checkpoints as disks, copies and people leave them: flipped, cut, gone, exchanged."""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from absl import logging

from common import sharding
from common.checkpoints import snapshot
from common.checkpoints.checkpoint import Checkpoints
from common.errors import LabError
from common.experiment import build
from common.loop import program
from tests.faults import experiments

Damage = Callable[[Path, random.Random, list[Path]], None]


def flip(path: Path, draw: random.Random, _: list[Path]) -> None:
    """Flips a bit."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random, _: list[Path]) -> None:
    """Cuts the end off."""
    os.truncate(path, draw.randrange(path.stat().st_size))


def delete(path: Path, *_: Any) -> None:
    """Removes the file."""
    path.unlink()


def swap(path: Path, draw: random.Random, files: list[Path]) -> None:
    """Exchanges the file for another one of the same run, of any step."""
    other = draw.choice([file for file in files if file != path])
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def empty(path: Path, *_: Any) -> None:
    """Leaves nothing in the file."""
    path.write_bytes(b"")


KINDS: dict[str, Damage] = {f.__name__: f for f in (flip, truncate, delete, swap, empty)}


def campaign(workdir: Path, trials: int, seed: int, folder: Path) -> dict[str, Any]:
    """Damages one file of a run's checkpoints at a time, and restores.

    Args:
        workdir: Where the run is, which is not touched.
        trials: How many files to damage, of the newest step but for every fourth one.
        seed: Of files and damage.
        folder: Where copies are made.

    Returns:
        Counts by kind of damage: `refused` (the step before was restored, with a line that says
        why), `harmless` (restored with all bits), `silent` (restored with others), `crashed`.
    """
    run = experiments.only_run(workdir)
    mesh = sharding.make_mesh({"data": 1})
    like = program.layout(build(run.config), run.config, mesh).state
    wanted = _digests(run.path / "checkpoints", like)
    assert len(wanted) > 1, wanted
    draw = random.Random(f"{seed} {workdir.name}")
    counts = {
        kind: dict.fromkeys(("refused", "harmless", "silent", "crashed"), 0) for kind in KINDS
    }
    for trial in range(trials):
        copy = folder / "copy"
        shutil.copytree(run.path / "checkpoints", copy)
        step = max(wanted) if trial % 4 else draw.choice(list(wanted))
        files = [path for path in sorted(copy.rglob("*")) if path.is_file()]
        kind = list(KINDS)[trial % len(KINDS)]
        own = [path for path in files if path.relative_to(copy).parts[0] == str(step)]
        own = [path for path in own if path.stat().st_size or kind in ("delete", "swap")]
        with _warnings() as lines:
            KINDS[kind](draw.choice(own), draw, files)
            counts[kind][_outcome(copy, like, wanted, lines)] += 1
        shutil.rmtree(copy)
    return {"trials": trials, "seed": seed, "kinds": counts}


def _digests(folder: Path, like: Any) -> dict[int, str | None]:
    with Checkpoints(folder, read_only=True) as checkpoints:
        states = {step: checkpoints.restore(like, step=step) for step in checkpoints.steps()}
    return {step: snapshot.digest(found.state) for step, found in states.items() if found}


def _outcome(folder: Path, like: Any, wanted: dict[int, str | None], lines: list[str]) -> str:
    try:
        with Checkpoints(folder) as checkpoints:
            restored = checkpoints.restore(like)
    except LabError as error:
        return "refused" if "\n" not in str(error) else "crashed"
    except Exception:
        return "crashed"
    newest = restored.step if restored else -1
    refused = {step for step in wanted if step > newest}
    if any(f"checkpoint of step {step} refused" not in " ".join(lines) for step in refused):
        return "silent"
    if restored and snapshot.digest(restored.state) != wanted[restored.step]:
        return "silent"
    return "refused" if refused else "harmless"


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Gives the warnings that are logged inside a block."""
    seen: list[str] = []
    with mock.patch.object(logging, "warning", lambda text, *args: seen.append(text % args)):
        yield seen


def total(counts: dict[str, Any], outcome: str) -> int:
    """Returns how many trials of all kinds came to this."""
    return sum(kind[outcome] for kind in counts["kinds"].values())
