"""Helpers of the tests of conservation: independent NumPy forms, sizes of arrays, many slices.

JAX_ENABLE_X64=1 python -m tests.sciml.conserved  # on all devices: prints one line of JSON
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sciml.conservation import cell_constraint, shape_correction
from sciml.constraints import Gaussian, condition
from sciml.covariances import marginal_variance

SLICES, POINTS = 16, 30


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
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
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
