"""Rewards of standard size: comparisons leave offset and scale open, policies do not.

Moments are kept for every member and merged exactly (`rlhf.moments`). What they remember is one
number: all values ever (memory 1), the batch at hand (0), or a window in between.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf.moments import Moments, merged, moments_of, no_moments

TINY = 1e-8  # added to standard deviations


def updated(
    moments: Moments, values: Float[Array, " n *members"], *, memory: Float[Array, ""] | float = 1.0
) -> Moments:
    """Returns moments with new values, after the older ones faded to a share `memory`."""
    faded = moments._replace(count=moments.count * memory)
    return merged(faded, moments_of(values, values.ndim - 1))


def standardized(
    values: Float[Array, " n *members"], moments: Moments
) -> Float[Array, " n *members"]:
    """Returns values less their mean, over their standard deviation; 0 where that is 0."""
    mean, deviation = (jnp.expand_dims(x, 0) for x in (moments.mean, jnp.sqrt(moments.variance)))
    return (values - mean) / (deviation + TINY)


class Normalizer(NamedTuple):
    """Moments of every member, and of the mean over members."""

    members: Moments
    mean: Moments


def init_normalizer(members: int) -> Normalizer:
    """Returns the normalizer that has seen nothing."""
    return Normalizer(no_moments((members,)), no_moments())


def normalize(
    normalizer: Normalizer,
    outputs: Float[Array, "members n"],
    weights: Float[Array, " members"],
    *,
    target: Float[Array, ""] | float = 1.0,
    memory: Float[Array, ""] | float = 0.0,
) -> tuple[Float[Array, " n"], Normalizer]:
    """Returns rewards for a policy, and the moments with these outputs among them.

    Source: Christiano et al. (2017), Sec. 2.2.1 and 2.2.3, App. A.

    Each member is standardized by itself, members are averaged, and the mean, whose deviation is
    less than 1 where members differ, is brought to the deviation `target` (1 for continuous
    control, 0.05 for Atari games). Which values the moments are of is not stated in the paper; by
    default they are those at hand, by the members as they are now.

    Args:
        normalizer: Moments so far.
        outputs: Of every member, on the steps of a rollout.
        weights: Of members in the mean: 1 each, 0 for those left out.
        target: Standard deviation of the result.
        memory: Share of the older moments that is kept, see `updated`.
    """
    members = updated(normalizer.members, outputs.T, memory=memory)
    average = _average(members, outputs, weights)
    mean = updated(normalizer.mean, average, memory=memory)
    return target * standardized(average, mean), Normalizer(members, mean)


def rescaled(
    normalizer: Normalizer,
    outputs: Float[Array, "members n"],
    weights: Float[Array, " members"],
    *,
    target: Float[Array, ""] | float = 1.0,
) -> Float[Array, " n"]:
    """Returns rewards by the moments so far: of too few steps to have moments of their own."""
    average = _average(normalizer.members, outputs, weights)
    return target * standardized(average, normalizer.mean)


def _average(
    members: Moments, outputs: Float[Array, "members n"], weights: Float[Array, " members"]
) -> Float[Array, " n"]:
    """Returns the mean over members of their standardized outputs."""
    single = standardized(outputs.T, members)
    return jnp.einsum("m,nm->n", weights / jnp.sum(weights), single)
