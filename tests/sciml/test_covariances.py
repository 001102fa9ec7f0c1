"""Structured covariances against dense NumPy matrices in float64."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.banded import cholesky_bands, inverse_diagonal, solve_lower, solve_upper
from sciml.covariances import (
    BandedPrecision,
    Covariance,
    Dense,
    Diagonal,
    Downdated,
    LowRank,
    as_covariance,
    draw,
    marginal_variance,
    num_points,
    times,
    to_dense,
)
from tests.sciml.conserved import largest_array, pentadiagonal, random_bands

KINDS = ("diagonal", "low_rank", "dense", "banded", "downdated", "twice")
LINEAR = tuple(kind for kind in KINDS if kind != "dense")


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def case(kind: str, n: int, dtype=np.float64) -> tuple[Covariance, np.ndarray]:
    """Returns a random covariance, and the matrix it means written out with NumPy."""
    generator = np.random.default_rng(n)
    variance = generator.uniform(0.1, 2, n)
    factor = generator.normal(size=(n, 3))
    root = generator.normal(size=(n, n))

    def array(numbers: np.ndarray) -> jax.Array:
        return jnp.asarray(numbers, dtype)

    if kind == "diagonal":
        return Diagonal(array(variance)), np.diag(variance)
    if kind == "low_rank":
        return LowRank(array(variance), array(factor)), np.diag(variance) + factor @ factor.T
    if kind == "dense":
        return Dense(array(root @ root.T)), root @ root.T
    bands = random_bands(generator, n)
    banded, matrix = BandedPrecision(array(bands)), np.linalg.inv(pentadiagonal(bands))
    if kind == "banded":
        return banded, matrix
    small = 0.3 * np.sqrt(np.linalg.eigvalsh(matrix).min() / n) * factor
    once = Downdated(banded, array(small)), matrix - small @ small.T
    if kind == "downdated":
        return once
    again = small[::-1, :1]
    return Downdated(once[0], array(again)), once[1] - again @ again.T


@pytest.mark.parametrize("n", [3, 8, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_matrix_it_stands_for(kind: str, n: int) -> None:
    covariance, matrix = case(kind, n)
    x = np.random.default_rng(1).normal(size=(n, 4))
    close = dict(rtol=1e-10, atol=1e-10 * np.abs(matrix).max())

    np.testing.assert_allclose(times(covariance, jnp.asarray(x)), matrix @ x, **close)
    np.testing.assert_allclose(marginal_variance(covariance), np.diag(matrix), **close)
    full = np.asarray(to_dense(covariance))
    np.testing.assert_allclose(full, matrix, **close)
    np.testing.assert_array_equal(full, full.T)
    assert num_points(covariance) == n


@pytest.mark.parametrize("kind", KINDS)
def test_work_is_done_in_the_type_of_the_numbers(kind: str) -> None:
    covariance, _ = case(kind, 5, np.float32)
    made = [times(covariance, jnp.ones((5, 1), jnp.float32)), marginal_variance(covariance)]
    if kind not in ("downdated", "twice"):
        made.append(draw(jax.random.key(0), covariance, (2,)))
    assert {a.dtype for a in made} == {jnp.dtype("float32")}


@pytest.mark.parametrize("kind", KINDS[:4])
def test_draws_have_the_covariance(kind: str) -> None:
    covariance, matrix = case(kind, 4)
    num = 100_000

    samples = np.asarray(draw(jax.random.key(0), covariance, (num // 4, 4))).reshape(num, 4)

    # Six standard errors of the entries of an empirical covariance, and of an empirical mean.
    spread = np.sqrt((np.outer(np.diag(matrix), np.diag(matrix)) + matrix**2) / num)
    assert np.all(np.abs(samples.T @ samples / num - matrix) < 6 * spread)
    assert np.all(np.abs(samples.mean(axis=0)) < 6 * np.sqrt(np.diag(matrix) / num))
    assert draw(jax.random.key(0), covariance).shape == (4,)


def test_a_downdated_covariance_is_not_drawn_from() -> None:
    with pytest.raises(ValueError, match="draw from its prior"):
        draw(jax.random.key(0), case("downdated", 4)[0])


def test_arrays_stand_for_diagonal_and_dense_covariances() -> None:
    assert isinstance(as_covariance(jnp.ones(3)), Diagonal)
    assert isinstance(as_covariance(jnp.eye(3)), Dense)
    banded = case("banded", 4)[0]
    assert as_covariance(banded) is banded


@pytest.mark.parametrize("n", [3, 4, 11])
def test_banded_factor_and_solves_are_those_of_lapack(n: int) -> None:
    generator = np.random.default_rng(n)
    bands = random_bands(generator, n)
    full, x = pentadiagonal(bands), generator.normal(size=(n, 2))
    outside = bands.copy()
    outside[1, -1:] = outside[2, -2:] = np.nan  # never read

    factor = cholesky_bands(jnp.asarray(outside))

    lower = np.linalg.cholesky(full)
    wanted = np.stack([np.pad(np.diag(lower, -k), (0, k)) for k in range(3)])
    np.testing.assert_allclose(factor, wanted, atol=1e-12)
    np.testing.assert_allclose(
        solve_lower(factor, jnp.asarray(x)), np.linalg.solve(lower, x), rtol=1e-10
    )
    np.testing.assert_allclose(
        solve_upper(factor, jnp.asarray(x)), np.linalg.solve(lower.T, x), rtol=1e-10
    )
    np.testing.assert_allclose(inverse_diagonal(factor), np.diag(np.linalg.inv(full)), rtol=1e-10)
    assert jnp.isnan(cholesky_bands(-jnp.asarray(bands))).any()  # not positive definite


@pytest.mark.parametrize("kind", LINEAR)
def test_linear_kinds_never_make_a_matrix(kind: str) -> None:
    n = 1000
    covariance = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct([n if size == 7 else size for size in a.shape], a.dtype),
        case(kind, 7)[0],
    )

    def everything(covariance: Covariance, x: jax.Array) -> jax.Array:
        out = jnp.sum(times(covariance, x)) + jnp.sum(marginal_variance(covariance))
        drawn = kind not in ("downdated", "twice")
        return out + jnp.sum(draw(jax.random.key(0), covariance)) if drawn else out

    x = jax.ShapeDtypeStruct((n, 2), jnp.float64)
    assert largest_array(everything, covariance, x) <= 3 * n
    assert largest_array(jax.grad(everything), covariance, x) <= 3 * n
    assert largest_array(lambda c: to_dense(c), covariance) >= n * n  # the count does count


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    covariance, _ = case(kind, 6)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(6, 2)))

    @jax.jit
    def loss(covariance: Covariance) -> jax.Array:
        out = jnp.sum(jnp.sin(times(covariance, x)))
        out = out + jnp.sum(jnp.cos(marginal_variance(covariance)))
        if kind in KINDS[:4]:
            out = out + jnp.sum(jnp.sin(draw(jax.random.key(3), covariance)))
        return out

    generator = np.random.default_rng(4)
    step = jax.tree.map(lambda a: jnp.asarray(1e-6 * generator.normal(size=a.shape)), covariance)
    grad = jax.grad(loss)(covariance)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, s: jnp.sum(g * s), grad, step)))
    ahead = loss(jax.tree.map(jnp.add, covariance, step))
    behind = loss(jax.tree.map(jnp.subtract, covariance, step))
    assert float(ahead - behind) / 2 == pytest.approx(float(slope), rel=1e-4, abs=1e-12)
    assert abs(float(slope)) > 1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_covariances_is_one_covariance_at_a_time(kind: str) -> None:
    one, two = case(kind, 7)[0], jax.tree.map(lambda a: 2 * a, case(kind, 7)[0])
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), one, two)

    batched = jax.vmap(marginal_variance)(both)

    np.testing.assert_allclose(batched[0], marginal_variance(one), rtol=1e-12)
    np.testing.assert_allclose(batched[1], marginal_variance(two), rtol=1e-12)
    assert not np.allclose(batched[0], batched[1])
