"""Surfaces and curvature of a small CNN against PyTorch and the packages that there are for it.

    python -m venv peer && peer/bin/pip install torch==2.13.0 loss-landscapes==3.0.6 \\
        pyhessian==0.1 curvlinops-for-pytorch==3.0.1 hessian-eigenthings==1.0.0a5 scipy
    PEER=peer/bin/python python -m tests.benchmarks.landscape_vs_torch \\
        --out=results/landscape_vs_torch.json
    python -m tests.benchmarks.landscape_vs_torch --out=results/landscape_vs_torch.json --markdown

Processes on the same cores take turns, with either allocator (see `nfn_vs_torch`); the least time
of all rounds, and of both allocators, counts. What takes long runs twice or once, and with the
allocator that keeps memory. With two threads ours has two simulated devices. The case is in
peers/landscape_case.py.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from absl import app

from tests.benchmarks.nfn_vs_torch import (
    CASES,
    FOLDER,
    HOW_TO,
    PEER,
    REPOSITORY,
    ROUNDS,
    THREADS,
    Side,
    preamble,
)
from tests.benchmarks.peers.landscape_case import make
from tests.measurements import MARKDOWN, record

DEVICES = "--xla_force_host_platform_device_count="
POINTS = {
    "torch": "torch, a loop over points, all images at once",
    "torch, batches of 128": "the same in batches of 128",
    "torch, channels last": "the same, channels last",
    "loss-landscapes": "loss-landscapes",
    "one batch": "ours, all images at once",
    "slices": "ours, 50 images at a time",
    "split": "ours, affine first layer",
    "batch last": "ours, affine first layer, batch last",
    "batch last, 20 rows": "the same, 20 images at a time",
    "batch last, 100 rows": "the same, 100 images at a time",
    "batch last, 4 points": "the same, 20 images and 4 points at a time",
}
SURFACES = {
    "torch": "torch, a loop over points",
    "torch, channels last": "the same, channels last",
    "loss-landscapes": "loss-landscapes",
    "ours": "ours (`surface`)",
}
TOP = {
    "pyhessian": "PyHessian, as it is (1e-3)",
    "pyhessian, tight": "PyHessian, 1e-6 and 1,000 rounds",
    "curvlinops": "curvlinops and ARPACK",
    "eigenthings": "hessian-eigenthings, Lanczos, 20 steps",
    "ours, 1e-3": "ours, tolerance 1e-3",
    "ours": "ours, as it is (1e-5)",
}
TRACES = {"pyhessian": "PyHessian", "curvlinops": "curvlinops", "ours": "ours"}
PRODUCTS = {
    "pyhessian": "PyHessian, the gradient's graph kept",
    "curvlinops": "curvlinops",
    "eigenthings": "hessian-eigenthings",
    "ours": "ours",
}
GROUPS = {
    "points": (POINTS, "surface, ms a point"),
    "surface": (SURFACES, "whole surface of 51 x 51 points, ms a point"),
    "top-5": (TOP, "five largest eigenvalues, ms"),
    "trace": (TRACES, "trace by 50 probes, ms"),
    "product": (PRODUCTS, "one product with the Hessian, ms"),
}
LONG = ("surface/", "trace/", "top-5/pyhessian, tight")  # once, with the first number of threads
REFERENCE = "top-5/reference"  # float64, with the first number of threads only
RIVALS = {"points": "batch last"}  # what the others are compared with; else "ours"


def measure(peer: str, threads: int, *, is_first: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns {case: {side: times}}, and what the sides found: {case: value}."""
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    os.environ["XLA_FLAGS"] = f"{DEVICES}{threads}"  # for the sides; this process has begun
    commands = {
        "ours": ([sys.executable, "-m", "tests.benchmarks.peers.landscape_jax"], REPOSITORY),
        "torch": ([peer, "-m", "landscape_torch"], FOLDER),
    }
    names = [f"{group}/{way}" for group, (ways, _) in GROUPS.items() for way in ways]
    names = [name for name in names if not CASES.value or any(w in name for w in CASES.value)]
    best: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    values: dict[str, Any] = {}
    with ExitStack() as stack:
        sides = {
            f"{name}{', kept' if keep else ''}": stack.enter_context(
                Side(command, cwd, cpus, keep=keep)
            )
            for keep in (False, True)
            for name, (command, cwd) in commands.items()
        }
        if is_first:
            values[REFERENCE] = (sides["torch"].once(REFERENCE) or {}).get("value")
        for turn in range(ROUNDS.value + 1):
            for name, times in best.items():
                for side, process in sides.items():
                    if not _has_turn(name, turn, side, is_first=is_first):
                        continue
                    found = process.once(name)
                    if found is not None:
                        values.setdefault(name, found["value"])
                        before = times.get(side, found) if turn > 1 or "top-5" in name else found
                        times[side] = {k: min(found[k], before[k]) for k in ("wall", "cpu")}
        facts = {name: side.facts for name, side in sides.items()}
    return best, {"values": values, "facts": facts["torch"]}


def _has_turn(name: str, turn: int, side: str, *, is_first: bool) -> bool:
    """Returns whether a side runs a case in this turn; in turn 0 programs are compiled."""
    if name.startswith(LONG):
        return is_first and turn == ROUNDS.value and "kept" in side
    return not name.startswith("top-5/") or (turn < 2 and "kept" in side)


def accuracy(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how far the sides' results are from each other, or from the reference."""
    found: dict[str, Any] = {}
    wanted = values.get(REFERENCE)
    for way in TOP:
        if wanted and values.get(f"top-5/{way}"):
            error = np.abs(np.array(values[f"top-5/{way}"]) / np.array(wanted) - 1)
            found[f"top-5/{way}"] = float(error.max())
    loop = values.get("points/torch")
    for way in POINTS:
        same = values.get(f"points/{way}")
        if loop and isinstance(same, list):
            found[f"points/{way}"] = float(np.max(np.abs(np.array(same) / np.array(loop) - 1)))
    whole, ours = values.get("surface/torch"), values.get("surface/ours")
    if whole and ours:
        # Ours has the first direction on axis 0, as the loop's outer one.
        error = np.abs(np.array(ours).reshape(-1) / np.array(whole) - 1)
        found["surface/ours"] = float(error.max())
    return found


def measure_all() -> dict[str, Any]:
    """Returns the times with every number of threads, and what was found."""
    peer = str(Path(PEER.value).absolute())
    result: dict[str, Any] = {"load_before": os.getloadavg()[0], "rounds": ROUNDS.value}
    result["threads"] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        make(path)
        os.environ["LANDSCAPE_CASE"] = str(path)
        for threads in THREADS.value:
            is_first = not result["threads"]
            times, found = measure(peer, int(threads), is_first=is_first)
            result["threads"][threads] = times
            if is_first:
                values = found["values"]
                result["accuracy"] = accuracy(values)
                result["values"] = {
                    name: value
                    for name, value in values.items()
                    if name.startswith(("top-5", "trace"))
                }
                result |= {key: found["facts"][key] for key in ("torch", "packages")}
    return result | {"load_after": os.getloadavg()[0]}


def fastest(times: Mapping[str, Mapping[str, float]]) -> tuple[float, float]:
    """Returns the least wall and CPU time over both allocators."""
    return min(x["wall"] for x in times.values()), min(x["cpu"] for x in times.values())


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    packages = ", ".join(f"{name} {number}" for name, number in result["packages"].items())
    how = (
        f"{packages}; ms, least wall time (CPU time) of {result['rounds']} rounds and two "
        "allocators, of eigenvalues two rounds, of traces, whole surfaces and the tight PyHessian "
        'one. Ratio: to the row "ours" of a group, of points "ours, affine first layer, batch '
        'last". Error: the largest of the values, relative, to the loop of torch or to '
        "eigenvalues in float64."
    )
    threads = tuple(result["threads"])
    columns = [f"{n} thread{'s' * (n != '1')} | ratio" for n in threads]
    lines = [preamble(result, how), "", f"| | {' | '.join(columns)} | error |"]
    lines.append("|---|" + "---|" * (2 * len(threads) + 1))
    for group, (ways, title) in GROUPS.items():
        lines.append(f"| **{title}** |" + " |" * (2 * len(threads) + 1))
        lines += _rows(result, group, ways, threads)
    return "\n".join(lines)


def _rows(
    result: Mapping[str, Any], group: str, ways: Mapping[str, str], threads: Sequence[str]
) -> list[str]:
    """Returns the lines of one group."""
    lines = []
    rival = f"{group}/{RIVALS.get(group, 'ours')}"
    for way, title in ways.items():
        cells = []
        for n in threads:
            times = result["threads"][n]
            if not times.get(f"{group}/{way}") or not times.get(rival):
                cells += ["", ""]
                continue
            (wall, cpu), (ours, ours_cpu) = fastest(times[f"{group}/{way}"]), fastest(times[rival])
            cells += [f"{wall:.3g} ({cpu:.3g})", f"{wall / ours:.2f} ({cpu / ours_cpu:.2f})"]
        error = result["accuracy"].get(f"{group}/{way}")
        cells.append("" if error is None else f"{error:.1e}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def main(_: list[str]) -> None:
    """Measures all cases, or prints an earlier measurement."""
    if PEER.value or MARKDOWN.value:
        record("landscape_vs_torch", measure_all, markdown)
    else:
        print(f"landscape_vs_torch: skipped, wants --peer=peer/bin/python; to make it: {HOW_TO}")


if __name__ == "__main__":
    app.run(main)
