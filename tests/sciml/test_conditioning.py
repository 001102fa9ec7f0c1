"""The Bayesian update of fields that conserve against independent NumPy forms in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sciml.conservation import cell_constraint, shape_correction
from sciml.constraints import Gaussian, LinearConstraint, condition, condition_samples
from sciml.covariances import LowRank, draw, marginal_variance
from tests.sciml.conserved import (
    N,
    Problem,
    close,
    conditioned,
    kkt,
    largest_array,
    posterior,
)

pytestmark = pytest.mark.usefixtures("float64")


KINDS = pytest.mark.parametrize("kind", ["diagonal", "low_rank", "dense", "banded"])
# Every covariance with several rows, and one with a single row, which has formulas of its own.
CASES = pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("diagonal", True),
        ("low_rank", True),
        pytest.param("dense", True, marks=pytest.mark.slow),
        pytest.param("banded", True, marks=pytest.mark.slow),
        ("banded", False),
    ],
)


@CASES
def test_the_update_is_the_nearest_field_that_conserves(kind: str, cells: bool) -> None:
    problem = Problem(kind, cells)
    mean, covariance = posterior(problem)

    wanted, spread = kkt(problem.rows, problem.values, problem.mean, problem.sigma)
    close(mean, wanted, 1e-10)
    close(covariance, spread, 1e-10)
    np.testing.assert_array_equal(covariance, covariance.T)
    values = np.linalg.eigvalsh(covariance)
    assert values.min() > -1e-12 * values.max()
    left, before = (problem.rows @ c @ problem.rows.T for c in (covariance, problem.sigma))
    close(left, 0 * left, 1e-12, of=before)  # nothing is left of it but rounding errors
    scale = np.maximum(np.abs(problem.values), np.abs(problem.rows) @ np.abs(mean))
    assert np.all(np.abs(problem.rows @ mean - problem.values) <= 1e-12 * scale)
    again, _ = conditioned(problem.constraint(), problem.prior._replace(mean=jnp.asarray(mean)))
    close(again, mean, 1e-12)  # idempotent: a change made of rounding errors


@CASES
def test_the_distance_to_fields_that_conserve_obeys_pythagoras(kind: str, cells: bool) -> None:
    problem = Problem(kind, cells)
    mean, _ = posterior(problem)
    precision = np.linalg.inv(problem.sigma)
    free = np.random.default_rng(5).normal(size=N)
    true = free + np.linalg.pinv(problem.rows) @ (problem.values - problem.rows @ free)

    def squared(v: np.ndarray) -> float:
        return float(v @ precision @ v)

    assert squared(true - problem.mean) == pytest.approx(
        squared(true - mean) + squared(mean - problem.mean), rel=1e-10
    )
    assert squared(mean - problem.mean) > 0.1


@KINDS
@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e4])
def test_noise_scales_the_error_and_raises_the_likelihood(kind: str, sigma: float) -> None:
    problem = Problem(kind, cells=False)
    mean, covariance = posterior(problem, sigma)
    row, mass = problem.rows[0], problem.values[0]
    missing, along = row @ problem.mean - mass, row @ problem.sigma @ row

    # The error of a small sigma is a difference of sums with these terms.
    terms = np.abs(row) @ np.abs(mean) + abs(mass)
    assert row @ mean - mass == pytest.approx(
        missing * sigma**2 / (sigma**2 + along), rel=1e-10, abs=1e-14 * terms
    )
    if sigma < 1e-3:  # the density of a nearly singular Gaussian has too few digits
        return
    precision = np.linalg.inv(problem.sigma) + np.outer(row, row) / sigma**2
    close(covariance, np.linalg.inv(precision), 1e-8)
    true = problem.mean + 0.3 * np.sin(np.arange(N))
    true += row * (mass - row @ true) / (row @ row)
    gain = multivariate_normal.logpdf(true, mean, covariance) - multivariate_normal.logpdf(
        true, problem.mean, problem.sigma
    )
    wanted = np.log1p(along / sigma**2) / 2 + missing**2 / (2 * (sigma**2 + along))
    assert gain == pytest.approx(wanted, abs=1e-7) and wanted > 0


@pytest.mark.parametrize(
    ("kind", "cells"), [("diagonal", True), pytest.param("banded", False, marks=pytest.mark.slow)]
)
def test_noise_has_both_limits(kind: str, cells: bool) -> None:
    problem = Problem(kind, cells)
    exact, prior = posterior(problem), (problem.mean, problem.sigma)
    for sigma, wanted in ((1e-9, exact), (1e9, prior)):
        mean, covariance = posterior(problem, sigma)
        close(mean, wanted[0], 1e-10)
        close(covariance, wanted[1], 1e-10)
    # A sigma that is traced may be 0.
    traced = jax.jit(problem.constraint)(jnp.asarray(0.0))
    assert traced.covariance is not None
    close(conditioned(traced, problem.prior)[0], exact[0], 1e-12)


@jax.jit
def mean_and_samples(
    constraint: LinearConstraint, prior: Gaussian, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    drawn = draw(key, prior.covariance, (50,))
    samples = condition_samples(constraint, prior, jnp.expand_dims(prior.mean, 0) + drawn)
    return condition(constraint, prior).mean, samples


# Every kind with several rows, one row (which has formulas of its own), and the other precision.
@pytest.mark.parametrize(
    ("kind", "cells", "dtype", "limit"),
    [
        ("diagonal", True, "float32", 1e-6),
        pytest.param("low_rank", True, "float32", 1e-6, marks=pytest.mark.slow),
        pytest.param("dense", True, "float32", 1e-6, marks=pytest.mark.slow),
        pytest.param("banded", True, "float32", 1e-6, marks=pytest.mark.slow),
        ("low_rank", False, "float32", 1e-6),
        ("banded", True, "float64", 1e-12),
    ],
)
def test_means_and_samples_conserve_to_rounding(kind, cells, dtype: str, limit: float) -> None:
    problem = Problem(kind, cells)
    constraint, prior = jax.tree.map(
        lambda a: a.astype(dtype), (problem.constraint(), problem.prior)
    )
    mean, samples = mean_and_samples(constraint, prior, jax.random.key(0))

    rows, values = (np.asarray(a, np.float64) for a in (constraint.rows, constraint.values))
    for u in (np.asarray(samples), np.asarray(mean)[None]):
        assert u.dtype == dtype
        u = u.astype(np.float64)
        scale = np.maximum(np.abs(values), np.abs(u) @ np.abs(rows).T)
        assert (np.abs(u @ rows.T - values) / scale).max() <= limit
    assert np.asarray(samples).std(axis=0).min() > 0.01


@pytest.mark.parametrize(
    ("kind", "sigma"), [pytest.param("diagonal", 0.2, marks=pytest.mark.slow), ("banded", 0.0)]
)
def test_moved_samples_have_the_covariance_of_the_update(kind: str, sigma: float) -> None:
    problem, num = Problem(kind, cells=True), 40_000
    constraint = problem.constraint(sigma)

    @jax.jit
    def moved(key: jax.Array) -> jax.Array:
        key, key_noise = jax.random.split(key)
        drawn = problem.prior.mean[None] + draw(key, problem.prior.covariance, (num,))
        noise = draw(key_noise, sigma**2 * jnp.ones(4), (num,)) if sigma else None
        return condition_samples(constraint, problem.prior, drawn, noise=noise)

    samples = np.asarray(moved(jax.random.key(1)))

    mean, covariance = posterior(problem, sigma)
    centered = samples - mean[None]
    variance = np.diag(covariance)
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / num)
    none = 1e-12 * variance.max()  # of what an exact constraint makes certain
    assert np.all(np.abs(centered.T @ centered / num - covariance) < 6 * spread + none)
    assert np.all(np.abs(centered.mean(axis=0)) < 6 * np.sqrt(variance / num) + none)


def test_leading_axes_of_the_mean_share_the_update() -> None:
    problem = Problem("low_rank", cells=True)
    means = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, N)))
    values = jnp.asarray(np.random.default_rng(4).normal(size=(2, 3, 4)))
    constraint = problem.constraint()._replace(values=values)

    together, _ = conditioned(constraint, problem.prior._replace(mean=means))

    for i in np.ndindex(2, 3):
        one, _ = conditioned(
            constraint._replace(values=values[i]), problem.prior._replace(mean=means[i])
        )
        close(together[i], one, 1e-13)  # the same sums in another order


def test_conditioning_twice_is_conditioning_on_both() -> None:
    problem = Problem("banded", cells=True)
    exact = problem.constraint()
    parts = [LinearConstraint(exact.rows[i], exact.values[i]) for i in (np.s_[:2], np.s_[2:])]

    twice = jax.jit(lambda a, b, prior: conditioned(b, condition(a, prior)))
    after = twice(*parts, problem.prior)

    mean, covariance = posterior(problem)
    close(after[0], mean, 1e-11)
    close(after[1], covariance, 1e-11)


@pytest.mark.parametrize(
    ("cells", "sigma"), [(False, 0.0), pytest.param(True, 0.3, marks=pytest.mark.slow)]
)
def test_gradients_of_the_update_agree_with_finite_differences(cells: bool, sigma: float) -> None:
    problem = Problem("banded", cells)
    constraint = problem.constraint(sigma)

    @jax.jit
    @jax.value_and_grad
    def loss(inputs) -> jax.Array:
        rows, values, prior = inputs
        given = LinearConstraint(rows, values, constraint.covariance)
        after = condition(given, prior)
        noise = None if constraint.covariance is None else jnp.zeros_like(values)
        moved = condition_samples(given, prior, jnp.sin(prior.mean), noise=noise)
        variance = jnp.cos(marginal_variance(after.covariance))
        return jnp.sum(jnp.sin(after.mean) + variance + moved**2)

    inputs = (constraint.rows, constraint.values, problem.prior)
    generator = np.random.default_rng(7)
    step = jax.tree.map(lambda a: jnp.asarray(1e-6 * generator.normal(size=a.shape)), inputs)
    pairs = jax.tree.map(lambda g, s: float(jnp.sum(g * s)), loss(inputs)[1], step)
    ahead, _ = loss(jax.tree.map(jnp.add, inputs, step))
    behind, _ = loss(jax.tree.map(jnp.subtract, inputs, step))
    slope = sum(jax.tree.leaves(pairs))
    assert float(ahead - behind) / 2 == pytest.approx(slope, rel=1e-4)
    assert min(abs(leaf) for leaf in jax.tree.leaves(pairs)) > 1e-8


@pytest.mark.parametrize("kind", ["low_rank", "smooth"])
def test_the_update_never_makes_a_matrix(kind: str) -> None:
    n = 1000
    ones = jnp.ones(n)
    prior = Gaussian(ones, LowRank(ones, jnp.ones((n, 2))) if kind == "low_rank" else ones)
    x, masses = jnp.linspace(0.0, 1.0, n), jnp.ones(3)

    def everything(x, masses, prior) -> jax.Array:
        if kind == "smooth":
            prior = shape_correction(prior)  # from a diagonal to a banded precision
        constraint = cell_constraint(x, (0, 300, 500, n - 1), masses)
        after = condition(constraint, prior)
        drawn = draw(jax.random.key(0), prior.covariance)
        moved = condition_samples(constraint, prior, drawn)
        return jnp.sum(after.mean + marginal_variance(after.covariance) + moved)

    assert largest_array(everything, x, masses, prior) <= 4 * n
    assert largest_array(jax.grad(everything, argnums=(0, 1, 2)), x, masses, prior) <= 4 * n
