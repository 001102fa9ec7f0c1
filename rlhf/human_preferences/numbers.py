"""The numbers of a config that a compiled step takes as data, so that ablations share a program."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common.data import cache
from rlhf.raters import Habits


class Numbers(NamedTuple):
    """What a run of the same program may do otherwise.

    Attributes:
        error: Share of answers that the loss takes as given at random.
        factor: By which the l2 coefficient moves; 0: it stays.
        used_members: Members whose mean the policy gets, the first ones.
        at_random: 1: pairs are shown at random.
        memory: Of the moments of rewards.
        target: Standard deviation of rewards.
        entropy: Weight of the entropy bonus.
        discount: Of the returns.
        decay: Of the advantages.
        kl_limit: Of a policy step, where there is one.
        rationality: Of the rater, with the next four; see `rlhf.raters.Habits`. 0: the better clip
            wins, as with infinity.
        short_sight: Its discount.
        mistake: Its share of answers that are turned round.
        skip: What clips have to exceed to be compared.
        margin: Within which clips are equally good.
        version: Of these.
    """

    error: float
    factor: float
    used_members: float
    at_random: float
    memory: float
    target: float
    entropy: float
    discount: float
    decay: float
    kl_limit: float
    rationality: float
    short_sight: float
    mistake: float
    skip: float
    margin: float
    version: int = 1


def numbers_of(config: ConfigDict) -> Numbers:
    """Returns the numbers of a config."""
    reward, learner, rater = config.reward, config.learner, config.rater
    return Numbers(
        error=reward.error,
        factor=reward.factor,
        used_members=float(reward.used_members),
        at_random=float(config.queries.at_random),
        memory=reward.memory,
        target=reward.target_deviation,
        entropy=learner.entropy,
        discount=learner.discount,
        decay=learner.decay,
        kl_limit=learner.get("kl_limit", 0.0),
        rationality=rater.rationality,
        short_sight=rater.discount,
        mistake=rater.mistake,
        skip=rater.skip,
        margin=rater.margin,
    )


def as_data(numbers: Numbers) -> dict[str, np.ndarray]:
    """Returns them as arrays, each by its name."""
    return {name: np.asarray(value, np.float32) for name, value in numbers._asdict().items()}


def identity(numbers: Numbers) -> dict[str, Any]:
    """Returns what the data of a run are made of."""
    return cache.identity(numbers, as_data)


def habits(data: dict[str, Any]) -> Habits:
    """Returns how the rater answers, of numbers as the step has them."""
    names = ("short_sight", "mistake", "skip", "margin")
    chosen = jnp.where(data["rationality"] > 0, data["rationality"], jnp.inf)
    return Habits(chosen, *(data[name] for name in names))
