"""What the rank of 10,240 examples x 16,384 features costs on this machine: exact and sketched.

    python -m tests.benchmarks.feature_rank --out=results/feature_rank.json
    python -m tests.benchmarks.feature_rank --out=results/feature_rank.json --markdown

Features are float32: ReLUs of correlated Gaussians whose singular values fall as 1/k, and ReLUs of
independent ones, whose spectrum is flat. Every way runs once, in a process of its own that finds
the matrix in a file: seconds are those of one call with everything it compiles, memory is what the
process needed at its peak besides the matrix. NumPy's SVD is asked of the first matrix; it takes as
long for any other. On a busy machine say OPENBLAS_NUM_THREADS=1: with more threads NumPy's SVD did
not end within minutes there.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from landscape.rank import rank_of
from landscape.sketched_rank import sketched_rank
from landscape.streamed_rank import exact_rank
from tests.measurements import record

PART = flags.DEFINE_integer("part", 1, "Divides both sides of the matrix", lower_bound=1)

N, D, Q = 10_240, 16_384, 0.99
LATENTS = 4096
ROWS = 1024
COLUMNS = ("spectrum", "way", "rank", "at least, at most", "missed", "s", "CPU s", "GB", "faster")


def by_svd(x: np.ndarray) -> dict[str, Any]:
    """Returns the rank as anybody would compute it."""
    s = np.linalg.svd(x - x.mean(axis=1, keepdims=True), compute_uv=False)
    return {"rank": int(rank_of(s.astype(float) ** 2, Q))}


def by_gram(x: np.ndarray) -> dict[str, Any]:
    """Returns the exact rank by inner products in float64."""
    return {"rank": exact_rank(x, q=Q, centers=["features"]).features.rank}


def by_sketch(x: np.ndarray, *, size: int, power: int) -> dict[str, Any]:
    """Returns an estimate and its bounds."""
    found = sketched_rank(x, key=jax.random.key(0), q=Q, size=size, power=power)
    return {
        "rank": found.estimate,
        "stderr": found.stderr,
        "bounds": [found.lower, found.upper],
        "missed": found.missed,
    }


def ways(spectrum: str) -> dict[str, Callable[[np.ndarray], dict[str, Any]]]:
    """Returns what is measured of a matrix."""
    found: dict[str, Callable[[np.ndarray], dict[str, Any]]] = {}
    if spectrum == "falling":
        found["NumPy SVD, float32"] = by_svd
    found["Gram, float64"] = by_gram
    for size, power in ((256, 1), (1024, 1), (2048, 1)):
        if size * PART.value < N:
            name = f"sketch of {size}, {power} power iteration"
            found[name] = partial(by_sketch, size=size, power=power)
    return found


def features(spectrum: str, n: int, d: int) -> np.ndarray:
    """Returns activations after a ReLU."""
    random = np.random.default_rng(0)
    x = np.empty((n, d), np.float32)
    scales = 1 / np.arange(1, LATENTS // PART.value + 1, dtype=np.float32)
    mixing = scales[:, None] * random.normal(size=(len(scales), d)).astype(np.float32)
    for start in range(0, n, ROWS):
        rows = x[start : start + ROWS]
        if spectrum == "flat":
            random.standard_normal(out=rows, dtype=np.float32)
        else:
            rows[:] = random.normal(size=(len(rows), len(scales))).astype(np.float32) @ mixing
        np.maximum(rows, 0, out=rows)
    return x


def measured(file: Path, way: Callable[[np.ndarray], dict[str, Any]]) -> dict[str, Any]:
    """Returns what a way finds and what it takes; runs in a process of its own."""
    x = np.load(file)
    jax.block_until_ready(jax.numpy.zeros(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load = os.getloadavg()[0]
    cpu, wall = time.process_time(), time.perf_counter()
    found = way(x)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"s": wall, "cpu_s": cpu, "gb": (peak - before) * 1024 / 1e9, "load": load}


def measure_all() -> dict[str, Any]:
    """Returns all ways of both matrices."""
    shape = (N // PART.value, D // PART.value)
    result: dict[str, Any] = {"shape": list(shape), "q": Q, "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        for spectrum in ("falling", "flat"):
            file = Path(folder) / f"{spectrum}.npy"
            np.save(file, features(spectrum, *shape))
            case = result["cases"][spectrum] = {}
            for name, way in ways(spectrum).items():
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    case[name] = pool.submit(measured, file, way).result()
            file.unlink()
    return result


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    n, d = result["shape"]
    svd = result["cases"]["falling"]["NumPy SVD, float32"]
    loads = [way["load"] for case in result["cases"].values() for way in case.values()]
    lines = [
        f"{result['environment']['cpu']}, {result['environment']['cpu_count']} cores, load "
        f"{min(loads):.0f} to {max(loads):.0f}; {n:,} x {d:,} float32, q = {result['q']}, "
        f"official centering. CPU seconds are of all threads.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "---|" * (len(COLUMNS) - 2),
    ]
    for spectrum, case in result["cases"].items():
        for name, way in case.items():
            is_sketch = "bounds" in way
            cells = (
                spectrum,
                name,
                f"{way['rank']:.0f} ± {way['stderr']:.0f}" if is_sketch else f"{way['rank']}",
                "{}, {}".format(*way["bounds"]) if is_sketch else "",
                f"{way['missed']:.2%}" if is_sketch else "",
                f"{way['s']:.3g}",
                f"{way['cpu_s']:.3g}",
                f"{way['gb']:.2g}",
                f"{svd['s'] / way['s']:.1f}x",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Measures all ways, or prints an earlier measurement."""
    record("feature_rank", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
