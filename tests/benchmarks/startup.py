"""From `lab train` to the first step, of every experiment at preset cpu: cold, and started again.

    python -m tests.benchmarks.startup --out=results/startup.json
    python -m tests.benchmarks.startup --out=results/startup.json --markdown

Data are made before (`--prepare`), a source that an experiment starts from included. Cold: no
compiled program is kept anywhere; again: the same command in another folder. A run is ended at
the line that says that its step is compiled, after which it makes the first one. CPU time is that
of the process and its threads, which other load changes least; imports are what a process needs
to have JAX, Flax, Optax and Orbax.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from common import papers
from tests.measurements import record

ONLY = flags.DEFINE_list("only", [], "Only experiments with one of these words in their names")
LIMIT = flags.DEFINE_integer("limit", 300, "Seconds after which a start is given up")

LAB = (sys.executable, "-m", "common.lab.cli")
READY = "step compiled"
IMPORTS = "import jax, flax, optax, orbax.checkpoint"


def experiments() -> dict[str, str]:
    """Returns config file and preset of every experiment, by name."""
    return {
        f"{paper.name}:{name}": f"{path}:cpu"
        for paper in papers.papers()
        for name, path in paper.configs.items()
        if not ONLY.value or any(word in f"{paper.name}:{name}" for word in ONLY.value)
    }


def start(config: str, folder: Path, programs: Path) -> dict[str, float] | None:
    """Returns wall and CPU seconds until the first step; None: there is none in time."""
    command = [*LAB, "train", f"--config={config}", f"--workdir={folder}"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(programs)}
    began = time.perf_counter()
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            while time.perf_counter() - began < LIMIT.value and process.poll() is None:
                taken = cpu_seconds(process.pid)
                wall = time.perf_counter() - began
                if READY in (folder / "log").read_text():
                    return {"wall": wall, "cpu": taken}
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
    return None


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def imports() -> float:
    """Returns the CPU seconds of a process that imports the libraries, and does nothing."""
    before = os.times()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def measure_all() -> dict[str, Any]:
    """Returns the seconds of every experiment; one that cannot be started here is named."""
    rows, left_out = {}, []
    load = os.getloadavg()[0]
    for name, config in experiments().items():
        with tempfile.TemporaryDirectory() as scratch:
            made = [Path(scratch) / word for word in ("prepared", "cold", "again", "programs")]
            for folder in made:
                folder.mkdir()
            prepare = [*LAB, "train", f"--config={config}", f"--workdir={made[0]}", "--prepare"]
            if subprocess.run(prepare, capture_output=True).returncode:
                left_out.append(name)
                continue
            found = {
                word: start(config, made[n], made[3]) for n, word in ((1, "cold"), (2, "again"))
            }
        if None in found.values():
            left_out.append(name)
        else:
            rows[name] = found
    facts = {"load_before": load, "load_after": os.getloadavg()[0], "imports": imports()}
    return {"seconds": rows, "left_out": left_out, **facts}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    facts = result["environment"]
    lines = [
        f"{facts['cpu']}, jax {facts['packages']['jax']}, load average "
        f"{result['load_before']:.1f}; imports {result['imports']:.1f} CPU-s.",
        "",
        "| experiment | cold, s | cold, CPU-s | again, s | again, CPU-s |",
        "|---|---|---|---|---|",
    ]
    for name, row in result["seconds"].items():
        shown = [
            f"{row[which][clock]:.1f}" for which in ("cold", "again") for clock in ("wall", "cpu")
        ]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", f"Not started: {', '.join(result['left_out']) or 'none'}."])


def main(_: Sequence[str]) -> None:
    """Measures all experiments, or prints an earlier measurement."""
    record("startup", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
