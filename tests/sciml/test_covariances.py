"""Structured covariances against dense NumPy matrices in float64."""

from functools import partial
from typing import Any

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
    observed,
    times,
    to_dense,
)
from tests.sciml.conserved import close, largest_array, pentadiagonal, random_bands

KINDS = ("diagonal", "low_rank", "dense", "banded", "downdated", "twice")
# Of kinds within kinds the outermost, and those that have formulas of their own.
COMPOSED = ("low_rank", "dense", "banded", "twice")
LINEAR = ("low_rank", "banded", "twice")


pytestmark = pytest.mark.usefixtures("float64")


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


@jax.jit
def seen(covariance: Covariance, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns all that can be seen of a covariance: one program for each kind and size."""
    return times(covariance, x), marginal_variance(covariance), to_dense(covariance)


@pytest.mark.parametrize(
    ("kind", "n"), [*((kind, 8) for kind in KINDS), ("banded", 3), ("twice", 3)]
)
def test_every_kind_is_the_matrix_it_stands_for(kind: str, n: int) -> None:
    covariance, matrix = case(kind, n)
    x = np.random.default_rng(1).normal(size=(n, 4))
    close = dict(rtol=1e-10, atol=1e-10 * np.abs(matrix).max())

    product, diagonal, full = (np.asarray(a) for a in seen(covariance, jnp.asarray(x)))
    np.testing.assert_allclose(product, matrix @ x, **close)
    np.testing.assert_allclose(diagonal, np.diag(matrix), **close)
    np.testing.assert_allclose(full, matrix, **close)
    np.testing.assert_array_equal(full, full.T)
    assert num_points(covariance) == n


def test_an_observation_of_every_point_adds_to_the_precision() -> None:
    cases = [case(kind, 8) for kind in KINDS[:4]]
    precision = np.random.default_rng(2).uniform(0, 3, 8)
    precision[0] = 0.0  # not observed

    @jax.jit
    def after(covariances: list[Covariance], precision: jax.Array) -> list[jax.Array]:
        left = [observed(covariance, precision) for covariance in covariances]
        assert [type(a) for a in left] == [type(b) for b in covariances]
        return [to_dense(covariance) for covariance in left]

    for found, (_, matrix) in zip(
        after([c for c, _ in cases], jnp.asarray(precision)), cases, strict=True
    ):
        close(found, np.linalg.inv(np.linalg.inv(matrix) + np.diag(precision)), 1e-9)
    with pytest.raises(ValueError, match="a Downdated covariance has been conditioned already"):
        observed(case("downdated", 8)[0], precision)


@pytest.mark.parametrize("kind", KINDS)
def test_work_is_done_in_the_type_of_the_numbers(kind: str) -> None:
    covariance, _ = case(kind, 5, np.float32)
    made = list(jax.eval_shape(seen, covariance, jnp.ones((5, 1), jnp.float32)))
    if kind not in ("downdated", "twice"):
        made.append(jax.eval_shape(lambda c: draw(jax.random.key(0), c, (2,)), covariance))
    assert {a.dtype for a in made} == {jnp.dtype("float32")}


@pytest.mark.parametrize("kind", KINDS[:4])
def test_draws_have_the_covariance(kind: str) -> None:
    covariance, matrix = case(kind, 4)
    num = 100_000

    drawn = jax.jit(draw, static_argnums=2)(jax.random.key(0), covariance, (num // 4, 4))
    samples = np.asarray(drawn).reshape(num, 4)

    # Six standard errors of the entries of an empirical covariance, and of an empirical mean.
    spread = np.sqrt((np.outer(np.diag(matrix), np.diag(matrix)) + matrix**2) / num)
    assert np.all(np.abs(samples.T @ samples / num - matrix) < 6 * spread)
    assert np.all(np.abs(samples.mean(axis=0)) < 6 * np.sqrt(np.diag(matrix) / num))
    one = jax.eval_shape(lambda c: draw(jax.random.key(0), c), covariance)
    assert one.shape == (4,)


def test_a_singular_covariance_is_drawn_from() -> None:
    x = jnp.linspace(0, 1, 30, dtype=jnp.float32)
    sizes = jnp.where(jnp.arange(30) == 3, 0, 10.0 ** (jnp.arange(30) % 3 - 1)).astype(x.dtype)
    kernel = jnp.exp(-((x[:, None] - x[None, :]) ** 2) / 2)  # of rank 6 to float32

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def drawn(sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
        smooth = sizes[:, None] * kernel * sizes[None, :]
        samples = draw(jax.random.key(0), Dense(smooth), (4000,))
        return jnp.sum(samples[0] ** 2), samples

    slope, samples = drawn(sizes)
    unit = np.asarray(samples) / np.where(sizes > 0, sizes, 1)[None, :]
    wanted = np.where(np.outer(sizes, sizes) > 0, kernel, 0)
    # Six standard errors of a variance of 1.
    np.testing.assert_allclose(unit.T @ unit / 4000, wanted, atol=6 * (2 / 4000) ** 0.5)
    assert not np.any(unit[:, 3]) and np.isfinite(slope).all()


@pytest.mark.parametrize(
    "bad",
    [
        [1.0, -1e-3, 1.0],
        Dense([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),  # pyrefly: ignore
    ],
)
def test_numbers_that_are_no_covariance_are_not_drawn_from(bad: Any) -> None:
    with pytest.raises(ValueError, match="covariance is not positive semidefinite") as no:
        draw(jax.random.key(0), bad, (3,))
    assert "\n" not in str(no.value)


def test_a_downdated_covariance_is_not_drawn_from() -> None:
    with pytest.raises(ValueError, match="draw from its prior"):
        draw(jax.random.key(0), case("downdated", 4)[0])


def test_arrays_stand_for_diagonal_and_dense_covariances() -> None:
    assert isinstance(as_covariance(jnp.ones(3)), Diagonal)
    assert isinstance(as_covariance(jnp.eye(3)), Dense)
    banded = case("banded", 4)[0]
    for leaf, same in zip(as_covariance(banded), banded, strict=True):
        assert leaf is same
    numbers = as_covariance([1, 2])
    assert isinstance(numbers, Diagonal) and numbers.variance.dtype == jnp.float64
    assert marginal_variance(Diagonal(jnp.asarray([1, 2]))).dtype == jnp.float64


@pytest.mark.parametrize("n", [3, 4, 11])
def test_banded_factor_and_solves_are_those_of_lapack(n: int) -> None:
    generator = np.random.default_rng(n)
    bands = random_bands(generator, n)
    full, x = pentadiagonal(bands), generator.normal(size=(n, 2))
    outside = bands.copy()
    outside[1, -1:] = outside[2, -2:] = np.nan  # never read

    @jax.jit
    def everything(bands: jax.Array, x: jax.Array) -> tuple[jax.Array, ...]:
        factor = cholesky_bands(bands)
        solved = solve_lower(factor, x), solve_upper(factor, x)
        return factor, *solved, inverse_diagonal(factor), cholesky_bands(-bands)

    factor, below, above, diagonal, bad = everything(jnp.asarray(outside), jnp.asarray(x))

    lower = np.linalg.cholesky(full)
    wanted = np.stack([np.pad(np.diag(lower, -k), (0, k)) for k in range(3)])
    close(factor, wanted, 1e-12)
    np.testing.assert_allclose(below, np.linalg.solve(lower, x), rtol=1e-10)
    np.testing.assert_allclose(above, np.linalg.solve(lower.T, x), rtol=1e-10)
    np.testing.assert_allclose(diagonal, np.diag(np.linalg.inv(full)), rtol=1e-10)
    assert jnp.isnan(bad).any()  # not positive definite


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


@pytest.mark.parametrize(
    "kind", [pytest.param(x, marks=[pytest.mark.slow] * (x != "banded")) for x in COMPOSED]
)
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    covariance, _ = case(kind, 6)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(6, 2)))

    @jax.jit
    @jax.value_and_grad
    def loss(covariance: Covariance) -> jax.Array:
        out = jnp.sum(jnp.sin(times(covariance, x)))
        out = out + jnp.sum(jnp.cos(marginal_variance(covariance)))
        if kind in KINDS[:4]:
            out = out + jnp.sum(jnp.sin(draw(jax.random.key(3), covariance)))
        return out

    generator = np.random.default_rng(4)
    step = jax.tree.map(lambda a: jnp.asarray(1e-6 * generator.normal(size=a.shape)), covariance)
    grad = loss(covariance)[1]
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, s: jnp.sum(g * s), grad, step)))
    ahead, _ = loss(jax.tree.map(jnp.add, covariance, step))
    behind, _ = loss(jax.tree.map(jnp.subtract, covariance, step))
    assert float(ahead - behind) / 2 == pytest.approx(float(slope), rel=1e-4, abs=1e-12)
    assert abs(float(slope)) > 1e-8


@pytest.mark.parametrize("kind", COMPOSED)
def test_a_batch_of_covariances_is_one_covariance_at_a_time(kind: str) -> None:
    one = jax.tree.map(np.asarray, case(kind, 8)[0])
    both = jax.tree.map(lambda a: np.stack([a, 2 * a]), one)

    batched = jax.jit(jax.vmap(marginal_variance))(both)

    for i in range(2):
        alone = seen(jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), both), jnp.ones((8, 4)))[1]
        np.testing.assert_allclose(batched[i], alone, rtol=1e-12)
    assert not np.allclose(batched[0], batched[1])
