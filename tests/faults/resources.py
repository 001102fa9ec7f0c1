"""Memory and disk that training takes on this machine, and what 4 GB of memory come to.

    python -m tests.faults.resources --out=results/resources.json --workdir=runs/resources
    python -m tests.faults.resources --out=results/resources.json --markdown

Every preset `cpu` is trained for two steps, with its data, its evaluation and its last metrics, in
a process of its own: a cell of `make results` takes as much memory, and of disk what checkpoints of
more steps add. Not those of reinforcement learning, whose plan of labels needs all its steps.
Then `make demo` as it is, and what does not fit, with `ulimit -d` at 4 GB. What is in the JSON
already is left, so that the command goes on where it was stopped.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from common.files.json_files import read_json, write_json
from common.papers import REPOSITORY
from common.provenance.environment import environment
from tests.variants import preset_variants

FLAGS = flags.FlagValues()  # not those of other commands that a test loads
OUT = flags.DEFINE_string("out", "results/resources.json", "JSON file", flag_values=FLAGS)
WORKDIR = flags.DEFINE_string("workdir", "runs/resources", "For the runs", flag_values=FLAGS)
ONLY = flags.DEFINE_string("only", "", "Names that hold this text", flag_values=FLAGS)
MARKDOWN = flags.DEFINE_boolean("markdown", False, "Print the table", flag_values=FLAGS)

LIMIT = 4 * 10**9
CPU_SECONDS = 900  # of one measurement; more is said to be unknown
SHORT = dict(num_steps=2, steps_per_call=1, eval_every=0, checkpoint_every=0)
DEMO = ("table", "nfn.equivariant", "3", "--preset=demo")
# What a machine of 4 GB cannot hold: the program of a step for 256 chips, and the arrays of data.
TOO_LARGE = {
    "a step": (
        "sciml/boon/configs/single_step.py:pod",
        {"data.num_train": 64, "batch_size": 8_192},
    ),
    "data": ("sciml/boon/configs/single_step.py:cpu", {"data.num_train": 20_000_000}),
}


def measured(words: Sequence[str], folder: Path, *, limit: int = 0) -> dict[str, Any]:
    """Runs `lab` with these words; returns its exit code, peak memory, disk and last line.

    Args:
        words: After `lab`.
        folder: Of the runs, and of what it says.
        limit: Bytes of memory of its own that a process may have; 0: all there are.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        if limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    says = folder / "says"
    with says.open("w") as file:
        command = [sys.executable, "-m", "common.lab.cli", *words]
        done = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=file, stderr=file, preexec_fn=limits
        )
        _, status, used = os.wait4(done.pid, 0)
    done.returncode = os.waitstatus_to_exitcode(status)
    files = [path for path in folder.rglob("*") if path.is_file() and path != says]
    lines = says.read_text().strip().splitlines()
    return {
        "code": done.returncode,
        "peak_memory": 1024 * used.ru_maxrss,  # of the process, or the largest of its children
        "disk": sum(path.stat().st_size for path in files),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "errors": [line for line in lines if line.startswith("lab: error: ")],
        "traceback": any(line.startswith("Traceback") for line in lines),
    }


def presets() -> dict[str, str]:
    """Returns {name: --config} of every preset `cpu`, relative to the repository."""
    variants = [one for one in preset_variants() if one.preset == "cpu"]
    return {
        one.name: f"{one.path.relative_to(REPOSITORY)}:cpu"
        for one in variants
        if not one.name.startswith("rlhf.")
    }


def train(spec: str, folder: Path, fields: Mapping[str, Any]) -> list[str]:
    """Returns the words that train a config with these fields."""
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    return ["train", f"--config={spec}", f"--workdir={folder}", *overrides]


def jobs(folder: Path) -> dict[str, tuple[list[str], int]]:
    """Returns words and limit of everything that is measured, by name."""
    found = {name: (train(spec, folder, SHORT), 0) for name, spec in presets().items()}
    found["make demo"] = ([*DEMO, f"--workdir={folder}", f"--out={folder / 'results'}"], 0)
    for name, (spec, fields) in TOO_LARGE.items():
        found[f"{name}, 4 GB"] = (train(spec, folder, {**SHORT, **fields}), LIMIT)
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """Returns memory and disk of everything that was measured as a table."""
    lines = ["| what | memory | disk | ends with |", "|---|---|---|---|"]
    for name, one in sorted(result["measured"].items(), key=lambda item: -item[1]["peak_memory"]):
        said = one["errors"][-1].removeprefix("lab: error: ") if one["errors"] else "success"
        sizes = f"{one['peak_memory'] / 1e6:,.0f} MB | {one['disk'] / 1e6:,.1f} MB"
        lines.append(f"| {name} | {sizes} | {said if one['code'] else 'success'} |")
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing, writing the JSON after each."""
    result = read_json(OUT.value) if Path(OUT.value).exists() else {"measured": {}}
    if MARKDOWN.value:
        print(markdown(result))
        return
    folder = Path(WORKDIR.value).absolute()
    result["environment"] = environment(["python", "-m", "tests.faults.resources"])
    for name, (words, limit) in jobs(folder).items():
        if ONLY.value not in name or (name in result["measured"] and not ONLY.value):
            continue
        found = measured(words, folder, limit=limit)
        result["measured"][name] = found
        write_json(OUT.value, result)
        print(name, json.dumps(found), flush=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    FLAGS(sys.argv)
    main()
