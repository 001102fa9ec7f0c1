"""Who answers: simulated raters that know the true reward, and how often a rater errs.

A rater is a function from pairs of clips to `Answers`. A person is one too: what asks people waits
for them and returns the same (the learner's loop calls it from the host).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlhf.preference import FIRST, SECOND, TIE, clip_sum


class Answers(NamedTuple):
    """What a rater says of pairs of clips.

    Attributes:
        preferred: Weight on the first clip: 1, 0, or 1/2 for "equally good".
        is_given: False for "can't compare": such a pair is dropped.
    """

    preferred: Float[Array, " pairs"]
    is_given: Bool[Array, " pairs"]


class Habits(NamedTuple):
    """How a simulated rater answers; the defaults are the paper's, who never errs.

    Source: Lee et al. (2021), the simulated teachers of BPref.

    Attributes:
        rationality: Of a Boltzmann choice, in inverse units of the clip reward; inf: none, the
            better clip wins.
        discount: Below 1 steps count the less the longer they are before the end of the clip.
        mistake: Share of answers that are turned round.
        skip: A pair is dropped if neither clip's reward exceeds this; -inf: none is.
        margin: Clips whose rewards differ by no more than this are equally good.
    """

    rationality: Float[Array, ""] | float = np.inf
    discount: Float[Array, ""] | float = 1.0
    mistake: Float[Array, ""] | float = 0.0
    skip: Float[Array, ""] | float = -np.inf
    margin: Float[Array, ""] | float = 0.0


FAULTLESS = Habits()


def check(habits: Habits) -> None:
    """Checks the numbers of a simulated rater.

    Raises:
        ValueError: Naming the first that is out of range.
    """
    for ok, field, allowed in (
        (float(habits.rationality) > 0, "rationality", "above 0"),
        (0 < float(habits.discount) <= 1, "discount", "above 0, at most 1"),
        (0 <= float(habits.mistake) <= 1, "mistake", "0 to 1"),
        (float(habits.margin) >= 0, "margin", "at least 0"),
    ):
        if not ok:
            raise ValueError(f"rater: {field}={getattr(habits, field)}: expected {allowed}")


def clip_scores(
    rewards: Float[Array, "*batch k"],
    mask: Float[Array, "*batch k"] | None = None,
    *,
    discount: Float[Array, ""] | float = 1.0,
) -> Float[Array, "*batch"]:
    """Returns what a clip is worth to a rater: the sum of its rewards, the last counting in full.

    Source: Lee et al. (2021), the myopic teacher of BPref.
    """
    length = rewards.shape[-1]
    weights = jnp.asarray(discount, rewards.dtype) ** jnp.arange(length - 1, -1, -1)
    return clip_sum(jnp.einsum("...k,k->...k", rewards, weights), mask)


def answer(
    key: PRNGKeyArray,
    first: Float[Array, " pairs"],
    second: Float[Array, " pairs"],
    habits: Habits = FAULTLESS,
) -> Answers:
    """Returns a simulated rater's answers to pairs whose clips are worth this much to it.

    Source: Christiano et al. (2017), Sec. 3.1 and footnote 4: the clip with the larger reward is
    preferred, equal ones are equally good.
    """
    key_choice, key_mistake = jax.random.split(key)
    gap = first - second
    is_tie = jnp.abs(gap) <= habits.margin
    is_rational = jnp.isinf(habits.rationality)
    odds = jnp.where(is_rational, 0.0, habits.rationality) * gap
    chance = jax.random.bernoulli(key_choice, jax.nn.sigmoid(odds))
    is_first = jnp.where(is_rational, gap > 0, chance)
    turned = jax.random.bernoulli(key_mistake, habits.mistake, gap.shape)
    preferred = jnp.where(is_first ^ turned, FIRST, SECOND)
    return Answers(jnp.where(is_tie, TIE, preferred), jnp.maximum(first, second) > habits.skip)


def fit_errors(
    logits: Float[Array, " n"],
    preferred: Float[Array, " n"],
    rater: Int[Array, " n"],
    *,
    raters: int,
    iterations: int = 200,
    start: float = 0.1,
) -> Float[Array, " raters"]:
    """Returns the share of answers that each rater gives at random, by expectation maximization.

    Source: Dempster et al. (1977), for the model of Christiano et al. (2017), Sec. 2.2.3.

    An answer was given at random with the probability that the model has for that; a rater's error
    is the mean of these. Ties say nothing of it and are left out; without answers it stays `start`.

    Args:
        logits: Log odds of the first clip, from reward models that did not see the answer.
        preferred: Answers.
        rater: Who gave them.
        raters: Number of raters.
        iterations: Of the algorithm.
        start: Error to begin with.
    """
    likely = jax.nn.sigmoid(jnp.where(preferred > TIE, logits, -logits))
    weight = jnp.where(preferred == TIE, 0.0, 1.0)
    answers = jnp.zeros(raters).at[rater].add(weight)

    def again(errors: Array, _: None) -> tuple[Array, None]:
        error = errors[rater]
        at_random = (error / 2) / (error / 2 + (1 - error) * likely)
        total = jnp.zeros(raters).at[rater].add(weight * at_random)
        return jnp.where(answers > 0, total / jnp.maximum(answers, 1.0), errors), None

    return jax.lax.scan(again, jnp.full(raters, start), None, length=iterations)[0]
