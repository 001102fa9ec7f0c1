"""Damped inverses in float32: right for every rank, size and condition, or as near as can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import linear_solve
from sciml.linear_solve import damped_inverse, inverse, inverse_spd

M, DAMPING = 4, 1e-4


def wanted(matrix: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """Returns (A^T A + ε)^{-1} A^T in float64 by singular values."""
    left, values, right = np.linalg.svd(np.asarray(matrix, np.float64))
    ridge = damping**2 * np.mean(values**2)
    values = np.where(values > 1e-12 * values.max(), values, 0)  # of an exact rank
    return right.T @ np.diag(values / (values**2 + ridge)) @ left.T


def of_condition(number: float) -> np.ndarray:
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.normal(size=(M, M)))[0] for _ in range(2))
    return left @ np.diag(np.geomspace(1, 1 / number, M)) @ right


def nearly_equal_columns() -> np.ndarray:
    matrix = of_condition(3.0)
    matrix[:, 1] = matrix[:, 0] + 1e-3 * matrix[:, 1]
    return matrix


def of_rank(rank: int) -> np.ndarray:
    """Returns whole numbers, of which float32 keeps the rank."""
    generator = np.random.default_rng(rank)
    return generator.integers(-3, 4, (M, rank)) @ generator.integers(-3, 4, (rank, M))


MATRICES = {
    "ones": np.ones((M, M)),
    "rank 1": of_rank(1),
    "rank 2": of_rank(2),
    "rank 3": of_rank(3),
    "one entry": np.eye(M)[1][:, None] * np.eye(M)[2][None, :],
    "shift": np.roll(np.eye(M), 1, axis=0),
    "rows of all sizes": np.diag([1e-3, 1.0, 1e-2, 1e-1]) @ of_condition(3.0),
    "columns of all sizes": of_condition(3.0) @ np.diag([1e-3, 1.0, 1e-2, 1e-1]),
    "two nearly equal columns": nearly_equal_columns(),
    "condition 10": of_condition(1e1),
    "condition 1e3": of_condition(1e3),
    "condition 1e5": of_condition(1e5),
}


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, float], np.ndarray]:
    """Returns the inverses of all matrices in four sizes, in one program."""
    sizes = (1.0, 1e-9, 1e-30, 1e20)
    keys = [(name, size) for name in MATRICES for size in sizes]
    stacked = jnp.asarray(np.stack([size * MATRICES[name] for name, size in keys]), jnp.float32)
    inverses = jax.jit(lambda a: damped_inverse(a, damping=DAMPING))(stacked)
    return dict(zip(keys, np.asarray(inverses, np.float64), strict=True))


@pytest.mark.parametrize("name", MATRICES)
def test_a_damped_inverse_is_right_to_what_float32_can_know(name: str, found) -> None:
    matrix = np.asarray(MATRICES[name], np.float32)
    right = wanted(matrix)
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    least = values[values > 1e-6 * values[0]].min()
    # By as much the inverse moves if A does by a rounding error; some of them.
    largest, ridge = np.linalg.norm(right, 2), DAMPING**2 * np.mean(values**2)
    allowed = 8 * 1.2e-7 * values[0] * (largest**2 + 1 / (least**2 + ridge))
    assert allowed < 0.2 * largest
    for (other, size), inverted in found.items():
        if other == name:
            np.testing.assert_allclose(inverted * size, right, rtol=0, atol=allowed)


def test_every_matrix_is_inverted_on_what_it_reaches() -> None:
    generator = np.random.default_rng(1)
    factors = generator.normal(size=(2, 48, M, M)) * 10.0 ** -generator.integers(
        0, 5, (2, 48, 1, M)
    )
    factors *= generator.integers(0, 2, (2, 48, 1, M))  # of every rank, rounded to float32
    a = jnp.asarray(factors[0] @ factors[1].swapaxes(1, 2), jnp.float32)

    x, slope = jax.jit(
        lambda a, b: jax.jvp(lambda a: damped_inverse(a, damping=DAMPING), (a,), (b,))
    )(a, jnp.ones_like(a))

    assert np.isfinite(x).all() and np.isfinite(slope).all()
    a, x = (np.asarray(m, np.float64) for m in (a, x))
    size = np.sqrt((a**2).sum((1, 2), keepdims=True))
    # A X A = A but for the directions that damping holds back, at most half of DAMPING of the size.
    assert np.all(np.abs(a @ x @ a - a) <= DAMPING * size)
    assert np.all(np.abs(x) <= 0.51 * M**0.5 / DAMPING / np.where(size > 0, size, 1))


def test_a_matrix_of_zeros_has_no_inverse_and_no_slope() -> None:
    def total(a: jax.Array) -> jax.Array:
        return jnp.sum(damped_inverse(a, damping=DAMPING) + damped_inverse(a, damping=0.1))

    run = jax.jit(jax.value_and_grad(total))
    for matrix in (np.zeros((3, 3)), np.full((3, 3), 1e-38)):  # 1e38 / 1e-4 is no float32
        value, slope = run(jnp.asarray(matrix, jnp.float32))
        assert value == 0 and not np.any(slope)


@pytest.mark.slow  # slopes of refined layers are default tests
def test_both_ways_to_a_damped_inverse_agree_with_slopes_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damping = 0.01
    matrices = np.stack([of_condition(1e2), of_condition(5.0) + np.eye(M)])

    def run(a: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(a: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(damped_inverse(a, damping=damping)))

        return damped_inverse(a, damping=damping), jax.grad(loss)(a)

    with jax.enable_x64(True):
        by_gram = jax.jit(run)(jnp.asarray(matrices))
        monkeypatch.setattr(linear_solve, "GRAM_ERRORS", np.inf)
        by_basis = jax.jit(lambda a: run(a))(jnp.asarray(matrices))

    for one, other in zip(by_gram, by_basis, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8 * np.abs(one).max())
    np.testing.assert_allclose(
        by_gram[0], [wanted(a, damping) for a in matrices], rtol=0, atol=1e-9 / damping
    )


def test_noise_of_a_difference_is_not_inverted() -> None:
    invert = jax.jit(lambda a, n: damped_inverse(a, damping=DAMPING, noise=n))
    matrix = jnp.diag(jnp.asarray([1.0, 1e-3, 1e-6]))

    inverted = invert(matrix, 1e-5)

    np.testing.assert_allclose(inverted, np.diag([1, 1e3, 0]), rtol=1e-2, atol=1e-2)
    np.testing.assert_array_equal(invert(matrix, 2.0), 0)


def test_inverses_without_damping_agree_with_numpy() -> None:
    root = np.random.default_rng(0).normal(size=(M, M))
    matrix = root @ root.T + 0.2 * np.eye(M)
    right = np.linalg.inv(matrix)
    run = jax.jit(lambda a: (inverse_spd(a), inverse(a)))
    for inverted in run(jnp.asarray(matrix, jnp.float32)):
        # A condition number below 100, float32.
        np.testing.assert_allclose(inverted, right, rtol=0, atol=1e-4 * np.abs(right).max())
