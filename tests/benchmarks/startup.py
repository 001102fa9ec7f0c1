"""From `lab train` to the first step, of every experiment at preset cpu: cold, and started again.

    python -m tests.benchmarks.startup --out=results/startup.json
    python -m tests.benchmarks.startup --out=results/startup.json --markdown

Data are made before (`--prepare`), a source that an experiment starts from included. Cold: no
compiled program is kept anywhere; again: the same command in another folder. A run is ended at
the line that says that its step is compiled, after which it draws its parameters and makes the
first one. CPU time is that of the process and its threads, which other load changes least; imports
are what a process needs to have JAX, Flax and Optax (Orbax comes with the first checkpoint). What
JAX says of its own seconds (JAX_LOG_COMPILES): tracing, lowering to MLIR, and compiling, or finding
kept programs.
"""

import os
import re
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
# What JAX logs when it has done a part of the work on a program.
PARTS = {
    "tracing": "tracing",
    "jaxpr to MLIR module conversion": "lowering",
    "XLA compilation of": "compiling",
}
FINISHED = re.compile(rf"Finished ({'|'.join(PARTS)}) .* in ([0-9.]+) sec")
IMPORTS = "import jax, flax, optax"
STARTS = ("cold", "again")
CLOCKS = {"s": "wall", "CPU-s": "cpu", **{f"{part}, s": part for part in PARTS.values()}}


def experiments() -> dict[str, str]:
    """Returns config file and preset of every experiment, by name."""
    return {
        f"{paper.name}:{name}": f"{path}:cpu"
        for paper in papers.papers()
        for name, path in paper.configs.items()
        if not ONLY.value or any(word in f"{paper.name}:{name}" for word in ONLY.value)
    }


def start(config: str, folder: Path, programs: Path) -> dict[str, float] | None:
    """Returns seconds until the first step, by clock and by part; None: there is none in time."""
    command = [*LAB, "train", f"--config={config}", f"--workdir={folder}"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(programs)}
    environment["JAX_LOG_COMPILES"] = "1"
    began = time.perf_counter()
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            while time.perf_counter() - began < LIMIT.value and process.poll() is None:
                taken = cpu_seconds(process.pid)
                wall = time.perf_counter() - began
                text = (folder / "log").read_text()
                if READY in text:
                    return {"wall": wall, "cpu": taken, **parts(text)}
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
    return None


def parts(log: str) -> dict[str, float]:
    """Returns wall seconds that JAX says it took to trace, lower and compile what came so far."""
    seconds = dict.fromkeys(PARTS.values(), 0.0)
    for part, value in FINISHED.findall(log.partition(READY)[0]):
        seconds[PARTS[part]] += float(value)
    return seconds


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
        f"| experiment | {' | '.join(f'{which}, {what}' for which in STARTS for what in CLOCKS)} |",
        "|---" * (1 + len(STARTS) * len(CLOCKS)) + "|",
    ]
    for name, row in result["seconds"].items():
        shown = [f"{row[which][name]:.1f}" for which in STARTS for name in CLOCKS.values()]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", f"Not started: {', '.join(result['left_out']) or 'none'}."])


def main(_: Sequence[str]) -> None:
    """Measures all experiments, or prints an earlier measurement."""
    record("startup", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
