"""All faults at full size, one after the other, and what came of them as JSON.

    python -m tests.faults.run --out=results/faults.json --workdir=runs/faults
    python -m tests.faults.run --out=results/faults.json --workdir=runs/faults --only=kills,damage
    python -m tests.faults.run --out=results/faults.json --markdown

Faults that are in the JSON already are left as they are, so that the command goes on where it was
stopped; --only does those it names again. `tests/faults/test_faults.py` runs a small sample.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import json

from absl import flags

from common.files.json_files import read_json, write_json
from common.provenance.environment import environment
from tests.faults import (
    archives,
    damage,
    elastic,
    hostile_runs,
    kills,
    page,
    parsers,
    signals,
    storage,
)
from tests.faults.experiments import SPECS, train
from tests.faults.nursery import apart, cpu_seconds, live
from tests.faults.papers import PAPERS
from tests.processes import REPOSITORY

FLAGS = flags.FlagValues()  # not those of other commands that a test loads
OUT = flags.DEFINE_string(
    "out", "results/faults.json", "JSON file to write and to go on with", flag_values=FLAGS
)
WORKDIR = flags.DEFINE_string(
    "workdir", "runs/faults", "Where runs are harmed; emptied before", flag_values=FLAGS
)
ONLY = flags.DEFINE_list("only", [], "Faults to do again, others are not done", flag_values=FLAGS)
MARKDOWN = flags.DEFINE_boolean(
    "markdown", False, "Print the table of an earlier run", flag_values=FLAGS
)
SAMPLE = flags.DEFINE_boolean(
    "sample", False, "A few of each, for the test suite", flag_values=FLAGS
)
SEED = 0


def faults(*, sample: bool) -> dict[str, Callable[[Path], dict[str, Any]]]:
    """Returns every fault by name, as a function of the folder it may use."""
    if sample:  # the rest is in tests of its own: tests/test_resume.py, tests/test_cli.py
        return {
            "damaged checkpoints": lambda folder: _damage(20, folder),
            "two processes on one run": storage.two_on_one_run,
            "wrong command lines": lambda folder: _command_lines(60, folder),
            "parsers": lambda folder: parsers.campaign(1e9, SEED, inputs=60),
            "hostile archives": archives.campaign,
            "a lost one of 2 processes": partial(elastic.lost_worker, 2, 1, then=(1,)),
        }
    kinds = zip(SPECS, (45, 35, 20, 20), strict=True)  # a life of the last two takes longest
    return {  # the cheapest first
        "wrong command lines": lambda folder: _command_lines(200, folder),
        "hostile archives": archives.campaign,
        "hostile run folders": hostile_runs.campaign,
        "the labelling page": _page,
        "two processes on one run": storage.two_on_one_run,
        "NaN in the middle": storage.nan_in_the_middle,
        "8, 4, 2, 1, 8 devices": elastic.devices,
        "SIGTERM": partial(signals.campaign, 10, SEED),
        "damaged checkpoints": lambda folder: _damage(400, folder),
        **{f"kill -9, {name}": partial(kills.campaign, name, n, SEED) for name, n in kinds},
        "read-only folder": storage.read_only,
        "full disk": partial(storage.full_disk, 8, SEED),
        "a lost one of 2 processes": partial(elastic.lost_worker, 2, 1, then=(2, 1)),
        "a lost one of 4 processes": partial(elastic.lost_worker, 4, 0, then=(4, 2, 1)),
        **{f"devices of {name}": partial(elastic.paper, name) for name in PAPERS},
        "damaged caches": partial(storage.caches, 5, SEED),
        "parsers": lambda folder: parsers.campaign(10, SEED),
    }


def _damage(trials: int, folder: Path) -> dict[str, Any]:
    """Damages the checkpoints of each experiment, which are made first."""
    folder.mkdir(parents=True)
    names = list(SPECS)[:3] if trials > 100 else list(SPECS)[1:2]
    counts = {}
    for k, name in enumerate(names):
        share = trials // len(names) + (k < trials % len(names))
        made = live(train(name, folder / name), folder)
        assert made.code == 0, made.stderr
        one = lambda name=name, share=share: damage.campaign(folder / name, share, SEED, folder)
        counts[name] = apart(one, folder)
    total = lambda outcome: sum(damage.total(one, outcome) for one in counts.values())
    outcomes = {outcome: total(outcome) for outcome in ("refused", "harmless", "silent", "crashed")}
    return {"trials": trials, **outcomes, "seed": SEED, "experiments": counts}


def _page(folder: Path) -> dict[str, Any]:
    """In a process of its own, since a server leaves threads."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return apart(lambda: page.campaign(folder), folder.parent)


def _command_lines(number: int, folder: Path) -> dict[str, Any]:
    """In a process of its own, which must not load JAX."""
    folder.mkdir(parents=True)
    words = ["-m", "tests.faults.command_lines", str(number), str(SEED), str(folder)]
    done = subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _environment() -> dict[str, Any]:
    return environment(["python", "-m", "tests.faults.run"])


def bad(counts: Mapping[str, Any]) -> list[str]:
    """Returns what is not as it should be in the counts of one fault, [] if nothing is."""
    wholes = {
        "bitwise": ("runs", "signals", "trials"),
        "saved": ("signals",),
        **dict.fromkeys(("one_line", "intact", "named", "refused"), ("trials",)),
        "one_line_and_2": ("command_lines",),
        "harmless": ("files", "runs"),
    }
    found = []
    for name, parts in wholes.items():
        alone = 1 if name == "bitwise" else None
        whole = next((counts[part] for part in parts if part in counts), alone)
        add_up = "silent" in counts  # what was refused, and what was harmless
        if name in counts and whole is not None and counts[name] != whole and not add_up:
            found.append(f"{name} {counts[name]} of {whole}")
    found += [
        f"{name} {counts[name]}" for name in ("lost", "silent", "crashed") if counts.get(name)
    ]
    found += [f"{name}" for name in counts.get("failures", ())]
    found += [f"{n}: {w}" for n, c in counts.items() if isinstance(c, dict) for w in bad(c)]
    found += ["not clear"] if counts.get("clear") == 0 else []
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the counts of every fault as a table."""
    lines = ["| fault | what came of it | CPU s |", "|---|---|---|"]
    for name, counts in result["faults"].items():
        skip = (
            "seed",
            "failures",
            "kinds",
            "experiments",
            "parsers",
            "cpu_seconds",
            "state_sha256",
            "seconds" if name == "SIGTERM" else "",
            "at_steps",
        )
        shown = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in counts.items() if k not in skip)
        lines.append(f"| {name} | {shown} | {counts['cpu_seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing, writing the JSON after every fault; fails if anything was not right."""
    if MARKDOWN.value:
        print(markdown(read_json(OUT.value)))
        return
    chosen = faults(sample=SAMPLE.value)
    result = read_json(OUT.value) if Path(OUT.value).exists() else {"faults": {}}
    wanted = [n for n in chosen if any(map(n.startswith, ONLY.value)) or not ONLY.value]
    for name in wanted:
        if name in result["faults"] and not ONLY.value:
            continue
        folder = Path(WORKDIR.value).absolute() / name.replace(" ", "_").replace(",", "")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        start, before = time.monotonic(), cpu_seconds()
        counts = chosen[name](folder)
        spent = {"cpu_seconds": round(cpu_seconds() - before, 1)}
        result["faults"][name] = {**counts, **spent}
        facts = {"environment": apart(_environment, folder.parent)}
        write_json(OUT.value, {**result, **facts})
        print(f"{name}: {bad(counts) or 'good'} ({time.monotonic() - start:.0f} s)", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    wrong = {name: bad(counts) for name, counts in result["faults"].items() if bad(counts)}
    if wrong:
        sys.exit(f"not as it should be: {json.dumps(wrong, indent=1)}")


if __name__ == "__main__":
    FLAGS(sys.argv)
    main()
