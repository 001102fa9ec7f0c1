"""Which pairs of clips to show: those that the members of an ensemble disagree about."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rlhf.preference import ERROR, log_probability

CANDIDATES = 10  # pairs that are scored for every one that is shown
Logits = Float[Array, "members pairs"]
Scores = Float[Array, " pairs"]


def _variance(values: Logits, weights: Float[Array, " members"]) -> Scores:
    share = weights / jnp.sum(weights)
    mean = jnp.einsum("m,mn->n", share, values)
    return jnp.einsum("m,mn->n", share, (values - jnp.expand_dims(mean, 0)) ** 2)


def probability_variance(logits: Logits, weights: Float[Array, " members"]) -> Scores:
    """Returns the variance of members' probabilities that the first clip is preferred.

    Source: Christiano et al. (2017), Sec. 2.2.4, which does not say of what the variance is.
    """
    return _variance(jax.nn.sigmoid(logits), weights)


def logit_variance(logits: Logits, weights: Float[Array, " members"]) -> Scores:
    """Returns the variance of members' log odds: large also where all agree, some more strongly.

    Source: imitation, released code.
    """
    return _variance(logits, weights)


def vote_variance(logits: Logits, weights: Float[Array, " members"]) -> Scores:
    """Returns p (1 - p), p the share of members for the first clip; a logit of 0 is half one.

    Source: Christiano et al. (2017), Sec. 2.2.4, read as the variance of predicted answers.
    """
    votes = (1 + jnp.sign(logits)) / 2
    share = jnp.einsum("m,mn->n", weights / jnp.sum(weights), votes)
    return share * (1 - share)


def information_gain(
    logits: Logits, weights: Float[Array, " members"], error: float = ERROR
) -> Scores:
    """Returns what an answer is expected to say about which member is right, in nats.

    Source: Houlsby et al. (2011); Christiano et al. (2017), Sec. 2.2.4, its future work.

    Entropy of the mean prediction less the mean entropy, of a rater who errs.
    """

    def entropy(p: Array) -> Array:
        return jax.scipy.special.entr(p) + jax.scipy.special.entr(1 - p)

    share = weights / jnp.sum(weights)
    predicted = jnp.exp(log_probability(logits, error))
    mean = jnp.einsum("m,mn->n", share, predicted)
    return entropy(mean) - jnp.einsum("m,mn->n", share, entropy(predicted))


SCORES: dict[str, Callable[[Logits, Float[Array, " members"]], Scores]] = {
    "variance": probability_variance,
    "logit": logit_variance,
    "vote": vote_variance,
    "information": information_gain,
}


def make_score(name: str) -> Callable[[Logits, Float[Array, " members"]], Scores]:
    """Returns the score of this name.

    Raises:
        ValueError: If there is none.
    """
    if name not in SCORES:
        raise ValueError(f"query score {name!r} is unknown: expected one of {', '.join(SCORES)}")
    return SCORES[name]


def choose(
    key: PRNGKeyArray,
    scores: Scores,
    count: int,
    *,
    wanted: Int[Array, ""] | int,
    at_random: Float[Array, ""] | float = 0.0,
) -> tuple[Int[Array, " count"], Array]:
    """Returns which pairs to show, and which of these places are taken: the first `wanted`.

    Source: Christiano et al. (2017), Sec. 2.2.4.

    Only the first 10 pairs for each that is wanted are candidates, so that a step that asks for few
    labels chooses as sharply as one that asks for many. Equal scores are put in a random order.

    Args:
        key: Draws the random choices and the order of equals.
        scores: Of the candidates, 10 for every place.
        count: Places: the most that may be wanted.
        wanted: Pairs to show.
        at_random: Above 0 the choice is uniform, the ablation of the paper.
    """
    (number,) = scores.shape
    order = jax.random.permutation(key, number)
    is_candidate = jnp.arange(number) < CANDIDATES * wanted
    score = jnp.where(jnp.asarray(at_random) > 0, 0.0, scores)
    score = jnp.where(is_candidate, score, -jnp.inf)[order]
    _, best = jax.lax.top_k(score, count)  # of equals the first, and these were shuffled
    return order[best], jnp.arange(count) < wanted
