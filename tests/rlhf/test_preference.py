"""The preference model: known values, symmetries, and fits with a solution found another way."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf import preference

# logit: loss and slope for an answer that prefers the first clip, at an error of 10 %.
KNOWN = {
    0.0: (0.693147, -0.45),
    1.0: (0.345378, -0.249947),
    4.0: (0.068480, -0.017023),
    10.0: (0.051336, -4.3e-5),
    -1.0: (1.230840, -0.605898),
    -4.0: (2.715262, -0.240172),
    -10.0: (2.994915, -0.000816),
}


@jax.jit
def evaluated(logits: Any, preferred: Any, error: Any) -> tuple[jax.Array, jax.Array]:
    """Returns loss and slope at every logit."""

    def total(d: jax.Array) -> jax.Array:
        return jnp.sum(preference.cross_entropy(d, preferred, error))

    losses = preference.cross_entropy(logits, preferred, error)
    return losses, jax.grad(total)(logits)


def at(logits: Any, preferred: Any, error: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Returns `evaluated` in float64 at as many logits as there ever are here."""
    logits = np.asarray(logits, np.float64)
    padded = np.zeros(16)
    padded[: len(logits)] = logits
    answers = np.broadcast_to(np.asarray(preferred, np.float64), logits.shape)
    wide = np.zeros(16)
    wide[: len(logits)] = answers
    with jax.enable_x64(True):
        found = evaluated(jnp.asarray(padded), jnp.asarray(wide), jnp.asarray(error))
    losses, slopes = (np.asarray(x)[: len(logits)] for x in found)
    return losses, slopes


def test_loss_and_slope_of_an_erring_rater_are_the_known_ones() -> None:
    losses, slopes = at(list(KNOWN), 1.0)

    known = np.array(list(KNOWN.values()))
    np.testing.assert_allclose(losses, known[:, 0], atol=6e-7)  # six digits are known
    np.testing.assert_allclose(slopes, known[:, 1], atol=6e-7)
    far, _ = at([500.0, -500.0], 1.0)
    np.testing.assert_allclose(far, [-np.log(0.95), -np.log(0.05)], rtol=1e-12)
    # Where the slope is steepest: a contradicted label pulls most at a logit of -1.4722.
    _, around = at([-1.4722, -1.3722, -1.5722], 1.0)
    assert around[0] < min(around[1:])
    assert around[0] == pytest.approx(-0.626789, abs=1e-6)


def test_without_errors_it_is_the_logistic_loss() -> None:
    logits = np.linspace(-30, 30, 13)
    losses, slopes = at(logits, 1.0, error=0.0)

    np.testing.assert_allclose(losses, np.logaddexp(0, -logits), rtol=1e-12)
    np.testing.assert_allclose(slopes, -1 / (1 + np.exp(logits)), rtol=1e-9)


def test_a_tie_is_lowest_at_zero_and_odd_around_it() -> None:
    logits = np.array([-6.0, -1.0, 0.0, 1.0, 6.0])
    losses, slopes = at(logits, 0.5)

    assert losses[2] == pytest.approx(np.log(2), rel=1e-12)
    assert losses.argmin() == 2
    np.testing.assert_allclose(slopes, -slopes[::-1], atol=1e-15)


def test_swapping_clips_and_answers_changes_nothing() -> None:
    logits, preferred = np.linspace(-5, 5, 9), np.array([1, 0, 0.5] * 3)
    losses, slopes = at(logits, preferred)
    swapped, back = at(-logits, 1 - preferred)

    np.testing.assert_allclose(losses, swapped, rtol=1e-14)
    np.testing.assert_allclose(slopes, -back, rtol=1e-14)


@jax.jit
def mean_over(values: Any, weights: Any) -> Any:
    """Returns a weighted mean, its total weight, and its gradient."""
    slope = jax.grad(lambda v: preference.weighted_mean(v, weights)[0])(values)
    return *preference.weighted_mean(values, weights), slope


def test_dropped_pairs_contribute_exactly_nothing() -> None:
    values = jnp.array([1.0, jnp.nan, jnp.inf, 3.0])
    mean, total, slope = mean_over(values, jnp.array([1.0, 0.0, 0.0, 3.0]))
    nothing, none, flat = mean_over(values, jnp.zeros(4))

    assert (float(mean), float(total)) == (2.5, 4.0)
    assert np.asarray(slope).tolist() == [0.25, 0.0, 0.0, 0.75]
    assert (float(nothing), float(none)) == (0.0, 0.0)
    assert not np.asarray(flat).any()


def test_a_constant_reward_cancels_in_clips_of_one_length_only() -> None:
    rewards = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    masks = np.ones((2, 5, 8), np.float32)
    masks[1, :, 5:] = 0
    plain, moved, scaled = (
        np.asarray(preference.clip_logit(*jnp.asarray(r)))
        for r in (rewards, rewards + 3, 2 * rewards)
    )
    short, far = (
        np.asarray(preference.clip_logit(*jnp.asarray(r), *jnp.asarray(masks)))
        for r in (rewards, rewards + 3)
    )

    np.testing.assert_allclose(moved, plain, atol=1e-4)
    np.testing.assert_allclose(scaled, 2 * plain, rtol=1e-6)
    np.testing.assert_allclose(far - short, np.full(5, 3.0 * (8 - 5)), rtol=1e-4)
    hidden = np.where(masks > 0, rewards, np.nan)  # what pads a clip is never read
    padded = preference.clip_logit(*jnp.asarray(hidden), *jnp.asarray(masks))
    np.testing.assert_array_equal(np.asarray(padded), short)


def test_ties_are_no_class_of_their_own() -> None:
    right, answers = preference.agreement(
        jnp.array([2.0, -1.0, 0.0, 5.0, 0.0]), jnp.array([1.0, 1.0, 0.5, 0.5, 0.0])
    )

    assert (float(right), float(answers)) == (1.5, 3.0)  # one right, one wrong, one undecided


def features(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns differences of summed features, answers drawn at known weights, and these."""
    random = np.random.default_rng(seed)
    x, theta = random.normal(size=(n, 3)), np.array([1.5, -1.0, 0.5])
    chance = 0.05 + 0.9 / (1 + np.exp(-x @ theta))
    return x, (random.random(n) < chance).astype(float), theta


@jax.jit
def fitted(x: Any, preferred: Any, error: Any) -> Any:
    """Returns weights of a linear reward model by gradient descent, and the loss there."""

    def loss(theta: jax.Array) -> jax.Array:
        return jnp.mean(preference.cross_entropy(x @ theta, preferred, error))

    step = lambda theta, _: (theta - 1.0 * jax.grad(loss)(theta), None)
    theta = jax.lax.scan(step, jnp.zeros(x.shape[1]), None, length=600)[0]
    return theta, loss(theta)


def irls(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the weights of a logistic regression by Newton's method."""
    theta = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ theta))
        theta += np.linalg.solve((x.T * (p * (1 - p))) @ x, x.T @ (y - p))
    return theta


def test_a_linear_model_is_a_logistic_regression_and_finds_the_reward() -> None:
    x, answers, theta = features(20_000)
    with jax.enable_x64(True):
        arrays = jnp.asarray(x), jnp.asarray(answers)
        plain, _ = (np.asarray(found) for found in fitted(*arrays, jnp.asarray(0.0)))
        erring, loss = (np.asarray(found) for found in fitted(*arrays, jnp.asarray(0.1)))

    np.testing.assert_allclose(plain, irls(x, answers), atol=1e-5)
    cosine = erring @ theta / np.linalg.norm(erring) / np.linalg.norm(theta)
    assert cosine > 0.99
    # 20,000 answers: the weights are known to a few percent, where those of one who never errs
    # are far too small.
    np.testing.assert_allclose(erring, theta, atol=0.1)
    assert np.linalg.norm(plain) < 0.85 * np.linalg.norm(theta)
    p = 0.05 + 0.9 / (1 + np.exp(-x @ theta))
    entropy = -np.mean(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert loss == pytest.approx(entropy, rel=0.02)
    # On a line through the solution nothing is lower.
    for direction in np.eye(3):
        d = x @ (erring[:, None] + direction[:, None] * np.linspace(-0.05, 0.05, 11)[None])
        with np.errstate(over="ignore"):
            chance = 0.05 + 0.9 / (1 + np.exp(-d))
        y = answers[:, None]
        on_line = -np.mean(y * np.log(chance) + (1 - y) * np.log(1 - chance), axis=0)
        assert on_line.argmin() == 5
