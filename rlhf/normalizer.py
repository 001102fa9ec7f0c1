"""Rewards of standard size: comparisons leave offset and scale open, policies do not.

Moments are kept for every member and merged exactly. What they remember is one number: all values
ever (memory 1), the batch at hand (0), or a window in between.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

TINY = 1e-8  # added to standard deviations


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of values seen, one each for every member."""

    count: Float[Array, "*members"]
    mean: Float[Array, "*members"]
    squares: Float[Array, "*members"]


def no_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Returns the moments of nothing."""
    return Moments(*(jnp.zeros(shape) for _ in Moments._fields))


def moments_of(values: Float[Array, "*members n"]) -> Moments:
    """Returns the moments of the last axis."""
    mean = jnp.mean(values, axis=-1)
    squares = jnp.sum((values - jnp.expand_dims(mean, -1)) ** 2, axis=-1)
    return Moments(jnp.full(mean.shape, float(values.shape[-1])), mean, squares)


def merged(one: Moments, other: Moments) -> Moments:
    """Returns the moments of both sets of values together.

    Source: Chan et al. (1983).
    """
    count = one.count + other.count
    share = other.count / jnp.maximum(count, 1.0)
    gap = other.mean - one.mean
    squares = one.squares + other.squares + gap**2 * one.count * share
    return Moments(count, one.mean + gap * share, squares)


def updated(
    moments: Moments, values: Float[Array, "*members n"], *, memory: Float[Array, ""] | float = 1.0
) -> Moments:
    """Returns moments with new values, after the older ones faded to a share `memory`."""
    faded = moments._replace(count=moments.count * memory, squares=moments.squares * memory)
    return merged(faded, moments_of(values))


def deviation(moments: Moments) -> Float[Array, "*members"]:
    """Returns the standard deviation of all values, 0 of none."""
    return jnp.sqrt(moments.squares / jnp.maximum(moments.count, 1.0))


def standardized(
    values: Float[Array, "*members n"], moments: Moments
) -> Float[Array, "*members n"]:
    """Returns values less their mean, over their standard deviation; 0 where that is 0."""
    centered = values - jnp.expand_dims(moments.mean, -1)
    return centered / (jnp.expand_dims(deviation(moments), -1) + TINY)


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
    members = updated(normalizer.members, outputs, memory=memory)
    single = standardized(outputs, members)
    average = jnp.einsum("m,mn->n", weights / jnp.sum(weights), single)
    mean = updated(normalizer.mean, average, memory=memory)
    return target * standardized(average, mean), Normalizer(members, mean)
