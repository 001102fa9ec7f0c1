"""Noise that treats every value alone: a transition matrix of the 256 grey levels, drawn from.

Gaussian, shot, impulse and speckle noise, clipped and truncated to a level, are each a matrix of
probabilities of the level that comes out given the one that goes in. It is computed in float64, and
sampled exactly (to 2^-32) by one random word and one look into an alias table.
"""

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64, Key, UInt8, UInt32
from scipy import special

from finetune.corruptions import parameters
from finetune.corruptions.draws import words
from finetune.corruptions.levels import Severity, at_severity

LEVELS = 256
Transition = Float64[np.ndarray, "levels levels"]


def normal_transition(std: Float64[np.ndarray, " levels"]) -> Transition:
    """Returns P[in, out] of a level plus normal noise, of a standard deviation for each level.

    Args:
        std: In parts of the white level.
    """
    value = np.arange(LEVELS)[:, None] / 255
    edges = np.arange(1, LEVELS)[None] / 255  # out < k exactly if the noisy value is under k / 255
    scale = np.where(std > 0, std, 1.0)[:, None]
    below = np.where(std[:, None] > 0, special.ndtr((edges - value) / scale), edges > value)
    return np.diff(below, axis=1, prepend=0.0, append=1.0)


def gaussian_noise_transition(std: float) -> Transition:
    """Returns P[in, out] of x + N(0, std).

    Source: Hendrycks and Dietterich (2019), gaussian noise.
    """
    return normal_transition(np.full(LEVELS, std))


def speckle_noise_transition(std: float) -> Transition:
    """Returns P[in, out] of x + x N(0, std).

    Source: Hendrycks and Dietterich (2019), speckle noise.
    """
    return normal_transition(std * np.arange(LEVELS) / 255)


def shot_noise_transition(photons: float) -> Transition:
    """Returns P[in, out] of Poisson(photons x) / photons.

    Source: Hendrycks and Dietterich (2019), shot noise.
    """
    counts = np.arange(int(photons) + 1)
    rate = photons * np.arange(LEVELS)[:, None] / 255
    below = special.pdtr(np.maximum(counts - 1, 0)[None], rate) * (counts > 0)
    chance = np.diff(below, axis=1, append=1.0)  # all counts over `photons` are white
    out = (counts / photons * 255).astype(int)
    transition = np.zeros((LEVELS, LEVELS))
    np.add.at(transition.T, out, chance.T)
    return transition


def impulse_noise_transition(share: float) -> Transition:
    """Returns P[in, out] where a share of the values is black or white, half of them each.

    Source: Hendrycks and Dietterich (2019), impulse noise.
    """
    transition = (1 - share) * np.eye(LEVELS)
    transition[:, [0, -1]] += share / 2
    return transition


TRANSITIONS = {
    "gaussian_noise": (gaussian_noise_transition, parameters.GAUSSIAN_NOISE),
    "shot_noise": (shot_noise_transition, parameters.SHOT_NOISE),
    "impulse_noise": (impulse_noise_transition, parameters.IMPULSE_NOISE),
    "speckle_noise": (speckle_noise_transition, parameters.SPECKLE_NOISE),
}


def alias_table(
    transition: Float64[np.ndarray, "rows levels"],
) -> UInt32[np.ndarray, "rows levels"]:
    """Returns for each row and column a threshold (24 bits) and the level beyond it (8 bits).

    Source: Walker (1977), the alias method: the least likely column is filled up by the likeliest.
    """
    rows = np.arange(len(transition))
    mass = transition / transition.sum(1, keepdims=True) * LEVELS
    threshold, alias = np.ones_like(mass), np.tile(np.arange(LEVELS), (len(mass), 1))
    low, high = mass.copy(), mass.copy()  # of columns that are open; infinite elsewhere
    for _ in range(LEVELS - 1):
        least, most = low.argmin(1), high.argmax(1)
        filled = low[rows, least]
        threshold[rows, least], alias[rows, least] = filled, most
        left = high[rows, most] - (1 - filled)
        low[rows, most] = high[rows, most] = left
        low[rows, least], high[rows, least] = np.inf, -np.inf
    # The last open column has mass 1: its own alias.
    steps = np.clip(np.rint(threshold * 2**24), 0, 2**24 - 1).astype(np.uint32)
    own = threshold >= 1
    alias = np.where(own, np.arange(LEVELS)[None], alias).astype(np.uint32)
    return steps << np.uint32(8) | alias


@cache
def alias_tables(name: str) -> UInt32[np.ndarray, "severities levels levels"]:
    """Returns the alias tables of a noise at all severities."""
    make, constants = TRANSITIONS[name]
    rows = np.concatenate([make(constant) for constant in constants])
    return alias_table(rows).reshape(len(constants), LEVELS, LEVELS)


def sampled(
    levels: UInt8[Array, "n h w c"], table: UInt32[Array, "levels levels"], keys: Key[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Returns a level for each level, drawn by its row of an alias table."""
    count = int(np.prod(levels.shape[1:]))
    word = words(keys, count).reshape(levels.shape)
    column = word & np.uint32(LEVELS - 1)
    entry = jnp.ravel(table)[(levels.astype(jnp.uint32) << np.uint32(8)) | column]
    is_own = (word >> np.uint32(8)) < (entry >> np.uint32(8))
    return jnp.where(is_own, column, entry & np.uint32(LEVELS - 1)).astype(jnp.uint8)


def impulse_noise(
    levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Returns images of which a share of the values is black or white, half of them each.

    Two comparisons do what the table of its transition matrix would do in a look.

    Source: Hendrycks and Dietterich (2019), impulse noise.
    """
    halves = np.rint(np.asarray(parameters.IMPULSE_NOISE) * 2**31).astype(np.uint32)
    half = at_severity(halves, severity)
    word = words(keys, int(np.prod(levels.shape[1:]))).reshape(levels.shape)
    extreme = jnp.where(word < half, jnp.uint8(0), jnp.uint8(LEVELS - 1))
    return jnp.where(word < 2 * half, extreme, levels)


def noise(
    name: str, levels: UInt8[Array, "n h w c"], severity: Severity, keys: Key[Array, " n"]
) -> UInt8[Array, "n h w c"]:
    """Returns images with noise of every value and channel on its own.

    Args:
        name: A key of `TRANSITIONS`.
        levels: Images.
        severity: 1 to 5.
        keys: One for each image.
    """
    return sampled(levels, at_severity(alias_tables(name), severity), keys)
