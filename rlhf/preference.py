"""What a reward model says about which of two clips is preferred, and how wrong that is."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ERROR = 0.1  # share of answers that are given at random
SECOND, TIE, FIRST = 0.0, 0.5, 1.0  # preferences, as weight on the first clip


def clip_sum(
    rewards: Float[Array, "*batch k"], mask: Float[Array, "*batch k"] | None = None
) -> Float[Array, "*batch"]:
    """Returns the undiscounted sum over a clip, of the steps that `mask` keeps.

    Source: Christiano et al. (2017), Eq. 1.

    Clips of one length need no mask: what a constant reward adds to both cancels. Where one is
    shorter it does not, and padded steps have to be masked.
    """
    return jnp.sum(rewards if mask is None else jnp.where(mask > 0, rewards, 0.0), axis=-1)


def clip_logit(
    first: Float[Array, "*batch k"],
    second: Float[Array, "*batch k"],
    first_mask: Float[Array, "*batch k"] | None = None,
    second_mask: Float[Array, "*batch k"] | None = None,
) -> Float[Array, "*batch"]:
    """Returns the log odds that the first clip is preferred, by one who never errs.

    Source: Christiano et al. (2017), Eq. 1; Bradley & Terry (1952).
    """
    return clip_sum(first, first_mask) - clip_sum(second, second_mask)


def log_probability(
    logit: Float[Array, "*batch"], error: Float[Array, ""] | float = ERROR
) -> Float[Array, "*batch"]:
    """Returns log(error / 2 + (1 - error) sigmoid(logit)), finite wherever the result is.

    Source: Christiano et al. (2017), Sec. 2.2.3.

    The rater answers at random with probability `error`. A label that contradicts a large logit
    stops pulling: the slope goes to 0 there, where that of the plain loss stays -1.
    """
    error = jnp.asarray(error, logit.dtype)
    at_random = jnp.log(error / 2)  # -inf without errors, which logaddexp takes
    return jnp.logaddexp(at_random, jnp.log1p(-error) + jax.nn.log_sigmoid(logit))


def cross_entropy(
    logit: Float[Array, "*batch"],
    preferred: Float[Array, "*batch"],
    error: Float[Array, ""] | float = ERROR,
) -> Float[Array, "*batch"]:
    """Returns the loss of each pair: what an answer was unlikely to be.

    Source: Christiano et al. (2017), Sec. 2.2.3.

    Args:
        logit: Log odds of the first clip, see `clip_logit`.
        preferred: Weight on the first clip: 1, 0, or 1/2 for "equally good".
        error: Share of answers that are given at random.
    """
    on_first = preferred * log_probability(logit, error)
    return -on_first - (1 - preferred) * log_probability(-logit, error)


def weighted_mean(
    values: Float[Array, " n"], weights: Float[Array, " n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the mean of the values with weight, and the sum of weights; 0 without any.

    Pairs that the rater could not compare have weight 0: they contribute exactly nothing, also
    where their value is not finite.
    """
    total = jnp.sum(weights)
    kept = jnp.where(weights > 0, values, 0.0)
    return jnp.sum(weights * kept) / jnp.maximum(total, jnp.finfo(values.dtype).tiny), total


def agreement(
    logit: Float[Array, "*batch"], preferred: Float[Array, "*batch"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns how many answers the sign of the logit agrees with, and how many answers that is of.

    A tie is no class: it is counted in neither number. A logit of 0 agrees by one half.
    """
    is_answer = preferred != TIE
    toward = jnp.sign(logit) * jnp.sign(preferred - TIE)
    return jnp.sum(jnp.where(is_answer, (1 + toward) / 2, 0)), jnp.sum(is_answer.astype(float))
