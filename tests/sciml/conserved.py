"""Helpers of the tests of conservation: independent NumPy forms, sizes of arrays, many slices.

JAX_ENABLE_X64=1 python -m tests.sciml.conserved  # on all devices: prints one line of JSON
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sciml.conservation import cell_constraint, mass_constraint, shape_correction
from sciml.constraints import Gaussian, LinearConstraint, condition
from sciml.covariances import BandedPrecision, LowRank, marginal_variance, to_dense

SLICES, POINTS = 16, 30
N, EDGES = 24, (0, 5, 6, 17, 23)


def kkt(
    rows: np.ndarray, values: np.ndarray, mean: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns argmin (v - mean)^T sigma^{-1} (v - mean) with rows v = values, and its covariance.

    Both from the inverse of the optimality system, which shares no formula with the library.
    """
    n, m = mean.size, rows.shape[0]
    system = np.block([[np.linalg.inv(sigma), rows.T], [rows, np.zeros((m, m))]])
    inverse = np.linalg.inv(system)
    solution = np.linalg.solve(system, np.concatenate([np.linalg.solve(sigma, mean), values]))
    return solution[:n], inverse[:n, :n]


def pentadiagonal(bands: np.ndarray) -> np.ndarray:
    """Returns the symmetric matrix of bands [3, n], the entries outside left out."""
    n = bands.shape[1]
    upper = np.diag(bands[1, : n - 1], 1) + np.diag(bands[2, : n - 2], 2)
    return np.diag(bands[0]) + upper + upper.T


def random_bands(generator: np.random.Generator, n: int) -> np.ndarray:
    """Returns the bands of a positive definite L L^T."""
    lower = np.diag(generator.uniform(0.5, 2, n))
    lower += np.diag(generator.normal(size=n - 1), -1) + np.diag(generator.normal(size=n - 2), -2)
    full = lower @ lower.T
    return np.stack([np.pad(np.diag(full, k), (0, k)) for k in range(3)])


def close(found: Any, wanted: Any, share: float, *, of: Any = None) -> None:
    """Asserts that arrays differ by no more than a share of the largest number of the second.

    Rounding errors of a solve are of the size of the largest number in it times its condition
    number, 1e2 to 1e4 for the problems here; float64 has 1e-16 of that.

    Args:
        found: What is tested.
        wanted: What it is compared with.
        share: Of the largest number allowed.
        of: In place of `wanted` the terms that it is a sum of.
    """
    size = np.abs(np.asarray(wanted if of is None else of, np.float64)).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=share * size)


class Problem:
    """A random prior with any covariance, and rows of four cells or of one slice."""

    def __init__(self, kind: str, cells: bool, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.x = np.sort(generator.uniform(size=N))
        self.mean = generator.normal(size=N)
        variance, factor = generator.uniform(0.1, 2, N), generator.normal(size=(N, 2))
        root, bands = generator.normal(size=(N, N)), random_bands(generator, N)
        full = root @ root.T / N + np.eye(N)
        covariance, self.sigma = {
            "diagonal": (jnp.asarray(variance), np.diag(variance)),
            "low_rank": (
                LowRank(jnp.asarray(variance), jnp.asarray(factor)),
                np.diag(variance) + factor @ factor.T,
            ),
            "dense": (jnp.asarray(full), full),
            "banded": (BandedPrecision(jnp.asarray(bands)), np.linalg.inv(pentadiagonal(bands))),
        }[kind]
        self.prior = Gaussian(jnp.asarray(self.mean), covariance)
        gaps = np.diff(self.x)
        single = [np.r_[gap, 0] / 2 + np.r_[0, gap] / 2 for gap in np.eye(N - 1) * gaps]
        edges = EDGES if cells else (0, N - 1)
        self.rows = np.stack([sum(single[a:b]) for a, b in zip(edges, edges[1:], strict=False)])
        self.values = generator.normal(size=len(self.rows))

    def constraint(self, sigma: float = 0.0) -> LinearConstraint:
        """Returns the rows as the library makes them."""
        x, values = jnp.asarray(self.x), jnp.asarray(self.values)
        if len(self.rows) == 1:
            return mass_constraint(x, values[0], sigma=sigma)
        return cell_constraint(x, EDGES, values, sigma=sigma)


@jax.jit
def conditioned(constraint: LinearConstraint, prior: Gaussian) -> tuple[jax.Array, jax.Array]:
    """Returns mean and matrix of the update: one program for each structure of its arguments."""
    after = condition(constraint, prior)
    return after.mean, to_dense(after.covariance)


def posterior(problem: Problem, sigma: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and matrix of the update."""
    mean, covariance = conditioned(problem.constraint(sigma), problem.prior)
    return np.asarray(mean), np.asarray(covariance)


def largest_array(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns the number of elements of the largest array a traced function ever makes."""

    def sizes(jaxpr: Any) -> Iterator[int]:
        for equation in jaxpr.eqns:
            yield from (var.aval.size for var in equation.outvars)
            for parameter in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(parameter, "jaxpr", parameter)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

    return max(sizes(jax.make_jaxpr(function)(*arguments).jaxpr))


def conserved_slices() -> dict[str, list]:
    """Returns means and variances of corrected time slices, spread over all devices."""
    generator = np.random.default_rng(0)
    x = np.sort(generator.uniform(size=(SLICES, POINTS)), axis=1)
    mean, variance = generator.normal(size=x.shape), generator.uniform(0.1, 1, x.shape)
    masses = generator.normal(size=(SLICES, 3))
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

    @jax.jit
    @jax.vmap
    def run(x, mean, variance, masses):
        smooth = shape_correction(Gaussian(mean, variance))
        after = condition(cell_constraint(x, (0, 7, 20, POINTS - 1), masses), smooth)
        return after.mean, marginal_variance(after.covariance)

    arrays = [jax.device_put(jnp.asarray(a), sharding) for a in (x, mean, variance, masses)]
    out = run(*arrays)
    devices = {len(array.sharding.device_set) for array in out}
    assert devices == {jax.device_count()}
    return {"mean": np.asarray(out[0]).tolist(), "variance": np.asarray(out[1]).tolist()}


if __name__ == "__main__":
    print(json.dumps(conserved_slices()))
