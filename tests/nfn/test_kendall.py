"""Kendall's tau-b is SciPy's (oracle J), R^2 that of its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau

from nfn.kendall import LARGEST, kendall_tau, r_squared


def test_tau_is_that_of_scipy_on_random_vectors_with_ties() -> None:
    random = np.random.default_rng(0)
    tau = jax.jit(jax.vmap(lambda x, y: kendall_tau(x, y, chunk=16)))
    x = random.integers(8, size=(1_000, 37)).astype(np.float32)
    noise = random.integers(-4, 5, size=x.shape)
    y = np.where(random.random((1_000, 1)) < 0.5, x + noise, noise).astype(np.float32)

    ours = tau(jnp.asarray(x), jnp.asarray(y))
    scipy = [kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]

    np.testing.assert_allclose(ours, scipy, rtol=0, atol=1e-6)  # float32 of the last division


def test_tau_with_a_value_that_is_not_a_number_is_none() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 37)).astype(np.float32)
    holed = np.where(np.arange(37) == 5, np.nan, y)
    for pair in ((x, holed), (holed, x)):
        assert np.isnan(kendalltau(*pair).statistic)
        assert np.isnan(kendall_tau(*map(jnp.asarray, pair), chunk=16))
    assert np.isfinite(kendall_tau(jnp.asarray(x), jnp.asarray(y), chunk=16))


def test_a_column_of_values_is_refused() -> None:
    """[n, 1] against [n] would be n^2 differences."""
    for agreement in (kendall_tau, r_squared):
        with pytest.raises(ValueError, match=r"shapes \(5, 1\) and \(5,\); expected the same"):
            agreement(jnp.zeros((5, 1)), jnp.zeros(5))


@pytest.mark.parametrize("n", [1, 2, 100, 511])
def test_the_slices_do_not_matter(n: int) -> None:
    x, y = np.random.default_rng(n).normal(size=(2, n)).astype(np.float32)
    sizes = [kendall_tau(jnp.asarray(x), jnp.asarray(y), chunk=chunk) for chunk in (1, 7, 1_000)]

    assert len({float(tau) for tau in sizes}) == 1


def test_limits() -> None:
    x = jnp.arange(50.0)

    assert kendall_tau(x, jnp.exp(x)) == 1  # ranks only
    assert kendall_tau(x, -x) == -1
    assert kendall_tau(x, jnp.zeros(50)) == 0
    assert r_squared(x, x) == 1
    assert r_squared(jnp.full(50, x.mean()), x) == 0
    with pytest.raises(ValueError, match=f"at most {LARGEST} values"):
        jax.eval_shape(kendall_tau, *[jax.ShapeDtypeStruct((LARGEST + 1,), jnp.float32)] * 2)
