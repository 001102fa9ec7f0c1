"""What it is worth that a process keeps the memory it frees, as `lab` does on Linux.

    python -m tests.benchmarks.kept_memory --out=results/kept_memory.json
    python -m tests.benchmarks.kept_memory --out=results/kept_memory.json --markdown

Two processes on one core take turns, one with the C library's defaults, one told to keep freed
memory; the least CPU time of a unit counts, that of the system in it. A step at the paper's size is
a call of its own, or one of ten in a scan, whose temporaries are allocated once.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from absl import app

from tests.benchmarks.nfn_vs_torch import REPOSITORY, ROUNDS, Side
from tests.measurements import record

CASES = {
    "sciml_jax": ("fno1d call plain", "fno1d step plain"),
    "nfn_jax": ("np 64 forward", "np 64 both"),
}
SIDES = {"default": False, "kept": True}


def measure_all() -> dict[str, Any]:
    """Returns milliseconds of CPU time of every case on both sides."""
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    load, best = os.getloadavg()[0], {}
    for module, cases in CASES.items():
        command = [sys.executable, "-m", f"tests.benchmarks.peers.{module}"]
        with ExitStack() as stack:
            sides = {
                name: stack.enter_context(Side(command, REPOSITORY, cpus, keep=keep))
                for name, keep in SIDES.items()
            }
            for _ in range(ROUNDS.value):
                for case in cases:
                    for name, side in sides.items():
                        found = side.time(case)
                        assert found is not None, case
                        times = best.setdefault(case, {})
                        times[name] = min(found["cpu"], times.get(name, found["cpu"]))
    facts = {"rounds": ROUNDS.value, "load_before": load, "load_after": os.getloadavg()[0]}
    return {"cpu ms": best, **facts}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    lines = [
        f"{result['environment']['cpu']}, load average {result['load_before']:.1f}; CPU ms, least "
        f"of {result['rounds']} rounds.",
        "",
        "| | default | kept | gain |",
        "|---|---|---|---|",
    ]
    for case, times in result["cpu ms"].items():
        default, kept = (times[name] for name in SIDES)
        lines.append(f"| {case} | {default:.3g} | {kept:.3g} | {default / kept:.2f} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all cases, or prints an earlier measurement."""
    record("kept_memory", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
