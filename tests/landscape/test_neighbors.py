"""Nearest neighbours against sorting all distances, and the probe against ridge regression."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from landscape.neighbors import PENALTIES, linear_probe, neighbor_error, neighbor_labels

CLASSES = 4
Rows = tuple[np.ndarray, np.ndarray]


def rows(count: int, seed: int, d: int = 6) -> Rows:
    """Returns overlapping clusters, one of their rows being 0."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    x = (np.eye(d)[labels] + 0.7 * random.normal(size=(count, d))) / (1 + np.arange(d))[None] ** 2
    x[3] = 0
    return x.astype(np.float32), labels


def by_sorting(train: Rows, x: np.ndarray, k: int) -> list[int]:
    """Returns labels row by row, in float64."""
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    cosines = unit(x.astype(float)) @ unit(train[0].astype(float)).T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return [int(np.bincount(train[1][i], minlength=CLASSES).argmax()) for i in nearest]


def test_neighbors_are_those_of_sorted_distances() -> None:
    train, test = rows(60, 0), rows(23, 1)
    arguments = dict(num_classes=CLASSES, k=10, block=10)  # 23 rows: the last block is ragged
    both = lambda *a: (neighbor_labels(*a[:3], **arguments), neighbor_error(*a, **arguments))
    program = jax.jit(both)

    found, error = program(*train, *test)

    wanted = by_sorting(train, test[0], 10)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(error, 100 * np.mean(wanted != test[1]), rtol=1e-6)
    assert 0 < error < 75  # neither perfect nor chance
    scales = 10 ** np.random.default_rng(2).normal(size=(23, 1))
    scaled = (scales * test[0]).astype(np.float32)
    np.testing.assert_array_equal(program(*train, scaled, test[1])[0], wanted)


def test_the_smallest_label_wins_a_tie() -> None:
    train = np.array([[1.0, 0], [1, 0.1], [1, 0.2], [1, 0.3], [0, 1]])
    program = jax.jit(partial(neighbor_labels, num_classes=CLASSES, k=4))
    for labels, winner in (([2, 1, 1, 2, 0], 1), ([3, 1, 3, 1, 0], 1), ([3, 2, 3, 3, 0], 3)):
        assert program(train, np.array(labels), train[:1]).tolist() == [winner]


def ridge_errors(train: Rows, test: Rows, penalties: Any) -> list[float]:
    """Returns errors in percent by normal equations with a free intercept, in float64."""
    x, y = train[0].astype(float), np.eye(CLASSES)[train[1]]
    energy = np.sum((x - x.mean(axis=0)) ** 2)
    x, other = (np.c_[a.astype(float), np.ones(len(a))] for a in (x, test[0]))
    errors = []
    for penalty in penalties:
        ridge = penalty * energy * np.diag(np.r_[np.ones(x.shape[1] - 1), 0])
        guess = other @ np.linalg.solve(x.T @ x + ridge, x.T @ y)
        errors.append(100 * float(np.mean(guess.argmax(axis=1) != test[1])))
    return errors


@pytest.mark.parametrize("d", [6, 90])  # fewer and more features than rows
def test_the_probe_is_ridge_regression_with_a_penalty_of_its_own_choice(d: int) -> None:
    train, test = rows(60, 0, d), rows(23, 1, d)
    is_held_out = np.arange(60) % 5 == 4
    parts = [tuple(a[chosen] for a in train) for chosen in (~is_held_out, is_held_out)]
    fitted, held_out = ((part[0], part[1]) for part in parts)

    found = jax.jit(partial(linear_probe, num_classes=CLASSES))(*train, *test)

    errors = ridge_errors(fitted, held_out, PENALTIES)
    np.testing.assert_allclose(found.held_out_errors, errors, rtol=1e-5)
    best = max(p for p, error in zip(PENALTIES, errors, strict=True) if error == min(errors))
    np.testing.assert_allclose(found.penalty, best, rtol=1e-6)
    np.testing.assert_allclose(found.error, ridge_errors(train, test, [best])[0], rtol=1e-5)
    assert len(set(errors)) > 1 and 0 < found.error < 75


def test_bad_input_of_neighbors_and_probe() -> None:
    x, labels = rows(20, 0)
    both: list[Any] = [neighbor_error, linear_probe]
    for run in (partial(one, num_classes=CLASSES) for one in both):
        with pytest.raises(ValueError, match="120 entries that are NaN"):
            run(np.nan * x, labels, x, labels)
        with pytest.raises(ValueError, match="test features of shape .* 120 entries that are NaN"):
            run(x, labels, np.nan * x, labels)
        with pytest.raises(ValueError, match="expected two axes each, with as many features"):
            run(x, labels, x[:, 1:], labels)
        with pytest.raises(ValueError, match="expected one a row"):
            run(x, labels[1:], x, labels)
        with pytest.raises(ValueError, match="expected 0 to num_classes - 1 = 3"):
            run(x, labels + 1, x, labels)
    with pytest.raises(ValueError, match="features of 1 examples x 6"):
        neighbor_labels(x[:1], labels[:1], x, num_classes=CLASSES, k=1)
    with pytest.raises(ValueError, match="k=21 neighbours of 20 rows: expected 1"):
        neighbor_labels(x, labels, x, num_classes=CLASSES, k=21)
    with pytest.raises(ValueError, match="penalties=.* above 0"):
        linear_probe(x, labels, x, labels, num_classes=CLASSES, penalties=(0.0,))
    with pytest.raises(ValueError, match="4 training rows: a probe takes at least 5"):
        linear_probe(x[:4], labels[:4], x, labels, num_classes=CLASSES)
