"""CPU time of a corrupted image of 32 x 32: ours, and the reference package with CIFAR's constants.

    python -m venv peer && peer/bin/pip install imagecorruptions-imaug==1.1.5 "setuptools<81"
    python -m tests.benchmarks.corruptions_vs_reference --peer=peer/bin/python \\
        --out=results/corruptions_vs_reference.json
    python -m tests.benchmarks.corruptions_vs_reference --markdown \\
        --out=results/corruptions_vs_reference.json

Two processes on the same core take turns, corruption by corruption, both warm, with an allocator
that keeps freed memory (see `nfn_vs_torch`) and one thread; the least CPU time of all rounds
counts. The reference takes one image after another, as it was made to; ours a batch. The cases are
in peers/.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app

from finetune.corruptions.parameters import CIFAR_C
from tests.benchmarks.nfn_vs_torch import FOLDER, PEER, REPOSITORY, ROUNDS, Side
from tests.measurements import record

HOW_TO = "python -m venv peer && peer/bin/pip install imagecorruptions-imaug==1.1.5 'setuptools<81'"


def measure_all() -> dict[str, Any]:
    """Returns microseconds of CPU time of an image, ours and the reference's, and their ratio."""
    if not PEER.value:
        raise SystemExit(f"--peer: expected the Python of the reference's environment; {HOW_TO}")
    peer = str(Path(PEER.value).absolute())
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # of the child
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    commands = {
        "ours": ([sys.executable, "-m", "tests.benchmarks.peers.corruptions_ours"], REPOSITORY),
        "reference": ([peer, "-m", "corruptions_reference"], FOLDER),
    }
    best: dict[str, dict[str, float]] = {name: {} for name in CIFAR_C}
    with (
        Side(*commands["ours"], cpus, keep=True) as ours,
        Side(*commands["reference"], cpus, keep=True) as reference,
    ):
        for _ in range(ROUNDS.value):
            for name, times in best.items():
                for side, process in (("ours", ours), ("reference", reference)):
                    found = process.time(name)
                    assert found is not None, name
                    microseconds = 1e3 * found["cpu"]
                    times[side] = min(microseconds, times.get(side, microseconds))
        facts = {"ours": ours.facts, "reference": reference.facts}
    for times in best.values():
        times["ratio"] = times["reference"] / times["ours"]
    return {"us": best, "facts": facts, "rounds": ROUNDS.value, "load": os.getloadavg()[0]}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    host = result["facts"]["ours"]["host"]
    lines = [
        f"{result['environment']['cpu']}, one thread, severity 3, least of {result['rounds']} "
        f"rounds, load {result['load']:.1f}; imagecorruptions-imaug "
        f"{result['facts']['reference']['imagecorruptions-imaug']}.",
        "",
        "| corruption | ours, CPU us an image | reference | ratio | |",
        "|---|---|---|---|---|",
    ]
    for name, times in result["us"].items():
        where = "host" if name in host else ""
        numbers = f"{times['ours']:.1f} | {times['reference']:.0f} | {times['ratio']:.1f}"
        lines.append(f"| {name} | {numbers} | {where} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all corruptions, or prints an earlier measurement."""
    record("corruptions_vs_reference", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
