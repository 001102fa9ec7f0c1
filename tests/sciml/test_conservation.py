"""Fields that conserve: the Bayesian update against independent NumPy forms, rules, refusals."""

import json
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from sciml.conservation import (
    VARIANCE_FLOOR,
    cell_constraint,
    difference_rows,
    difference_variance,
    mass_constraint,
    right_riemann_weights,
    shape_correction,
    smoothness,
    trapezoid_weights,
    uniform_weights,
)
from sciml.constraints import Gaussian, LinearConstraint, condition, condition_samples
from sciml.covariances import (
    BandedPrecision,
    Dense,
    LowRank,
    as_covariance,
    draw,
    marginal_variance,
    to_dense,
)
from sciml.metrics import coverage, crps_gaussian, gaussian_log_likelihood
from tests.processes import run_child
from tests.sciml.conserved import conserved_slices, kkt, largest_array, pentadiagonal, random_bands

N = 24
EDGES = (0, 5, 6, 17, N - 1)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


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
        x, values = jnp.asarray(self.x), jnp.asarray(self.values)
        if len(self.rows) == 1:
            return mass_constraint(x, values[0], sigma=sigma)
        return cell_constraint(x, EDGES, values, sigma=sigma)


def posterior(problem: Problem, sigma: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    after = condition(problem.constraint(sigma), problem.prior)
    return np.asarray(after.mean), np.asarray(to_dense(after.covariance))


KINDS = pytest.mark.parametrize("kind", ["diagonal", "low_rank", "dense", "banded"])
CELLS = pytest.mark.parametrize("cells", [False, True])


@KINDS
@CELLS
def test_the_update_is_the_nearest_field_that_conserves(kind: str, cells: bool) -> None:
    problem = Problem(kind, cells)
    mean, covariance = posterior(problem)

    wanted, spread = kkt(problem.rows, problem.values, problem.mean, problem.sigma)
    np.testing.assert_allclose(mean, wanted, atol=1e-10)
    np.testing.assert_allclose(covariance, spread, atol=1e-10)
    np.testing.assert_array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-12
    assert np.abs(problem.rows @ covariance @ problem.rows.T).max() <= 1e-14
    scale = np.maximum(np.abs(problem.values), np.abs(problem.rows) @ np.abs(mean))
    assert np.all(np.abs(problem.rows @ mean - problem.values) <= 1e-12 * scale)
    again = condition(problem.constraint(), Gaussian(jnp.asarray(mean), problem.prior.covariance))
    np.testing.assert_allclose(again.mean, mean, atol=1e-13)  # idempotent


@KINDS
@CELLS
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

    # The error of a small sigma is a difference of numbers of size 1.
    assert row @ mean - mass == pytest.approx(
        missing * sigma**2 / (sigma**2 + along), rel=1e-10, abs=1e-14
    )
    if sigma < 1e-3:  # the density of a nearly singular Gaussian has too few digits
        return
    precision = np.linalg.inv(problem.sigma) + np.outer(row, row) / sigma**2
    np.testing.assert_allclose(covariance, np.linalg.inv(precision), atol=1e-8)
    true = problem.mean + 0.3 * np.sin(np.arange(N))
    true += row * (mass - row @ true) / (row @ row)
    gain = multivariate_normal.logpdf(true, mean, covariance) - multivariate_normal.logpdf(
        true, problem.mean, problem.sigma
    )
    wanted = np.log1p(along / sigma**2) / 2 + missing**2 / (2 * (sigma**2 + along))
    assert gain == pytest.approx(wanted, abs=1e-7) and wanted > 0


@KINDS
@CELLS
def test_noise_has_both_limits(kind: str, cells: bool) -> None:
    problem = Problem(kind, cells)
    exact, prior = posterior(problem), (problem.mean, problem.sigma)
    for sigma, wanted in ((1e-9, exact), (1e9, prior)):
        mean, covariance = posterior(problem, sigma)
        np.testing.assert_allclose(mean, wanted[0], atol=1e-10)
        np.testing.assert_allclose(covariance, wanted[1], atol=1e-10)
    # A sigma that is traced may be 0.
    traced = jax.jit(lambda s: condition(problem.constraint(s), problem.prior).mean)
    np.testing.assert_allclose(traced(jnp.asarray(0.0)), exact[0], atol=1e-12)


@KINDS
@CELLS
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-6), ("float64", 1e-12)])
def test_means_and_samples_conserve_to_rounding(kind, cells, dtype: str, limit: float) -> None:
    problem = Problem(kind, cells)
    constraint, prior = jax.tree.map(
        lambda a: a.astype(dtype), (problem.constraint(), problem.prior)
    )
    drawn = draw(jax.random.key(0), as_covariance(prior.covariance), (50,))
    samples = condition_samples(constraint, prior, jnp.expand_dims(prior.mean, 0) + drawn)
    mean = condition(constraint, prior).mean

    rows, values = (np.asarray(a, np.float64) for a in (constraint.rows, constraint.values))
    for u in (np.asarray(samples), np.asarray(mean)[None]):
        assert u.dtype == dtype
        u = u.astype(np.float64)
        scale = np.maximum(np.abs(values), np.abs(u) @ np.abs(rows).T)
        assert (np.abs(u @ rows.T - values) / scale).max() <= limit
    assert np.asarray(samples).std(axis=0).min() > 0.01


@pytest.mark.parametrize("sigma", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["diagonal", "banded"])
def test_moved_samples_have_the_covariance_of_the_update(kind: str, sigma: float) -> None:
    problem, num = Problem(kind, cells=True), 40_000
    constraint = problem.constraint(sigma)
    key, key_noise = jax.random.split(jax.random.key(1))
    drawn = problem.prior.mean[None] + draw(key, as_covariance(problem.prior.covariance), (num,))
    noise = draw(key_noise, Dense(constraint.covariance), (num,)) if sigma else None

    samples = np.asarray(condition_samples(constraint, problem.prior, drawn, noise=noise))

    mean, covariance = posterior(problem, sigma)
    centered = samples - mean[None]
    variance = np.diag(covariance)
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / num)
    assert np.all(np.abs(centered.T @ centered / num - covariance) < 6 * spread + 1e-12)
    assert np.all(np.abs(centered.mean(axis=0)) < 6 * np.sqrt(variance / num) + 1e-12)


def test_leading_axes_of_the_mean_share_the_update() -> None:
    problem = Problem("low_rank", cells=True)
    means = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, N)))
    values = jnp.asarray(np.random.default_rng(4).normal(size=(2, 3, 4)))
    constraint = problem.constraint()._replace(values=values)

    together = condition(constraint, problem.prior._replace(mean=means)).mean

    for i in np.ndindex(2, 3):
        one = condition(
            constraint._replace(values=values[i]), problem.prior._replace(mean=means[i])
        )
        np.testing.assert_allclose(together[i], one.mean, atol=1e-13)


def test_conditioning_twice_is_conditioning_on_both() -> None:
    problem = Problem("banded", cells=True)
    exact = problem.constraint()
    parts = [LinearConstraint(exact.rows[i], exact.values[i]) for i in (np.s_[:2], np.s_[2:])]

    after = condition(parts[1], condition(parts[0], problem.prior))

    mean, covariance = posterior(problem)
    np.testing.assert_allclose(after.mean, mean, atol=1e-11)
    np.testing.assert_allclose(to_dense(after.covariance), covariance, atol=1e-11)


@CELLS
@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_gradients_of_the_update_agree_with_finite_differences(cells: bool, sigma: float) -> None:
    problem = Problem("banded", cells)
    constraint = problem.constraint(sigma)

    @jax.jit
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
    pairs = jax.tree.map(lambda g, s: float(jnp.sum(g * s)), jax.grad(loss)(inputs), step)
    ahead = loss(jax.tree.map(jnp.add, inputs, step))
    behind = loss(jax.tree.map(jnp.subtract, inputs, step))
    slope = sum(jax.tree.leaves(pairs))
    assert float(ahead - behind) / 2 == pytest.approx(slope, rel=1e-4)
    assert min(abs(leaf) for leaf in jax.tree.leaves(pairs)) > 1e-8


@pytest.mark.parametrize("kind", ["diagonal", "low_rank", "banded", "smooth"])
def test_the_update_never_makes_a_matrix(kind: str) -> None:
    n = 1000
    ones = jnp.ones(n)
    bands = jnp.stack([4 * ones, -ones, 0.5 * ones])
    covariance = {"low_rank": LowRank(ones, jnp.ones((n, 2))), "banded": BandedPrecision(bands)}
    prior = Gaussian(ones, covariance.get(kind, ones))
    x, masses = jnp.linspace(0.0, 1.0, n), jnp.ones(3)

    def everything(x, masses, prior) -> jax.Array:
        if kind == "smooth":
            prior = shape_correction(prior)
        constraint = cell_constraint(x, (0, 300, 500, n - 1), masses)
        after = condition(constraint, prior)
        drawn = draw(jax.random.key(0), as_covariance(prior.covariance))
        moved = condition_samples(constraint, prior, drawn)
        return jnp.sum(after.mean + marginal_variance(after.covariance) + moved)

    assert largest_array(everything, x, masses, prior) <= 4 * n
    assert largest_array(jax.grad(everything, argnums=(0, 1, 2)), x, masses, prior) <= 4 * n


def test_weights_of_the_rules() -> None:
    x = jnp.asarray(np.sort(np.random.default_rng(0).uniform(2, 5, 15)))
    low, high = float(x[0]), float(x[-1])

    weights = trapezoid_weights(x)
    assert float(weights.sum()) == pytest.approx(high - low, rel=1e-14)
    assert float(weights @ (3 * x - 2)) == pytest.approx(
        1.5 * (high**2 - low**2) - 2 * (high - low), rel=1e-13
    )
    assert float(weights @ x**2) > (high**3 - low**3) / 3 + 1e-3  # convex: from above
    right = right_riemann_weights(x)
    assert float(right @ x) == pytest.approx(
        sum(float(b * (b - a)) for a, b in zip(x[:-1], x[1:], strict=True)), rel=1e-13
    )
    grid = jnp.arange(40) * (2 * np.pi / 40)
    uniform = uniform_weights(40, 2 * np.pi)
    assert abs(float(uniform @ (np.exp(-0.5) * jnp.sin(grid)))) < 1e-15  # heat: no mass
    assert float(uniform @ jnp.cos(3 * grid) ** 2) == pytest.approx(np.pi, rel=1e-13)
    row = mass_constraint(grid, jnp.asarray(0.0), rule="uniform").rows[0]
    np.testing.assert_allclose(row, uniform, rtol=1e-13)


def test_cells_add_up_to_the_slice_and_do_not_depend_on_each_other() -> None:
    x = jnp.asarray(np.sort(np.random.default_rng(0).uniform(size=9)))
    for edges in ((0, 8), (0, 1, 2, 8), tuple(range(9))):
        rows = np.asarray(cell_constraint(x, edges, jnp.ones(len(edges) - 1)).rows)
        np.testing.assert_allclose(rows.sum(axis=0), trapezoid_weights(x), rtol=1e-14)
        assert np.linalg.matrix_rank(rows) == len(edges) - 1
        for row, a, b in zip(rows, edges, edges[1:], strict=False):
            np.testing.assert_allclose(row[a : b + 1], trapezoid_weights(x[a : b + 1]), rtol=1e-14)
            assert not row[:a].any() and not row[b + 1 :].any()


@pytest.mark.parametrize("correlation", [0.0, 0.9, 1.0])
def test_shape_correction_is_conditioning_on_second_differences(correlation: float) -> None:
    generator = np.random.default_rng(0)
    mean, variance = generator.normal(size=(2, N)), generator.uniform(0.01, 2, N)
    prior = Gaussian(jnp.asarray(mean), jnp.asarray(variance))

    after = shape_correction(prior, correlation=correlation)

    rows = np.array([[1.0 * (j == i) - 2 * (j == i + 1) + (j == i + 2) for j in range(N)]
                     for i in range(N - 2)])  # fmt: skip
    s, a = np.sqrt(variance), correlation
    noise = [
        s[i - 1] ** 2 + 4 * s[i] ** 2 + s[i + 1] ** 2 - 4 * a * s[i - 1] * s[i]
        + 2 * a**2 * s[i - 1] * s[i + 1] - 4 * a * s[i] * s[i + 1]
        for i in range(1, N - 1)
    ]  # fmt: skip
    np.testing.assert_allclose(difference_rows(N), rows)
    found = difference_variance(jnp.asarray(variance), correlation=a)
    if a < 1:
        np.testing.assert_allclose(found, noise, rtol=1e-10)
    system = rows @ np.diag(variance) @ rows.T + np.diag(found)
    gain = np.diag(variance) @ rows.T @ np.linalg.inv(system)
    covariance = np.diag(variance) - gain @ rows @ np.diag(variance)
    np.testing.assert_allclose(after.mean, mean - mean @ rows.T @ gain.T, atol=1e-10)
    np.testing.assert_allclose(to_dense(after.covariance), covariance, atol=1e-10)
    np.testing.assert_allclose(marginal_variance(after.covariance), np.diag(covariance), atol=1e-10)
    dense = condition(smoothness(jnp.asarray(variance), correlation=a), prior)
    np.testing.assert_allclose(dense.mean, after.mean, atol=1e-10)
    assert np.abs(np.asarray(after.mean) @ rows.T).max() < np.abs(mean @ rows.T).max() / 2


def test_shape_correction_keeps_lines_and_survives_certain_differences() -> None:
    line = 2 * jnp.arange(N, dtype=jnp.float64) - 3
    same = jnp.full(N, 0.3)
    for correlation in (0.0, 0.9, 1.0):
        after = shape_correction(Gaussian(line, same), correlation=correlation)
        np.testing.assert_allclose(after.mean, line, atol=1e-12)
        assert np.all(np.asarray(marginal_variance(after.covariance)) > 0)
        assert np.all(np.asarray(marginal_variance(after.covariance)) < 0.3)
    np.testing.assert_allclose(difference_variance(same, correlation=1.0), VARIANCE_FLOOR * 1.8)
    # The floor is not reached at the correlation of the paper, whatever the variances.
    wild = jnp.asarray(10 ** np.random.default_rng(0).uniform(-6, 0, 1000))
    alone = wild[:-2] + 4 * wild[1:-1] + wild[2:]
    assert float((difference_variance(wild) / alone).min()) > 10 * VARIANCE_FLOOR


def test_correction_then_mass_equals_one_dense_conditioning_in_both_types() -> None:
    generator = np.random.default_rng(0)
    x, mean = np.sort(generator.uniform(size=N)), generator.normal(size=N)
    variance = 10 ** generator.uniform(-4, 0, N)
    for dtype, atol in ((np.float64, 1e-10), (np.float32, 2e-4)):
        x_, mean_, variance_ = (jnp.asarray(a, dtype) for a in (x, mean, variance))
        after = condition(
            mass_constraint(x_, jnp.asarray(0.7, dtype)),
            shape_correction(Gaussian(mean_, variance_)),
        )
        rows = np.asarray(difference_rows(N))
        noise = np.asarray(difference_variance(jnp.asarray(variance)))
        smooth = np.linalg.inv(np.diag(1 / variance) + rows.T / noise @ rows)
        weights = np.asarray(trapezoid_weights(jnp.asarray(x)))
        wanted = kkt(weights[None], np.array([0.7]), smooth @ (mean / variance), smooth)
        np.testing.assert_allclose(after.mean, wanted[0], atol=atol)
        np.testing.assert_allclose(to_dense(after.covariance), wanted[1], atol=atol)


def test_eight_devices_conserve_as_one_does() -> None:
    done = run_child(
        "import runpy; runpy.run_module('tests.sciml.conserved', run_name='__main__')",
        devices=8,
        env={"JAX_ENABLE_X64": "1"},
    )
    assert done.returncode == 0, done.stderr
    eight, one = json.loads(done.stdout.splitlines()[-1]), conserved_slices()
    for name in ("mean", "variance"):
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-12, atol=1e-14)
        assert np.std(one[name]) > 0.01


def test_scores_of_gaussian_predictions() -> None:
    generator = np.random.default_rng(0)
    mean, variance = generator.normal(size=(3, 5)), generator.uniform(0.1, 2, (3, 5))
    true = generator.normal(size=(3, 5))
    arrays = [jnp.asarray(a) for a in (mean, variance, true)]

    density = norm.logpdf(true, mean, np.sqrt(variance)).mean(axis=1)
    np.testing.assert_allclose(gaussian_log_likelihood(*arrays), density, rtol=1e-12)

    def crps(m: float, v: float, y: float) -> float:  # its definition, ∫ (F(z) - [z >= y])² dz
        below = quad(lambda z: norm.cdf(z, m, np.sqrt(v)) ** 2, -15, y)[0]
        return below + quad(lambda z: norm.sf(z, m, np.sqrt(v)) ** 2, y, 15)[0]

    wanted = np.vectorize(crps)(mean, variance, true).mean(axis=1)
    np.testing.assert_allclose(crps_gaussian(*arrays), wanted, rtol=1e-6)
    certain = crps_gaussian(arrays[0], jnp.zeros((3, 5)), arrays[2])
    np.testing.assert_allclose(certain, np.abs(true - mean).mean(axis=1), rtol=1e-12)

    drawn = mean + np.sqrt(variance) * generator.normal(size=(20_000, 3, 5))
    level = 0.7
    share = coverage(
        *(jnp.asarray(np.broadcast_to(a, drawn.shape)) for a in (mean, variance)),
        jnp.asarray(drawn),
        level=level,
    )
    assert share.shape == (20_000,)
    assert float(share.mean()) == pytest.approx(level, abs=6 * np.sqrt(level * 0.3 / drawn.size))


UP, DOWN = np.linspace(0, 1, 5), np.array([0, 0.5, 0.25, 0.75, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mass_constraint(_j(UP**2), _j(1), rule="uniform"), "spacings from .* uniform"),
        (lambda: mass_constraint(_j(DOWN), _j(1)), "a step of -0.25.*increase"),
        (lambda: right_riemann_weights(_j(DOWN)), "increase"),
        (lambda: trapezoid_weights(_j(UP[:1])), "1 points, expected 2"),
        (lambda: mass_constraint(_j(UP), _j(1), rule="left"), "rule='left'.*trapezoid"),
        (lambda: mass_constraint(_j(UP), _j(1), sigma=-0.1), "sigma=-0.1.*0 or more"),
        (lambda: cell_constraint(_j(UP), (0, 4), _j([1]), sigma=-2.0), "sigma=-2.0"),
        (lambda: cell_constraint(_j(UP), (0, 2, 4), _j([1, 2, 3])), r"\(3,\) for 2 cells"),
        (lambda: cell_constraint(_j(UP), (0, 3), _j([1])), "from 0 to 4"),
        (lambda: cell_constraint(_j(UP), (0, 2, 2, 4), _j([1, 2, 3])), "increasing positions"),
        (lambda: uniform_weights(4, -1.0), "length=-1.0"),
        (lambda: difference_rows(2), "2 points: expected 3"),
        (lambda: shape_correction(Gaussian(_j(UP), jnp.eye(5))), "Dense covariance.*Diagonal"),
        (lambda: shape_correction(Gaussian(_j(UP), _j(UP))), "variance 0.0.*above 0"),
        (lambda: difference_variance(_j(UP), correlation=1.5), "correlation=1.5"),
        (lambda: coverage(*[jnp.ones((1, 2))] * 3, level=1.0), "level=1.0"),
        (lambda: _condition(variance=np.zeros(5)), "singular.*variance along every row"),
        (lambda: _condition(rows=np.ones((2, 5)), values=np.ones(2)), "singular"),
        (lambda: _condition(values=np.ones(2)), r"\(2,\) for 1 rows"),
        (lambda: _condition(rows=np.ones((1, 6))), "outside the domain"),
        (
            lambda: condition_samples(
                mass_constraint(_j(UP), _j(1), sigma=1.0), Gaussian(_j(UP), jnp.ones(5)), _j(UP)
            ),
            "noise is missing",
        ),
    ],
)
def test_what_cannot_be_conserved_is_refused_in_one_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def _j(numbers) -> jax.Array:
    return jnp.asarray(numbers, jnp.float64)


def _condition(**fields) -> Gaussian:
    good = dict(variance=np.ones(5), rows=np.ones((1, 5)), values=np.ones(1))
    given = {name: _j(numbers) for name, numbers in (good | fields).items()}
    constraint = LinearConstraint(given["rows"], given["values"])
    return condition(constraint, Gaussian(_j(UP), given["variance"]))
