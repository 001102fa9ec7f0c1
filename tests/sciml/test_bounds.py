"""The most likely field within bounds: a solver of its own, optimality, derivatives, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from sciml.bounds import Bounds, most_likely, outside
from sciml.conservation import mass_constraint
from sciml.constraints import Gaussian, LinearConstraint
from tests.sciml.conserved import N, Problem, close, kkt

pytestmark = pytest.mark.usefixtures("float64")
CASES, POINTS = 40, 12


def solved(
    mean: np.ndarray,
    sigma: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Returns the same field by sequential quadratic programming in SciPy."""
    weight = np.linalg.inv(sigma)
    weight /= np.mean(np.diag(weight))  # of size 1, as its tolerances want
    found = minimize(
        lambda u: (u - mean) @ weight @ (u - mean) / 2,
        np.clip(mean, low, high),
        jac=lambda u: weight @ (u - mean),
        bounds=list(zip(low, high, strict=True)),
        constraints=[{"type": "eq", "fun": lambda u: rows @ u - values, "jac": lambda u: rows}],
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 1_000},
    )
    return found.x


def random_cases() -> dict[str, np.ndarray]:
    """Returns problems of independent points with a row that can hold; a third have one-sided
    bounds, a third of the rows have noise, and weights of either sign and 0.
    """
    generator = np.random.default_rng(0)
    shape = (CASES, POINTS)
    row = generator.normal(size=shape) * (generator.uniform(size=shape) > 0.1)
    low, width = generator.normal(size=shape), generator.uniform(0.1, 1, shape)
    inside = low + width * generator.uniform(size=shape)
    high = low + width
    high[::3] = np.inf
    noise = np.where(np.arange(CASES) % 3 == 1, generator.uniform(0.1, 1, CASES), 0.0)
    mean = generator.normal(size=shape)
    return {
        "mean": mean,
        "variance": generator.uniform(0.1, 2, shape),
        "row": row,
        "value": np.sum(row * inside, axis=1),
        "noise": noise,
        "low": low,
        "high": high,
    }


@jax.jit
def with_row(case: dict[str, jax.Array], change: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
    """Returns the fields of all cases, and how they change along a change of their numbers."""

    def one(mean, variance, row, value, noise, low, high):
        constraint = LinearConstraint(row[None], value[None], noise[None, None])
        return most_likely(Bounds(low, high), Gaussian(mean, variance), constraint)

    over = jax.vmap(lambda case: one(**case))
    return jax.jvp(over, (case,), (change,))


def test_one_row_within_bounds_obeys_the_conditions_of_an_optimum() -> None:
    case = random_cases()
    u, _ = with_row(case, jax.tree.map(np.zeros_like, case))
    u, low, high, row = np.asarray(u), case["low"], case["high"], case["row"]

    assert ((low <= u) & (u <= high)).all()
    force = (u - case["mean"]) / case["variance"]  # = λ row where a point is free
    is_free = (u > low) & (u < high) & (row != 0)
    assert is_free.any(axis=1).all() and (~is_free).sum() > CASES
    product = np.where(is_free, row, 0)
    weight = np.sum(product * force, axis=1) / np.sum(product**2, axis=1)
    missed = case["value"] - np.sum(row * u, axis=1)
    summed = np.sum(np.abs(row * u), axis=1) + np.abs(case["noise"] * weight)
    assert (np.abs(missed - case["noise"] * weight) < 1e-12 * summed).all()  # a dozen roundings
    left, size = force - weight[:, None] * row, np.abs(force).max(axis=1, keepdims=True)
    left = left / size  # the weight is a sum of a dozen numbers, divided by one
    assert np.abs(np.where(is_free, left, 0)).max() < 1e-10
    # A bound only pushes inwards.
    assert (np.where(u == low, left, 0) >= -1e-10).all()
    assert (np.where(u == high, left, 0) <= 1e-10).all()


def test_derivatives_of_one_row_are_those_of_finite_differences() -> None:
    case = random_cases()
    case["high"] = np.where(
        np.isinf(case["high"]), 1e3, case["high"]
    )  # a difference of inf is none
    generator = np.random.default_rng(1)
    change = {name: generator.normal(size=x.shape) for name, x in case.items()}
    change["noise"] *= case["noise"] > 0
    step = 1e-6
    ends = ({name: x + sign * step * change[name] for name, x in case.items()} for sign in (1, -1))
    (ahead, _), (behind, _) = (with_row(end, change) for end in ends)
    _, slope = with_row(case, change)

    # Where a point meets a bound between the two ends there is no derivative: a few cases at most.
    difference = (np.asarray(ahead) - np.asarray(behind)) / (2 * step)
    error = np.abs(difference - np.asarray(slope)).max(axis=1)
    assert np.mean(error < 1e-6 * np.abs(difference).max(axis=1).clip(1)) > 0.9
    assert np.abs(slope).max(axis=1).min() > 1e-3


def test_one_row_agrees_with_a_solver_of_its_own() -> None:
    case = random_cases()
    u, _ = with_row(case, jax.tree.map(np.zeros_like, case))
    exact = np.flatnonzero(case["noise"] == 0)[:8]
    for k in exact:
        part = {name: x[k] for name, x in case.items()}
        sigma, rows = np.diag(part["variance"]), part["row"][None]
        ends = part["low"], part["high"]
        wanted = solved(part["mean"], sigma, rows, part["value"][None], *ends)
        np.testing.assert_allclose(u[k], wanted, atol=1e-6)  # as far as SciPy converges


@jax.jit
def found(prior: Gaussian, constraint: LinearConstraint, bounds: Bounds) -> jax.Array:
    return most_likely(bounds, prior, constraint)


@jax.jit
def slope_of(prior: Gaussian, constraint: LinearConstraint, bounds: Bounds) -> jax.Array:
    """Returns the gradient of the sum of squares by the mean."""

    def loss(mean: jax.Array) -> jax.Array:
        return jnp.sum(most_likely(bounds, prior._replace(mean=mean), constraint) ** 2)

    return jax.grad(loss)(prior.mean)


def bounded_problem(kind: str, cells: bool) -> tuple[Problem, LinearConstraint, Bounds]:
    problem = Problem(kind, cells)
    problem.values = problem.rows @ np.random.default_rng(2).uniform(-0.3, 0.5, N)
    return problem, problem.constraint(), Bounds(jnp.full(N, -0.5), jnp.full(N, 0.7))


KINDS = pytest.mark.parametrize(
    ("kind", "cells"),
    [
        pytest.param("diagonal", True),
        *(
            pytest.param(kind, cells, marks=pytest.mark.slow)
            for kind in ("low_rank", "dense", "banded")
            for cells in (False, True)
        ),
    ],
)


@KINDS
def test_any_covariance_agrees_with_a_solver_of_its_own(
    kind: str, cells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "diagonal":  # one weight is enough there, and compiles in a fifth of the time
        monkeypatch.setattr("sciml.bounds.STAGES", 1)
    problem, constraint, bounds = bounded_problem(kind, cells)
    low, high = (np.asarray(bound) for bound in bounds)
    u: np.ndarray = np.asarray(found(problem.prior, constraint, bounds), np.float64)

    wanted = solved(problem.mean, problem.sigma, problem.rows, problem.values, low, high)
    np.testing.assert_allclose(u, wanted, atol=1e-6)  # as far as SciPy converges
    close(problem.rows @ u, problem.values, 1e-12)
    assert (low - u).max() < 1e-9 and (u - high).max() < 1e-9
    assert 2 < np.sum((u < low + 1e-9) | (u > high - 1e-9)) < N - 2
    # The nearest point of a convex set is not farther from its other points than the mean was.
    other = solved(0 * problem.mean, np.eye(N), problem.rows, problem.values, low, high)
    weight = np.linalg.inv(problem.sigma)
    ours, before = ((x - other) @ weight @ (x - other) for x in (u, problem.mean))
    assert ours <= before

    free = found(problem.prior, constraint, Bounds(low - 1e3, high + 1e3))
    close(free, kkt(problem.rows, problem.values, problem.mean, problem.sigma)[0], 1e-9)


@pytest.mark.slow
@KINDS
def test_derivatives_of_iterations_are_those_of_finite_differences(kind: str, cells: bool) -> None:
    problem, constraint, bounds = bounded_problem(kind, cells)
    slope = np.asarray(slope_of(problem.prior, constraint, bounds))
    step, along = 1e-5, np.random.default_rng(3).normal(size=N)

    def loss(mean: jax.Array) -> float:
        return float(
            np.sum(np.asarray(found(problem.prior._replace(mean=mean), constraint, bounds)) ** 2)
        )

    ahead, behind = (loss(problem.prior.mean + sign * step * along) for sign in (1, -1))
    assert slope @ along == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


def test_without_rows_independent_points_are_clipped() -> None:
    mean = jnp.asarray([-1.0, 0.2, 3.0])
    found = most_likely(Bounds(0, 1), Gaussian(mean, [1, 2, 3]))
    np.testing.assert_array_equal(found, [0, 0.2, 1])
    assert float(outside(Bounds(0, 1), mean)) == 2 and float(outside(Bounds(0, 1), found)) == 0


@pytest.mark.slow
def test_a_cut_leaves_no_more_variance_and_a_mean_further_inside() -> None:
    # What the module says of uncertainty, on draws of a cut Gaussian of two points.
    sigma, mean, draws = np.asarray([[1.0, 0.6], [0.6, 0.5]]), np.asarray([-0.4, 0.3]), 200_000
    field = np.random.default_rng(0).multivariate_normal(mean, sigma, draws)
    kept = field[(field >= 0).all(axis=1)]
    mode = most_likely(Bounds(lower=0.0), Gaussian(jnp.asarray(mean), jnp.asarray(sigma)))

    removed = np.linalg.eigvalsh(sigma - np.cov(kept.T))
    noise = 4 * np.sqrt(2 / len(kept)) * np.trace(sigma)  # of a sampled variance
    assert removed.min() > -noise and removed.max() > 0.5 * np.trace(sigma)
    assert (kept.mean(axis=0) > np.asarray(mode) + 0.1).all()
    # The density at the mode is the highest: of all that were drawn none has a higher one.
    density = stats.multivariate_normal(mean, sigma)
    assert density.logpdf(np.asarray(mode)) >= density.logpdf(kept).max()


def test_what_cannot_hold_is_refused_in_one_line_and_nan_under_jit() -> None:
    x, prior = np.linspace(0, 1, 5), Gaussian(jnp.zeros(5), jnp.ones(5))
    for bounds, constraint, options, message in (
        (Bounds([0, 0, 2, 0, 0], 1.0), None, {}, "lower 2.0 above upper 1.0 at point 2"),
        (Bounds([0.0, 1.0]), None, {}, r"lower of shape \(2,\) for 5 points"),
        (Bounds(0.0), None, {"iterations": 0}, "iterations=0, expected 1 or more"),
        (Bounds(0.0), LinearConstraint(jnp.ones((1, 4)), jnp.ones(1)), {}, "field of 5 points"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            most_likely(bounds, prior, constraint, **options)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="4 points"):
        most_likely(Bounds(0.0), prior._replace(covariance=jnp.ones(4)))

    hidden = jax.jit(lambda value: most_likely(Bounds(0, 1), prior, mass_constraint(x, value)))
    assert np.isnan(hidden(2.0)).all() and np.trapezoid(hidden(0.3), x) == pytest.approx(0.3)


@pytest.mark.slow  # not under `jit`: dozens of small programs
def test_a_known_mass_that_cannot_hold_is_refused() -> None:
    prior, mass = Gaussian(jnp.zeros(5), jnp.ones(5)), mass_constraint(np.linspace(0, 1, 5), 2.0)
    with pytest.raises(ValueError, match="the row cannot be .2.. within them; widen the bounds"):
        most_likely(Bounds(0.0, 1.0), prior, mass)
