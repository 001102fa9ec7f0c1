"""Counts of units on small matrices, against loops over all pairs."""

import jax
import numpy as np
import pytest

from landscape.units import active_counts, active_units, is_active, is_distinct

DISTINCT = jax.jit(is_distinct)


def test_units_are_on_above_a_twentieth_of_the_largest() -> None:
    x = np.zeros((100, 6), np.float32)
    x[0, 0] = 20.0  # on for one example: 1 % is not more than 1 %
    x[:2, 1] = 1.5
    x[:6, 2] = 3.0
    x[:11, 3] = 2.0
    x[:, 4] = 1.0  # exactly a twentieth is not on
    together = jax.jit(active_counts)(np.stack([x, 7 * x, x[:, ::-1]]))
    np.testing.assert_array_equal(together, [[4, 3, 2, 1]] * 3)


def test_active_units_by_activation() -> None:
    x = np.zeros((20, 4), np.float32)
    x[3, 0], x[4, 1], x[5, 2] = 1e-6, -0.05, -0.049
    np.testing.assert_array_equal(is_active(x), [True, False, False, False])
    for activation in ("abs", "tanh"):
        np.testing.assert_array_equal(is_active(x, activation), [False, True, False, False])
    assert active_units(x) == 1


def by_pairs(x: np.ndarray, threshold: float) -> list[bool]:
    """Returns which columns remain, pair by pair."""
    left = [bool(np.any(column > 0)) for column in x.T]
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            both = i != j and left[i] and left[j] and np.std(x[:, i]) > 0 and np.std(x[:, j]) > 0
            if both and abs(np.corrcoef(x[:, i], x[:, j])[0, 1]) > threshold:
                left[i] = False
    return left


@pytest.mark.parametrize("threshold", [0.5, 0.999])
def test_units_like_another_one_are_deleted(threshold: float) -> None:
    random = np.random.default_rng(0)
    x = np.maximum(random.normal(size=(20, 12)), 0)
    x[:, 3], x[:, 5] = 2 * x[:, 0], 0  # a copy, and a dead one
    x[:, 7], x[:, 9] = x[:, 1].max() - x[:, 1], 0.5  # opposite, and one without correlation
    x[:, 11] = x[:, 2] + 1e-3 * random.normal(size=20)
    found = DISTINCT(np.stack([x, x[:, ::-1]]), threshold=threshold)[0]

    np.testing.assert_array_equal(found, by_pairs(x, threshold))
    if threshold == 0.999:
        assert int(found.sum()) == 12 - 3 - 1
        assert DISTINCT(np.stack([x[:, ::-1], 0 * x]), threshold=threshold).sum() == 8


def test_bad_input_of_units() -> None:
    x = np.ones((20, 3))
    for run in (
        lambda: active_counts(np.nan * x),
        lambda: is_active(np.nan * x),
        lambda: is_distinct(np.nan * x),
    ):
        with pytest.raises(ValueError, match="60 entries that are NaN"):
            run()
    with pytest.raises(ValueError, match="shares has 1.0: expected"):
        active_counts(x, (0.0, 1.0))
    with pytest.raises(ValueError, match="activation='gelu': expected one of relu"):
        is_active(x, "gelu")
