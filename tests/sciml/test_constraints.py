"""Linear constraints: projections and conditioned Gaussians against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.conservation import cell_constraint, mass_constraint
from sciml.constraints import (
    Gaussian,
    LinearConstraint,
    condition,
    condition_number,
    project,
    violation_loss,
)
from sciml.covariances import marginal_variance
from tests.sciml.conserved import conditioned

N, M, BATCH = 12, 3, 4


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    root = generator.normal(size=(N, N))
    return {
        "rows": generator.normal(size=(M, N)),
        "values": generator.normal(size=(BATCH, M)),
        "u": generator.normal(size=(BATCH, N)),
        "covariance": root @ root.T / N + 0.2 * np.eye(N),
    }


def constraint(numbers, **fields) -> LinearConstraint:
    arrays = {name: jnp.asarray(numbers[name], jnp.float32) for name in ("rows", "values")}
    return LinearConstraint(**arrays, **fields)


def test_the_projection_is_the_nearest_field_that_satisfies_the_constraint(numbers) -> None:
    given = constraint(numbers)

    @jax.jit
    def projected(u):
        out, damped = project(given, u), project(given, u, damping=1e-3)
        return out, damped, violation_loss(given, out), violation_loss(given, u)

    out, damped, left, missed = projected(jnp.asarray(numbers["u"], jnp.float32))

    rows, missing = numbers["rows"], numbers["values"] - numbers["u"] @ numbers["rows"].T
    wanted = numbers["u"] + missing @ np.linalg.pinv(rows).T  # least norm solution
    np.testing.assert_allclose(out, wanted, atol=2e-5)
    np.testing.assert_allclose(damped, wanted, atol=1e-3)  # (damping · condition number)²
    np.testing.assert_allclose(out @ given.rows.T, given.values, atol=2e-5)
    np.testing.assert_allclose(projected(out)[0], out, atol=2e-5)
    np.testing.assert_allclose(left, 0, atol=1e-8)
    np.testing.assert_allclose(missed, (missing**2).sum(1), rtol=1e-4)
    assert missing.shape == (BATCH, M) and np.min(missed) > 0.1


def test_any_directions_reach_the_constraint_and_nothing_else_moves(numbers) -> None:
    given = constraint(numbers)
    directions = jnp.zeros((N, M)).at[jnp.arange(M), jnp.arange(M)].set(1.0)

    out = jax.jit(lambda u: project(given, u, directions=directions))(
        jnp.asarray(numbers["u"], jnp.float32)
    )

    np.testing.assert_allclose(out @ given.rows.T, given.values, atol=1e-4)
    np.testing.assert_array_equal(out[:, M:], jnp.asarray(numbers["u"], jnp.float32)[:, M:])


@pytest.mark.parametrize("is_diagonal", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_conditioning_is_the_posterior_of_a_gaussian(numbers, is_diagonal, noise: float) -> None:
    prior = np.diag(np.diag(numbers["covariance"])) if is_diagonal else numbers["covariance"]
    given = constraint(numbers, covariance=noise * jnp.eye(M) if noise else None)
    passed = jnp.asarray(np.diag(prior) if is_diagonal else prior, jnp.float32)

    found, full = conditioned(given, Gaussian(jnp.asarray(numbers["u"], jnp.float32), passed))

    # Independent form: precision matrices; the noise-free case as a limit.
    rows, sigma = numbers["rows"], max(noise, 1e-9)
    precision = np.linalg.inv(prior) + rows.T @ rows / sigma
    covariance = np.linalg.inv(precision)
    mean = (numbers["u"] @ np.linalg.inv(prior) + numbers["values"] @ rows / sigma) @ covariance
    np.testing.assert_allclose(found, mean, atol=1e-4)
    full = np.asarray(full, np.float64)
    np.testing.assert_allclose(full, covariance, atol=1e-4)
    np.testing.assert_array_equal(full, full.T)
    assert np.linalg.eigvalsh(full).min() > -1e-5


def test_gradients_agree_with_finite_differences(numbers) -> None:
    given = constraint(numbers)
    u = jnp.asarray(numbers["u"], jnp.float32)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def loss(rows, values):
        return jnp.sum(jnp.sin(project(LinearConstraint(rows, values), u)))

    _, grads = loss(given.rows, given.values)
    assert min(float(jnp.abs(grad).max()) for grad in grads) > 0.1
    for position, grad in enumerate(grads):
        noise = np.random.default_rng(position).normal(size=np.shape(grad))
        step = np.asarray(1e-2 * noise, np.float32)
        arguments = [given.rows, given.values]
        sides = []
        for sign in (1, -1):
            moved = list(arguments)
            moved[position] = moved[position] + sign * step
            sides.append(loss(*moved)[0])
        # float32 values of size 10 differenced over 2e-2
        assert float(sides[0] - sides[1]) / 2 == pytest.approx(
            float(jnp.sum(grad * step)), abs=2e-3
        )


def dependent(values: tuple[float, float, float]) -> LinearConstraint:
    """Returns masses of two cells and of the whole, float32: the third follows from the others."""
    x = jnp.linspace(0.0, 1.0, 100)
    cells, whole = cell_constraint(x, [0, 50, 99], jnp.asarray(values[:2])), mass_constraint(x, 1)
    return LinearConstraint(
        jnp.concatenate([cells.rows, whole.rows]), jnp.asarray(values, jnp.float32)
    )


def test_constraints_that_depend_on_one_another_hold_or_are_nan() -> None:
    u = np.sin(np.arange(100.0)).astype(np.float32)
    variance = np.exp(-u)

    @jax.jit
    def moved(both: LinearConstraint):
        after = condition(both, Gaussian(jnp.asarray(u), jnp.asarray(variance)))
        return project(both, jnp.asarray(u)), after.mean, marginal_variance(after.covariance)

    both = dependent((0.4, 0.6, 1.0))
    one, mean, left = moved(both)

    rows = np.asarray(both.rows[:2], np.float64)  # which say all
    missing = [0.4, 0.6] - rows @ u
    for found, spread in ((one, rows.T), (mean, variance[:, None] * rows.T)):
        gain = spread @ np.linalg.inv(rows @ spread)
        np.testing.assert_allclose(found, u + gain @ missing, atol=3e-6)  # float32, of size 1
        np.testing.assert_allclose(both.rows @ found, [0.4, 0.6, 1.0], atol=1e-6)
    np.testing.assert_allclose(left, variance - np.sum(gain * spread, axis=1), rtol=1e-4)
    contradicting = moved(dependent((0.4, 0.6, 1.1)))
    assert np.isnan(contradicting[0]).all() and np.isnan(contradicting[1]).all()


def test_constraints_that_cannot_all_hold_are_refused_where_numbers_are_known() -> None:
    u = jnp.zeros(100)
    for refused, message in (
        (lambda: project(LinearConstraint(u[None], u[:1] + 1), u), "project: .* contradict each"),
        (lambda: condition(dependent((0.4, 0.6, 1.0)), Gaussian(u, 1 + u)), "singular: exact"),
    ):
        with pytest.raises(ValueError, match=message) as no:
            refused()
        assert "\n" not in str(no.value)


def test_directions_that_miss_a_constraint_are_refused(numbers) -> None:
    directions = jnp.zeros((N, M)).at[jnp.arange(M), 0].set(1.0)
    with pytest.raises(ValueError, match="G D is singular.*directions"):
        project(constraint(numbers), jnp.zeros(N), directions=directions)


def test_noise_of_any_size_is_no_constraint_where_it_hides_everything(numbers) -> None:
    mean, variance = jnp.asarray(numbers["u"][0], jnp.float32), jnp.arange(1.0, N + 1)

    @jax.jit
    def update(sigma):
        given = mass_constraint(jnp.arange(N), 4.0, sigma=sigma)
        after = condition(given, Gaussian(mean, variance))
        return after.mean, marginal_variance(after.covariance)

    for sigma in (1e15, 2e19, 1e38, np.inf):
        found, spread = update(jnp.float32(sigma))
        np.testing.assert_allclose(found, mean, rtol=1e-6)
        np.testing.assert_allclose(spread, variance, rtol=1e-6)
    assert jnp.abs(update(jnp.float32(1.0))[0] - mean).max() > 0.01


def test_a_matrix_of_zeros_has_no_condition() -> None:
    assert condition_number(jnp.zeros((3, 3))) == np.inf
