"""The cases of `landscape_vs_torch` on our side: surfaces on all devices, curvature on one."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from common.sharding import make_mesh
from landscape.curvature import eigenpairs
from landscape.first_layer import AffineFirst
from landscape.grids import axis
from landscape.products import averaged
from landscape.surfaces import surface, values_at
from landscape.traces import trace
from tests.benchmarks.peers import landscape_case as case
from tests.benchmarks.peers.jax_cases import serve_jax
from tests.benchmarks.peers.timed_cases import Case

POINTS = 12  # of a grid row, for a time a point
SPLIT = AffineFirst(case.first, case.rest)
BATCH_LAST = AffineFirst(case.first_batch_last, case.rest_batch_last)
# Values, rows in memory at a time, points together.
WAYS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "one batch": (case.values, case.ROWS, 1),
    "slices": (case.values, 50, 1),
    "split": (SPLIT, 50, 1),
    "batch last": (BATCH_LAST, 50, 1),
    "batch last, 20 rows": (BATCH_LAST, 20, 1),
    "batch last, 100 rows": (BATCH_LAST, 100, 1),
    "batch last, 4 points": (BATCH_LAST, 20, 4),
}


def points_case(way: str, trees: dict[str, Any], rows: Any) -> Case:
    """Some points of the first row of the grid, compiled; a unit is a point."""
    values, chunk, at_once = WAYS[way]
    coordinates = np.linspace(-1, 1, case.GRID)[:POINTS]
    points = np.stack([np.full(POINTS, -1.0), coordinates], axis=1).astype(np.float32)
    mesh = make_mesh({"data": -1})

    def at(trees: dict[str, Any], rows: Any, points: Any) -> Any:
        directions = (trees["d"], trees["e"])
        how = {"chunk": chunk, "at_once": at_once}
        return values_at(values, trees["params"], directions, points, rows, **how)["loss"]

    with jax.set_mesh(mesh):
        compiled = jax.jit(at).lower(trees, rows, points).compile()

    def run() -> list[float]:
        with jax.set_mesh(mesh):
            return np.asarray(compiled(trees, rows, points)).tolist()

    return Case(run, units=POINTS)


def surface_case(trees: dict[str, Any], rows: Any) -> Case:
    """The whole surface, as a user asks for it."""
    axes = (axis(-1, 1, case.GRID),) * 2
    directions = (trees["d"], trees["e"])

    def run() -> list[list[float]]:
        found = surface(BATCH_LAST, trees["params"], directions, axes, rows, chunk=50)
        return found.values["loss"].tolist()

    return Case(run, units=case.GRID**2)


def curvature_cases(params: Any, rows: Any) -> dict[str, Callable[[], Case]]:
    """Eigenvalues, traces and single products of the Hessian of the mean over all images."""
    key, batches = jax.random.key(0), [rows]

    def top(tolerance: float) -> Sequence[float]:
        return eigenpairs(case.loss, params, batches, key=key, tolerance=tolerance).values.tolist()

    def estimate() -> list[float]:
        found = trace(case.loss, params, batches, key=key, num_products=50)
        return [found.value, found.stderr]

    def product() -> Case:
        operator = averaged(case.loss, params, batches)
        vector = jax.random.normal(key, (operator.layout.size,))
        return Case(lambda: jax.block_until_ready(operator.apply(vector)) is None)

    return {
        "top-5/ours": lambda: Case(partial(top, 1e-5)),
        "top-5/ours, 1e-3": lambda: Case(partial(top, 1e-3)),
        "trace/ours": lambda: Case(estimate),
        "product/ours": product,
    }


def main() -> None:
    trees, rows = case.load(Path(os.environ["LANDSCAPE_CASE"]))
    cases = {f"points/{way}": partial(points_case, way, trees, rows) for way in WAYS}
    cases["surface/ours"] = partial(surface_case, trees, rows)
    serve_jax(cases | curvature_cases(trees["params"], rows), devices=jax.device_count())


if __name__ == "__main__":
    main()
