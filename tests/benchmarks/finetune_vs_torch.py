"""A step of tuning the first, a middle, the last block or all of ResNet-20, against PyTorch.

    python -m venv peer && peer/bin/pip install torch==2.13.0
    PEER=peer/bin/python python -m tests.benchmarks.finetune_vs_torch \\
        --out=results/finetune_vs_torch.json
    python -m tests.benchmarks.finetune_vs_torch --out=results/finetune_vs_torch.json --markdown

Batches of images of 32 x 32, Adam with coupled decay, batch normalization by running statistics;
one core, one thread. torch has `requires_grad = False` for what is frozen. "cached": activations
below the block are computed before, as `finetune.adapt` does. Every case is a process of its own;
both sides take turns, and the least time of all turns counts. Memory is what the first step adds
to the process at its peak.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app, flags

from tests.measurements import record

ROUNDS = flags.DEFINE_integer("rounds", 10, "Steps of a turn", lower_bound=1)
TURNS = flags.DEFINE_integer("turns", 2, "Turns of every case", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 64, "Images", lower_bound=1)
CASES = {
    "block1": "first block (stem and first stage)",
    "block2": "middle block (second stage)",
    "block2, cached": "the same, cached",
    "block3": "last block (third stage)",
    "block3, cached": "the same, cached",
    "last": "head",
    "last, cached": "the same, cached",
    "all": "all",
}
FOLDER = Path(__file__).resolve().parent / "peers"
REPOSITORY = FOLDER.parent.parent.parent


def once(command: list[str], cwd: Path) -> dict[str, Any]:
    """Returns what a side measured."""
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure_all() -> dict[str, Any]:
    """Returns the times of all cases on both sides, and the load of the machine."""
    peer = os.environ.get("PEER", "")
    sizes = [str(BATCH.value), str(ROUNDS.value)]
    rows: dict[str, dict[str, dict[str, Any]]] = {case: {} for case in CASES}
    load = os.getloadavg()[0]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children inherit it
    for _ in range(TURNS.value):
        for case, sides in rows.items():
            ours = [sys.executable, "-m", "tests.benchmarks.peers.finetune_jax", case, *sizes]
            commands = {"ours": (ours, REPOSITORY)}
            if peer and "cached" not in case:
                script = ["finetune_torch.py", case, *sizes]
                commands["torch"] = ([str(Path(peer).absolute()), *script], FOLDER)
            for side, command in commands.items():
                found = once(*command)
                before = sides.get(side, found)
                least = {key: min(found[key], before[key]) for key in ("ms", "cpu_ms", "mib")}
                sides[side] = {**found, **least}
    facts = {"batch": BATCH.value, "rounds": ROUNDS.value, "turns": TURNS.value}
    return {"rows": rows, "load": [load, os.getloadavg()[0]], **facts}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement: a ratio over 1 says that torch takes longer."""
    rows = result["rows"]
    torch = rows["all"].get("torch", {}).get("version", "not measured")
    lines = [
        f"{result['environment']['cpu']}, one core, ResNet-20, batch {result['batch']}, float32, "
        f"torch {torch}, jax {rows['all']['ours']['version']}; least of {result['turns']} turns of "
        f"{result['rounds']} steps, load {result['load'][0]:.1f} to {result['load'][1]:.1f}.",
        "",
        "| tuned | ours: CPU ms | MiB | torch: CPU ms | MiB | torch / ours: CPU time | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, sides in rows.items():
        ours, peer = sides["ours"], rows[case.partition(",")[0]].get("torch")
        cells = [f"{ours['cpu_ms']:.3g}", f"{ours['mib']:.0f}"]
        if peer:
            cells += [f"{peer['cpu_ms']:.3g}", f"{peer['mib']:.0f}"]
            cells += [f"{peer['cpu_ms'] / ours['cpu_ms']:.2f}"]
            cells += [f"{peer['mib'] / max(ours['mib'], 1):.1f}"]
        else:
            cells += [""] * 4
        lines.append(f"| {CASES[case]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all cases, or prints an earlier measurement."""
    record("finetune_vs_torch", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
