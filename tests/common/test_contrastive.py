"""The contrastive loss and retrieval: by brute force, at their limits, and under bad input."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.contrastive import contrastive_loss, retrieved

N, D = 6, 4


def vectors(seed: int) -> np.ndarray:
    """Returns rows of length 1."""
    x = np.random.default_rng(seed).normal(size=(N, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


FIRST, SECOND = vectors(0), vectors(1)
LOSS = jax.jit(lambda a, b, temperature: contrastive_loss(a, b, temperature=temperature))


def brute_force(first: Any, second: Any, temperature: float) -> float:
    """Returns the mean over 2 n classifications of one out of n, in float64."""
    total = 0.0
    for a, b in ((first, second), (second, first)):
        for i in range(N):
            odds = np.exp([np.dot(np.float64(a[i]), np.float64(row)) / temperature for row in b])
            total -= np.log(odds[i] / odds.sum())
    return total / (2 * N)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_the_loss_is_that_of_two_classifications_whichever_comes_first(temperature: float) -> None:
    found, swapped = LOSS(FIRST, SECOND, temperature), LOSS(SECOND, FIRST, temperature)

    # Scores of up to 1 / temperature in single precision.
    np.testing.assert_allclose(found, brute_force(FIRST, SECOND, temperature), rtol=1e-5)
    np.testing.assert_allclose(swapped, found, rtol=1e-6)


def test_the_loss_is_log_n_where_nothing_is_told_apart_and_0_where_all_is() -> None:
    alike = np.tile(FIRST[:1], (N, 1))

    np.testing.assert_allclose(LOSS(alike, alike, 0.05), np.log(N), rtol=1e-5)
    np.testing.assert_allclose(LOSS(FIRST, SECOND, 1e6), np.log(N), rtol=1e-5)
    assert LOSS(FIRST, FIRST, 1e-3) < 1e-6


def test_a_hopeless_pair_still_has_a_gradient() -> None:
    temperature = 1e-3  # probabilities of the pairs are below 1e-20, and 0 in single precision
    away = np.roll(FIRST, 1, axis=0)
    value, slope = jax.jit(jax.value_and_grad(partial(contrastive_loss, temperature=temperature)))(
        FIRST, away
    )

    # Without ties both softmaxes are one-hot: at the row's own vector, which lies in `away` one on.
    np.testing.assert_allclose(value, np.mean(1 - np.sum(FIRST * away, 1)) / temperature, rtol=1e-4)
    expected = (FIRST - away) / (N * temperature)
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_half_precision_is_compared_in_single() -> None:
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in (FIRST, SECOND)]
    widened = [x.astype(jnp.float32) for x in narrow]

    loss = LOSS(*narrow, 0.05)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, LOSS(*widened, 0.05), rtol=1e-6)


@pytest.mark.parametrize("group", [2, 3, N])
def test_retrieval_is_a_search_within_groups(group: int) -> None:
    noisy = FIRST + np.float32(0.5) * SECOND
    found = jax.jit(partial(retrieved, group=group))(FIRST, noisy)

    for (a, b), hits in zip(((FIRST, noisy), (noisy, FIRST)), found, strict=True):
        for i in range(N):
            start = i - i % group
            scores = [np.dot(a[i], b[j]) for j in range(start, start + group)]
            assert hits[i] == (int(np.argmax(scores)) == i - start)
    assert group != N or 0 < np.mean(found) < 1


def test_outputs_that_are_all_alike_are_right_once_a_group() -> None:
    alike = jnp.ones((N, D))
    for hits in retrieved(alike, alike, group=3):
        np.testing.assert_array_equal(hits, np.tile([True, False, False], 2))


def test_bad_sizes_are_named() -> None:
    first, second = jnp.asarray(FIRST), jnp.asarray(SECOND)
    with pytest.raises(ValueError, match="group=4; expected a divisor of the 6 rows"):
        retrieved(first, second, group=4)
    with pytest.raises(ValueError, match=r"shapes \(6, 4\) and \(5, 4\); expected one shape"):
        contrastive_loss(first, second[:5])
