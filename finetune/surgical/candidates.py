"""What an experiment compares: ways to tune and learning rates, all of them data of one program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from finetune import strategies
from finetune.blocks import LAST, Blocks
from finetune.tuning import Loss

PyTree = Any
# Strategies of `finetune.strategies` under the names of this paper's rows, with their options.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "rgn_tensor": ("auto_rgn", {"granularity": "tensor"}),
    "rgn_block": ("auto_rgn", {"granularity": "block"}),
    "rgn_matrix": ("auto_rgn", {"granularity": "matrix"}),
    "rgn_floor": ("auto_rgn", {"granularity": "tensor", "floor": 0.1}),
    "snr": ("auto_snr", {"snr": "official"}),
    "snr_example": ("auto_snr", {"snr": "per_example"}),
    "gradual_first": ("gradual_first", {}),
    "gradual_last": ("gradual_last", {}),
    "lp_ft": ("lp_ft", {}),
    "ft_lp": ("ft_lp", {}),
    "l1_sp": ("l1_sp", {"l1": 1e-4}),
    "l2_sp": ("l2_sp", {"l2": 1e-2}),
}


class Candidates(NamedTuple):
    """Ways to tune times learning rates, way after way.

    Attributes:
        multipliers: Of the rate: a tree of arrays [candidates, epochs].
        renewed: Whether the optimizer starts anew before an epoch [candidates, epochs].
        rate: Learning rates.
        l1: Weights of the distance to the start, in L1.
        l2: Weights of the squared distance, halved.
        criterion: Number of the criterion that gives more multipliers; 0: none.
    """

    multipliers: PyTree
    renewed: Float[Array | np.ndarray, "candidates epochs"]
    rate: Float[Array | np.ndarray, " candidates"]
    l1: Float[Array | np.ndarray, " candidates"]
    l2: Float[Array | np.ndarray, " candidates"]
    criterion: Int[Array | np.ndarray, " candidates"]


class Plan(NamedTuple):
    """Candidates, and the criteria that their numbers mean.

    Attributes:
        choices: Names of the ways to tune.
        rates: Learning rates of every way.
        candidates: All of them.
        criteria: Of number 1, 2, ...: (loss, params, batches) -> a tree of multipliers.
    """

    choices: tuple[str, ...]
    rates: int
    candidates: Candidates
    criteria: tuple[Callable[[Loss, PyTree, PyTree], PyTree], ...]


def plan(section: ConfigDict, params: PyTree, blocks: Blocks, *, epochs: int) -> Plan:
    """Returns the candidates of the section `adapt` of a config.

    Source: Lee et al. (2023), Sec. 3: every way has a grid of learning rates of its own.

    Args:
        section: With `choices`, `learning_rates` and `last_factor`, by which those of the last
            layer are larger.
        params: The network, or its shapes.
        blocks: Its blocks.
        epochs: The budget.

    Raises:
        ValueError: If there is no such way, or nothing to compare.
    """
    choices, rates = tuple(section.choices), tuple(section.learning_rates)
    if not choices or not rates or min(rates) <= 0:
        raise ValueError(
            f"config.adapt.choices={choices}, learning_rates={rates}: expected a way and a "
            "positive rate at least"
        )
    found: list[strategies.Strategy] = []
    criteria: list[Any] = []
    numbers: list[int] = []
    for name in choices:
        kind, options = METHODS.get(name, (name, {}))
        strategy = strategies.named(kind, params, blocks, epochs=epochs, **options)
        found.append(strategies.as_data(strategy, params, blocks))
        if strategy.criterion is not None:
            criteria.append(strategy.criterion)
        numbers.append(len(criteria) if strategy.criterion is not None else 0)
    factor = [section.last_factor if name == LAST else 1.0 for name in choices]
    each = lambda values: np.repeat(np.asarray(values), len(rates), axis=0)
    number = lambda values: each(np.asarray(values, np.float32))
    candidates = Candidates(
        multipliers=jax.tree.map(
            lambda *rows: number(np.stack(rows)), *[way.multipliers for way in found]
        ),
        renewed=number([way.renewed for way in found]),
        rate=np.outer(factor, rates).reshape(-1).astype(np.float32),
        l1=number([way.l1 for way in found]),
        l2=number([way.l2 for way in found]),
        criterion=each(np.asarray(numbers, np.int32)),
    )
    return Plan(choices, len(rates), candidates, tuple(criteria))


def selected(
    valid: Float[Array, "candidates epochs"], choices: int
) -> tuple[Int[Array, " choices"], Int[Array, " choices"]]:
    """Returns which candidate and which epoch every way to tune is judged at.

    Source: Lee et al. (2023), released code: the arg max of validation accuracy over pairs of
    learning rate and epoch, the first one on ties, rate after rate.
    """
    candidates, epochs = valid.shape
    rates = candidates // choices
    place = jnp.argmax(valid.reshape(choices, rates * epochs), axis=1)
    return jnp.arange(choices) * rates + place // epochs, place % epochs
