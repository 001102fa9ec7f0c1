"""Rules, cells, shape correction and scores against closed forms and NumPy; refusals."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

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
)
from sciml.constraints import Gaussian, LinearConstraint, condition, condition_samples
from sciml.covariances import marginal_variance, to_dense
from sciml.metrics import coverage, crps_gaussian, gaussian_log_likelihood
from tests.processes import run_child
from tests.sciml.conserved import N, close, conditioned, conserved_slices, kkt

pytestmark = pytest.mark.usefixtures("float64")


def test_weights_of_the_rules() -> None:
    x = np.sort(np.random.default_rng(0).uniform(2, 5, 15))
    low, high = float(x[0]), float(x[-1])

    weights = np.asarray(trapezoid_weights(jnp.asarray(x)))
    assert float(weights.sum()) == pytest.approx(high - low, rel=1e-14)
    assert float(weights @ (3 * x - 2)) == pytest.approx(
        1.5 * (high**2 - low**2) - 2 * (high - low), rel=1e-13
    )
    assert float(weights @ x**2) > (high**3 - low**3) / 3 + 1e-3  # convex: from above
    right = np.asarray(right_riemann_weights(jnp.asarray(x)))
    assert float(right @ x) == pytest.approx(
        sum(float(b * (b - a)) for a, b in zip(x[:-1], x[1:], strict=True)), rel=1e-13
    )
    grid = np.arange(40) * (2 * np.pi / 40)
    constraint = mass_constraint(jnp.asarray(grid), jnp.asarray(0.0), rule="uniform")
    uniform = np.asarray(constraint.rows)[0]
    # Heat has no mass: 40 terms of size 0.1, rounded.
    assert abs(float(uniform @ (np.exp(-0.5) * np.sin(grid)))) < 1e-14
    assert float(uniform @ np.cos(3 * grid) ** 2) == pytest.approx(np.pi, rel=1e-13)


def test_cells_add_up_to_the_slice_and_do_not_depend_on_each_other() -> None:
    x = np.sort(np.random.default_rng(0).uniform(size=9))

    def weights(x: np.ndarray) -> np.ndarray:
        return np.r_[np.diff(x), 0] / 2 + np.r_[0, np.diff(x)] / 2

    for edges in ((0, 8), (0, 1, 2, 8), tuple(range(9))):
        masses = jnp.asarray(np.ones(len(edges) - 1))
        rows = np.asarray(cell_constraint(jnp.asarray(x), edges, masses).rows)
        np.testing.assert_allclose(rows.sum(axis=0), weights(x), rtol=1e-14)
        assert np.linalg.matrix_rank(rows) == len(edges) - 1
        for row, a, b in zip(rows, edges, edges[1:], strict=False):
            np.testing.assert_allclose(row[a : b + 1], weights(x[a : b + 1]), rtol=1e-14)
            assert not row[:a].any() and not row[b + 1 :].any()


@partial(jax.jit, static_argnames="correlation")
def corrected(prior: Gaussian, *, correlation: float) -> dict[str, jax.Array]:
    """Returns what the shape correction makes of a prior with independent points."""
    after = shape_correction(prior, correlation=correlation)
    assert isinstance(prior.covariance, jax.Array)
    return {
        "mean": after.mean,
        "covariance": to_dense(after.covariance),
        "variance": marginal_variance(after.covariance),
        "noise": difference_variance(prior.covariance, correlation=correlation),
        "dense": condition(smoothness(prior.covariance, correlation=correlation), prior).mean,
    }


@pytest.mark.parametrize(
    "correlation", [0.9, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.0, 1.0))]
)
def test_shape_correction_is_conditioning_on_second_differences(correlation: float) -> None:
    generator = np.random.default_rng(0)
    mean, variance = generator.normal(size=(2, N)), generator.uniform(0.01, 2, N)
    prior = Gaussian(jnp.asarray(mean), jnp.asarray(variance))

    after = corrected(prior, correlation=correlation)

    rows = np.array([[1.0 * (j == i) - 2 * (j == i + 1) + (j == i + 2) for j in range(N)]
                     for i in range(N - 2)])  # fmt: skip
    s, a = np.sqrt(variance), correlation
    noise = [
        s[i - 1] ** 2 + 4 * s[i] ** 2 + s[i + 1] ** 2 - 4 * a * s[i - 1] * s[i]
        + 2 * a**2 * s[i - 1] * s[i + 1] - 4 * a * s[i] * s[i + 1]
        for i in range(1, N - 1)
    ]  # fmt: skip
    np.testing.assert_allclose(difference_rows(N), rows)
    found = np.asarray(after["noise"], np.float64)
    if a < 1:
        np.testing.assert_allclose(found, noise, rtol=1e-10)
    system = rows @ np.diag(variance) @ rows.T + np.diag(found)
    gain = np.diag(variance) @ rows.T @ np.linalg.inv(system)
    covariance = np.diag(variance) - gain @ rows @ np.diag(variance)
    close(after["mean"], mean - mean @ rows.T @ gain.T, 1e-10)
    close(after["covariance"], covariance, 1e-10)
    close(after["variance"], np.diag(covariance), 1e-10)
    close(after["dense"], after["mean"], 1e-10)
    assert np.abs(np.asarray(after["mean"]) @ rows.T).max() < np.abs(mean @ rows.T).max() / 2


@pytest.mark.slow  # a program for each correlation
def test_shape_correction_keeps_lines_and_survives_certain_differences() -> None:
    line, same = jnp.asarray(2.0 * np.arange(N) - 3), jnp.asarray(np.full(N, 0.3))
    for correlation in (0.0, 0.9, 1.0):
        after = corrected(Gaussian(line, same), correlation=correlation)
        close(after["mean"], line, 1e-13)  # float64: the change is made of rounding errors
        assert np.min(after["variance"]) > 0 and np.max(after["variance"]) < 0.3
    np.testing.assert_allclose(after["noise"], VARIANCE_FLOOR * 1.8)  # of correlation 1
    # The floor is not reached at the correlation of the paper, whatever the variances.
    wild = 10 ** np.random.default_rng(0).uniform(-6, 0, 1000)
    alone = wild[:-2] + 4 * wild[1:-1] + wild[2:]
    noise = np.asarray(jax.jit(difference_variance)(jnp.asarray(wild)))
    assert (noise / alone).min() > 10 * VARIANCE_FLOOR


def test_second_differences_know_uneven_abscissae() -> None:
    generator = np.random.default_rng(0)
    x = np.sort(generator.uniform(1, 3, N))
    mean, variance = generator.normal(size=(2, N)) ** 2 + 0.1

    @jax.jit
    def run(x: jax.Array, mean: jax.Array) -> dict[str, jax.Array]:
        given = smoothness(jnp.asarray(variance), x=x)
        after = shape_correction(Gaussian(mean, jnp.asarray(variance)), x=x)
        assert given.covariance is not None
        return {
            "rows": given.rows,
            "noise": jnp.diagonal(given.covariance),
            "slope": jax.grad(lambda x: jnp.sum(difference_rows(N, x=x)[:, 0]))(x),
            "mean": after.mean,
            "covariance": to_dense(after.covariance),
        }

    found = run(jnp.asarray(x), jnp.asarray(mean))
    line = run(jnp.asarray(x), jnp.asarray(2 * x - 3))["mean"]

    close(line, 2 * x - 3, 1e-12)
    rows = np.asarray(found["rows"])
    close(rows @ (2 * x - 3), 0 * rows[:, 0], 1e-13, of=np.abs(rows) @ np.abs(2 * x - 3))
    gaps = np.diff(x)
    close(rows @ x**2, 2 * gaps[1:] * gaps[:-1], 1e-12, of=np.abs(rows) @ x**2)
    np.testing.assert_allclose(rows.clip(0).sum(axis=1), 2, rtol=1e-13)
    s = np.sqrt(variance)
    correlated = 0.9 ** np.abs(np.subtract.outer(np.arange(N), np.arange(N))) * np.outer(s, s)
    close(found["noise"], np.diag(rows @ correlated @ rows.T), 1e-12)
    covariance = np.linalg.inv(np.diag(1 / variance) + rows.T / np.asarray(found["noise"]) @ rows)
    close(found["covariance"], covariance, 1e-11)
    close(found["mean"], covariance @ (mean / variance), 1e-11)
    # On an even grid, up to its rounding errors, they are those of the paper, with a slope.
    even = run(jnp.asarray(np.linspace(0, 2 * np.pi, N)), jnp.asarray(mean))
    np.testing.assert_array_equal(even["rows"], difference_rows(N))
    assert even["slope"][0] == pytest.approx((N - 1) / (4 * np.pi), rel=1e-5)


def test_correction_then_mass_equals_one_dense_conditioning_in_both_types() -> None:
    generator = np.random.default_rng(0)
    x, mean = np.sort(generator.uniform(size=N)), generator.normal(size=N)
    variance = 10 ** generator.uniform(-4, 0, N)

    @jax.jit
    def moved(x, mean, variance, mass):
        return conditioned(mass_constraint(x, mass), shape_correction(Gaussian(mean, variance)))

    for dtype, share in ((np.float64, 1e-10), (np.float32, 2e-4)):
        x_, mean_, variance_ = (jnp.asarray(a, dtype) for a in (x, mean, variance))
        after = moved(x_, mean_, variance_, jnp.asarray(0.7, dtype))
        rows = np.asarray(difference_rows(N))
        noise = np.asarray(difference_variance(jnp.asarray(variance)))
        smooth = np.linalg.inv(np.diag(1 / variance) + rows.T / noise @ rows)
        weights = np.asarray(trapezoid_weights(jnp.asarray(x)))
        wanted = kkt(weights[None], np.array([0.7]), smooth @ (mean / variance), smooth)
        close(after[0], wanted[0], share)
        close(after[1], wanted[1], share)


@pytest.mark.slow
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

    @jax.jit
    def scores(mean, variance, true):
        certain = crps_gaussian(mean, 0 * variance, true)
        likelihood = gaussian_log_likelihood(mean, variance, true)
        return likelihood, crps_gaussian(mean, variance, true), certain

    likelihood, found, certain = scores(*arrays)
    density = norm.logpdf(true, mean, np.sqrt(variance)).mean(axis=1)
    np.testing.assert_allclose(likelihood, density, rtol=1e-12)

    def crps(m: float, v: float, y: float) -> float:  # its definition, ∫ (F(z) - [z >= y])² dz
        below = quad(lambda z: norm.cdf(z, m, np.sqrt(v)) ** 2, -15, y)[0]
        return below + quad(lambda z: norm.sf(z, m, np.sqrt(v)) ** 2, y, 15)[0]

    wanted = np.vectorize(crps)(mean, variance, true).mean(axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(certain, np.abs(true - mean).mean(axis=1), rtol=1e-12)

    drawn = mean + np.sqrt(variance) * generator.normal(size=(20_000, 3, 5))
    level = 0.7
    wide = [jnp.asarray(np.broadcast_to(a, drawn.shape)) for a in (mean, variance)]
    share = np.asarray(jax.jit(partial(coverage, level=level))(*wide, jnp.asarray(drawn)))
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
        (lambda: difference_rows(2), "2 points: expected 3"),
        (lambda: difference_rows(5, x=_j(DOWN)), "increase"),
        (lambda: smoothness(_j(UP) + 1, x=_j(UP[1:])), r"shape \(4,\) for 5 points"),
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
