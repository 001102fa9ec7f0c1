"""The polynomial sine against NumPy's in float64, and the fit of its coefficients."""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn.sine import COS_COEFFICIENTS, SIN_COEFFICIENTS, resolve_sine, sine

# Even coverage, and the neighborhood of the zeros and extrema, where the reduction changes branch.
_EVEN = np.linspace(-60, 60, 400_001)
_BRANCHES = (np.arange(-38, 39)[:, None] * (math.pi / 2) + np.linspace(-1e-4, 1e-4, 2_001)).ravel()
ANGLES = np.concatenate([_EVEN, _BRANCHES[np.abs(_BRANCHES) < 60]]).astype(np.float32)


def fit_minimax(basis: np.ndarray, values: np.ndarray, *, rounds: int = 400) -> np.ndarray:
    """Fits values by basis @ coefficients with the smallest maximal error (Lawson)."""
    coefficients, weights = np.zeros(basis.shape[1]), np.full(len(values), 1 / len(values))
    for _ in range(rounds):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(basis * root[:, None], values * root, rcond=None)[0]
        weights *= np.abs(basis @ coefficients - values)
        weights /= weights.sum()
    return coefficients


def test_sine_is_accurate_to_2e_7() -> None:
    error = np.asarray(jax.jit(sine)(ANGLES), np.float64) - np.sin(ANGLES.astype(np.float64))

    assert np.abs(error).max() <= 2e-7


def test_its_derivative_is_the_cosine_to_2e_7() -> None:
    derivative = jax.jit(jax.vmap(jax.grad(sine)))(ANGLES)
    error = np.asarray(derivative, np.float64) - np.cos(ANGLES.astype(np.float64))

    assert np.abs(error).max() <= 2e-7


def test_its_second_derivative_is_minus_sine() -> None:
    angles = jnp.asarray(ANGLES[::101])

    chex.assert_trees_all_equal(jax.vmap(jax.grad(jax.grad(sine)))(angles), -sine(angles))


def test_sine_is_odd_to_the_bit() -> None:
    angles = jnp.asarray(ANGLES)

    chex.assert_trees_all_equal(sine(-angles), -sine(angles))


def test_nan_and_infinity_become_nan() -> None:
    assert np.isnan(sine(jnp.array([jnp.nan, jnp.inf, -jnp.inf]))).all()


def test_float64_keeps_its_precision() -> None:
    with jax.enable_x64(True):
        x = jnp.linspace(-60, 60, 1_001, dtype=jnp.float64)
        error = np.asarray(sine(x)) - np.sin(np.asarray(x))

    assert np.abs(error).max() <= 1e-15


def test_descent_through_scan_vmap_and_grad_ends_where_that_of_jnp_sin_ends() -> None:
    def descend(x: jax.Array, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return x - 0.05 * jax.grad(lambda x: jnp.mean(function(3 * x) ** 2))(x), None

        return jax.lax.scan(step, x, None, length=20)[0]

    starts = jax.random.normal(jax.random.key(0), (7, 5))
    ours = jax.jit(jax.vmap(lambda x: descend(x, sine)))(starts)
    reference = jax.jit(jax.vmap(lambda x: descend(x, jnp.sin)))(starts)

    # 20 steps, each with a slope in error by 2e-7 * 3 * 0.05, of which few amplify.
    chex.assert_trees_all_close(ours, reference, atol=2e-6)
    assert float(jnp.abs(ours - starts).max()) > 0.1  # they did move


def test_the_coefficients_are_those_of_the_stated_fit() -> None:
    nodes = 0.5 - 0.5 * np.cos(math.pi * (np.arange(2_001) + 0.5) / 2_001)
    r = 1.0005 * math.pi / 2 * nodes
    odd, even = [r ** (3 + 2 * i) for i in range(4)], [r ** (2 + 2 * i) for i in range(5)]

    sin_fit = fit_minimax(np.stack(odd, axis=1), np.sin(r) - r)
    cos_fit = fit_minimax(np.stack(even, axis=1), np.cos(r) - 1)

    np.testing.assert_allclose(SIN_COEFFICIENTS, sin_fit, rtol=1e-6)
    np.testing.assert_allclose(COS_COEFFICIENTS, cos_fit, rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "backend", "expected"),
    [
        ("auto", "cpu", "polynomial"),
        ("auto", "tpu", "jnp"),
        ("auto", "gpu", "jnp"),
        ("polynomial", "tpu", "polynomial"),
        ("jnp", "cpu", "jnp"),
    ],
)
def test_auto_means_the_polynomial_on_cpu_only(method: str, backend: str, expected: str) -> None:
    assert resolve_sine(method, backend) == expected


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r'polinomial.*did you mean "polynomial"'):
        resolve_sine("polinomial", "cpu")
