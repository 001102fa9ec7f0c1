"""Simulated raters and their habits, and the errors that are found from answers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf import raters
from rlhf.raters import Habits

answer = jax.jit(raters.answer)
FIRST = np.array([3.0, 1.0, 2.0, -1.0], np.float32)
SECOND = np.array([1.0, 1.0, 2.05, -0.5], np.float32)
NUMBER = 20_000


def answers(key: int = 0, **habits: float) -> tuple[np.ndarray, np.ndarray]:
    found = answer(jax.random.key(key), jnp.asarray(FIRST), jnp.asarray(SECOND), Habits(**habits))
    return np.asarray(found.preferred), np.asarray(found.is_given)


def many(first: float, second: float, **habits: float) -> float:
    """Returns how often the first clip wins in many showings of one pair."""
    pair = jnp.full(NUMBER, first), jnp.full(NUMBER, second)
    return float(np.mean(answer(jax.random.key(1), *pair, Habits(**habits)).preferred))


def test_the_rater_of_the_paper_prefers_the_larger_reward() -> None:
    preferred, is_given = answers()

    assert preferred.tolist() == [1.0, 0.5, 0.0, 0.0]
    assert is_given.all()


def test_habits_do_what_they_say() -> None:
    assert answers(margin=0.1)[0].tolist() == [1.0, 0.5, 0.5, 0.0]
    assert answers(skip=0.0)[1].tolist() == [True, True, True, False]  # neither exceeds it
    assert answers(mistake=1.0)[0].tolist() == [0.0, 0.5, 1.0, 1.0]
    # 20,000 answers: five standard errors are below 0.018.
    assert many(1.0, 0.0, mistake=0.1) == pytest.approx(0.9, abs=0.018)
    assert many(1.0, 0.0, rationality=0.7) == pytest.approx(1 / (1 + np.exp(-0.7)), abs=0.018)
    # A Boltzmann choice depends on the scale of the reward, one who never errs does not.
    assert many(10.0, 0.0, rationality=0.7) > 0.99
    assert many(0.01, 0.0) == 1.0


def test_a_myopic_rater_weighs_the_end_of_a_clip() -> None:
    rewards = np.array([[4.0, 0.0, 0.0], [0.0, 0.0, 3.0]], np.float32)
    plain = raters.clip_scores(jnp.asarray(rewards))
    short = raters.clip_scores(jnp.asarray(rewards), discount=0.5)

    assert np.asarray(plain).tolist() == [4.0, 3.0]
    assert np.asarray(short).tolist() == [1.0, 3.0]
    masked = raters.clip_scores(jnp.asarray(rewards), jnp.asarray([[0.0, 1, 1], [1, 1, 0]]))
    assert np.asarray(masked).tolist() == [0.0, 0.0]


def test_habits_that_are_none_are_refused() -> None:
    raters.check(Habits())
    for habits, message in (
        (Habits(rationality=0.0), "rationality=0.0: expected above 0"),
        (Habits(discount=1.5), "discount=1.5: expected above 0, at most 1"),
        (Habits(mistake=-0.1), "mistake=-0.1: expected 0 to 1"),
        (Habits(margin=-1.0), "margin=-1.0: expected at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            raters.check(habits)


def of_raters(errors: list[float], each: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Returns logits, answers at these errors, and who gave them."""
    random = np.random.default_rng(seed)
    rater = np.repeat(np.arange(len(errors)), each)
    logits = 3 * random.normal(size=len(rater))
    wins = random.random(len(rater)) < 1 / (1 + np.exp(-logits))
    is_random = random.random(len(rater)) < np.array(errors)[rater]
    coin = random.random(len(rater)) < 0.5
    return logits, np.where(is_random, coin, wins).astype(float), rater


fit_errors = jax.jit(raters.fit_errors, static_argnames=("raters", "iterations"))


def test_errors_of_raters_are_the_most_likely_ones() -> None:
    true = [0.05, 0.3, 0.6]
    logits, preferred, rater = of_raters(true, 8_000)
    preferred[::50] = 0.5  # ties say nothing
    with jax.enable_x64(True):
        found = np.asarray(
            fit_errors(jnp.asarray(logits), jnp.asarray(preferred), jnp.asarray(rater), raters=4)
        )

    np.testing.assert_allclose(found[:3], true, atol=0.03)  # 8,000 answers each
    assert found[3] == pytest.approx(0.1)  # nobody: as it began
    grid = np.linspace(0.001, 0.999, 999)[:, None]
    for number in range(3):
        mine = (rater == number) & (preferred != 0.5)
        likely = 1 / (1 + np.exp(np.where(preferred[mine] > 0.5, -1, 1) * logits[mine]))
        best = np.sum(np.log(grid / 2 + (1 - grid) * likely[None]), axis=1).argmax()
        assert abs(found[number] - grid[best, 0]) < 1.5e-3  # the grid, and 200 iterations
