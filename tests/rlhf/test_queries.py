"""Which pairs are shown, and which clips pairs are made of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf import queries, segments

# Of three members: all agree strongly, none is sure, they really disagree.
AGREE, UNSURE, DISAGREE = (10.0, 12.0, 14.0), (-0.5, 0.0, 0.5), (-3.0, -3.0, 3.0)
LOGITS = np.array([AGREE, UNSURE, DISAGREE]).T


def scores(name: str, logits: np.ndarray = LOGITS, weights: Any = (1.0, 1.0, 1.0)) -> np.ndarray:
    return np.asarray(queries.make_score(name)(jnp.asarray(logits), jnp.asarray(weights)))


def test_scores_order_pairs_by_what_they_measure() -> None:
    np.testing.assert_allclose(scores("logit"), [2.667, 0.167, 8.0], atol=1e-3)
    np.testing.assert_allclose(scores("variance"), [0.0, 0.009998, 0.182065], atol=1e-6)
    # Two of three members, one of them undecided in the second pair: 1/2 (1 - 1/2).
    np.testing.assert_allclose(scores("vote"), [0.0, 0.25, 2 / 9], atol=1e-6)
    decided = LOGITS + np.array([[0.0], [0.1], [0.0]])  # nobody is undecided
    np.testing.assert_allclose(scores("vote", decided), [0.0, 2 / 9, 2 / 9], atol=1e-6)
    assert np.argsort(scores("logit")).tolist() == [1, 0, 2]
    assert np.argsort(scores("variance")).tolist() == [0, 1, 2]


def test_information_is_what_an_answer_says_about_members() -> None:
    def entropy(p: np.ndarray) -> np.ndarray:
        return -p * np.log(p) - (1 - p) * np.log(1 - p)

    p = 0.05 + 0.9 / (1 + np.exp(-LOGITS))
    gain = entropy(p.mean(axis=0)) - entropy(p).mean(axis=0)

    np.testing.assert_allclose(scores("information"), gain, atol=2e-7)
    same = np.repeat(LOGITS[:1], 3, axis=0)  # members that agree: nothing to be learned of them
    np.testing.assert_allclose(scores("information", same), 0.0, atol=2e-7)


def test_members_without_weight_have_no_say() -> None:
    doubled = np.concatenate([LOGITS, 100 * np.ones((1, 3))])
    for name in queries.SCORES:
        found = scores(name, doubled, (1.0, 1.0, 1.0, 0.0))
        np.testing.assert_allclose(found, scores(name), rtol=1e-5, atol=1e-7)
    alone = scores("variance", LOGITS, (1.0, 0.0, 0.0))
    np.testing.assert_allclose(alone, 0.0, atol=1e-12)
    with pytest.raises(ValueError, match="'entropy' is unknown: expected one of variance, logit"):
        queries.make_score("entropy")


chosen = jax.jit(queries.choose, static_argnames="count")


def test_the_largest_scores_of_ten_times_as_many_candidates_are_shown() -> None:
    values = np.random.default_rng(0).normal(size=40).astype(np.float32)
    for wanted in (0, 1, 2, 4):
        places, is_taken = chosen(jax.random.key(1), jnp.asarray(values), 4, wanted=wanted)
        shown = np.asarray(places)[np.asarray(is_taken)]
        best = np.argsort(-values[: 10 * wanted])[:wanted]
        assert shown.tolist() == best.tolist()


@jax.jit
def shown(key: Any, score: Any, at_random: Any) -> jax.Array:
    """Returns which two pairs are shown, 4,000 times."""
    draw = lambda key: queries.choose(key, score, 2, wanted=2, at_random=at_random)[0]
    return jax.vmap(lambda number: draw(jax.random.fold_in(key, number)))(jnp.arange(4_000))


def test_random_queries_and_equal_scores_are_uniform() -> None:
    values = jnp.arange(20.0)
    for at_random, score in ((1.0, values), (0.0, jnp.zeros(20))):
        places = np.asarray(shown(jax.random.key(2), score, at_random))
        assert (places[:, 0] != places[:, 1]).all()  # no pair is shown twice
        counts = np.bincount(places.ravel(), minlength=20)
        # 8,000 of 20: 400 each, with a deviation of 20.
        assert np.abs(counts - 400).max() < 5 * 20


def flags(resets: list[int], steps: int = 12) -> np.ndarray:
    """Returns a column that is True where an episode begins."""
    return np.isin(np.arange(steps), resets)


def test_no_clip_goes_over_a_reset() -> None:
    is_first = np.stack([flags([0, 5]), flags([2, 9]), flags([])], axis=1)
    valid = np.asarray(segments.valid_starts(jnp.asarray(is_first), 4))

    for env in range(3):
        for start in range(9):
            inside = is_first[start + 1 : start + 4, env]
            assert valid[start, env] == (not inside.any())


@jax.jit
def drawn(key: Any, is_first: Any) -> Any:
    valid = segments.valid_starts(is_first, 4)
    places = segments.draw_places(key, valid, 6_000)
    steps = {"time": jnp.arange(12)[:, None] + jnp.zeros((1, 3), int), "env": jnp.arange(3)[None]}
    steps["env"] = steps["env"] + jnp.zeros((12, 1), int)
    return valid, places, segments.cut(steps, places, 4)


def test_clips_are_drawn_uniformly_where_they_may_begin() -> None:
    is_first = np.stack([flags([0, 5]), flags([2, 9]), flags([])], axis=1)
    valid, places, clips = jax.device_get(drawn(jax.random.key(0), jnp.asarray(is_first)))
    counts = np.zeros((9, 3))
    np.add.at(counts, (places.start, places.env), 1)

    assert (counts[~valid] == 0).all()
    expected = 6_000 / valid.sum()
    assert np.abs(counts[valid] - expected).max() < 5 * np.sqrt(expected)
    assert (clips["time"] == places.start[:, None] + np.arange(4)[None]).all()
    assert (clips["env"] == places.env[:, None]).all()
    paired = np.asarray(segments.pairs(jnp.asarray(clips["time"])))
    assert paired.shape == (3_000, 2, 4)
    np.testing.assert_array_equal(paired[7, 1], clips["time"][3_007])


def test_a_clip_longer_than_an_episode_is_refused_in_one_line() -> None:
    segments.check_length(200, 200)
    with pytest.raises(ValueError, match="config.clip.length is 201: expected 1 to 200") as error:
        segments.check_length(201, 200, "config.clip.length")
    assert "\n" not in str(error.value)
