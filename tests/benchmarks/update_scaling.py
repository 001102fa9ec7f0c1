"""The conservation update against dense linear algebra, from 200 to 20 000 points.

    python -m tests.benchmarks.update_scaling --out=results/update_scaling.json
    python -m tests.benchmarks.update_scaling --out=results/update_scaling.json --markdown

All sides give mean and marginal variances, compiled, in one process and in turns; the least time
counts. Ours: diagonal prior with one row, with 20 cells, and after the shape correction. Dense: the
same posteriors by matrices [n, n], as NumPy users (and the released code, for w/diff) write them.
The exponent is that of a least-squares line through the largest half of the sizes, in logarithms.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jaxtyping import Array

from sciml.conservation import (
    cell_constraint,
    difference_rows,
    difference_variance,
    mass_constraint,
    shape_correction,
)
from sciml.constraints import Gaussian, LinearConstraint, condition
from sciml.covariances import Diagonal, marginal_variance
from tests.measurements import in_turns, record

ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of every case", lower_bound=1)

SIZES = (200, 400, 1_000, 2_000, 4_000, 10_000, 20_000)
CELLS = 20
MOST = {"dense, one row": 10_000, "dense, w/diff": 2_000}  # memory; time
Posterior = tuple[Array, Array]


def of_mass(x: Array, mean: Array, variance: Array) -> Posterior:
    posterior = condition(mass_constraint(x, jnp.ones(())), Gaussian(mean, Diagonal(variance)))
    return posterior.mean, marginal_variance(posterior.covariance)


def of_cells(x: Array, mean: Array, variance: Array) -> Posterior:
    edges = np.round(np.linspace(0, x.size - 1, CELLS + 1)).astype(int)
    constraint = cell_constraint(x, tuple(edges.tolist()), jnp.full(CELLS, 1 / CELLS))
    posterior = condition(constraint, Gaussian(mean, Diagonal(variance)))
    return posterior.mean, marginal_variance(posterior.covariance)


def of_shape(x: Array, mean: Array, variance: Array) -> Posterior:
    prior = shape_correction(Gaussian(mean, Diagonal(variance)))
    posterior = condition(mass_constraint(x, jnp.ones(())), prior)
    return posterior.mean, marginal_variance(posterior.covariance)


def _dense_update(constraint: LinearConstraint, mean: Array, covariance: Array) -> Posterior:
    rows = constraint.rows
    spread = covariance @ rows.T
    gain = spread @ jnp.linalg.inv(rows @ spread)
    full = covariance - gain @ spread.T
    return mean + gain @ (constraint.values - rows @ mean), jnp.diagonal(full)


def dense_of_mass(x: Array, mean: Array, variance: Array) -> Posterior:
    return _dense_update(mass_constraint(x, jnp.ones(())), mean, jnp.diag(variance))


def dense_of_shape(x: Array, mean: Array, variance: Array) -> Posterior:
    rows = difference_rows(x.size, dtype=x.dtype)
    precision = jnp.diag(1 / variance) + (rows.T / difference_variance(variance)[None, :]) @ rows
    covariance = jnp.linalg.inv(precision)
    moved = covariance @ (mean / variance)
    return _dense_update(mass_constraint(x, jnp.ones(())), moved, covariance)


CASES: dict[str, Callable[..., Posterior]] = {
    "one row": of_mass,
    f"{CELLS} cells": of_cells,
    "w/diff": of_shape,
    "dense, one row": dense_of_mass,
    "dense, w/diff": dense_of_shape,
}


def inputs_of(points: int) -> list[Array]:
    """Returns a grid, a mean and variances, float32 [points] each."""
    generator = np.random.default_rng(0)
    x = np.sort(generator.uniform(size=points))
    mean, spread = generator.normal(size=(2, points))
    return [jnp.asarray(leaf, jnp.float32) for leaf in (x, mean, 0.1 + spread**2)]


def measure(points: int) -> dict[str, float]:
    """Returns milliseconds of every case at one size."""
    compiled = {
        name: jax.jit(case) for name, case in CASES.items() if points <= MOST.get(name, points)
    }
    return in_turns(compiled, *inputs_of(points), rounds=ROUNDS.value)


def exponent(times: Mapping[int, float]) -> float:
    """Returns p of a fit time ~ n^p through the larger half of the sizes."""
    sizes = sorted(times)[len(times) // 2 :]
    slope, _ = np.polyfit(np.log(sizes), np.log([times[n] for n in sizes]), 1)
    return float(slope)


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement."""
    lines = [
        f"{result['environment']['cpu']}, float32, ms, least of {result['rounds']} rounds.",
        "",
        "| points | " + " | ".join(map(str, SIZES)) + " | exponent |",
        "|---|" + "---|" * (len(SIZES) + 1),
    ]
    for name, times in result["ms"].items():
        shown = [f"{times[str(n)]:.3g}" if str(n) in times else "" for n in SIZES]
        lines.append(f"| {name} | {' | '.join(shown)} | {result['exponents'][name]:.2f} |")
    return "\n".join(lines)


def measure_all() -> dict[str, Any]:
    """Returns the times of all sizes."""
    found = {points: measure(points) for points in SIZES}
    times = {name: {n: t[name] for n, t in found.items() if name in t} for name in CASES}
    return {
        "ms": {name: {str(n): t for n, t in row.items()} for name, row in times.items()},
        "exponents": {name: exponent(row) for name, row in times.items()},
        "rounds": ROUNDS.value,
    }


def main(_: list[str]) -> None:
    """Measures all sizes, or prints an earlier measurement."""
    record("update_scaling", measure_all, markdown)


if __name__ == "__main__":
    app.run(main)
