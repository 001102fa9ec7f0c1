"""What an experiment compares: ways to tune and learning rates, all of them data of one program."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from finetune import strategies
from finetune.blocks import LAST, Blocks, leaf_paths
from finetune.tuning import Loss

PyTree = Any
# Strategies of `finetune.strategies` under the names of this paper's rows, with their options: of
# several, as of several learning rates, validation chooses.
METHODS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "rgn_tensor": ("auto_rgn", ({"granularity": "tensor"},)),
    "rgn_block": ("auto_rgn", ({"granularity": "block"},)),
    "rgn_matrix": ("auto_rgn", ({"granularity": "matrix"},)),
    "rgn_floor": ("auto_rgn", ({"granularity": "tensor", "floor": 0.1},)),
    "snr": ("auto_snr", ({"snr": "official"},)),
    "snr_example": ("auto_snr", ({"snr": "per_example"},)),
    "l1_sp": ("l1_sp", ({"l1": 1e-5}, {"l1": 1e-4}, {"l1": 1e-3})),
    "l2_sp": ("l2_sp", ({"l2": 1e-3}, {"l2": 1e-2}, {"l2": 1e-1})),
}
PROBES = (LAST, "lp_ft", "ft_lp")  # with rates of the last layer


class Candidates(NamedTuple):
    """Ways to tune times options times learning rates, way after way.

    Attributes:
        multipliers: Of the rate: a tree of arrays [candidates, epochs].
        renewed: Whether the optimizer starts anew before an epoch [candidates, epochs].
        rate: Learning rates.
        l1: Weights of the distance to the start, in L1.
        l2: Weights of the squared distance, halved.
        criterion: Number of the criterion that gives more multipliers; 0: none.
        depth: Number of the tree in `Plan.resting`.
    """

    multipliers: PyTree
    renewed: Float[Array | np.ndarray, "candidates epochs"]
    rate: Float[Array | np.ndarray, " candidates"]
    l1: Float[Array | np.ndarray, " candidates"]
    l2: Float[Array | np.ndarray, " candidates"]
    criterion: Int[Array | np.ndarray, " candidates"]
    depth: Int[Array | np.ndarray, " candidates"]


class Plan(NamedTuple):
    """Candidates, and the criteria that their numbers mean.

    Attributes:
        choices: Names of the ways to tune.
        sizes: How many candidates every way has.
        candidates: All of them.
        criteria: Of number 1, 2, ...: (loss, params, batches) -> a tree of multipliers.
        resting: Trees of bools: leaves below the lowest block that a candidate tunes, whose
            gradients are not computed.
    """

    choices: tuple[str, ...]
    sizes: tuple[int, ...]
    candidates: Candidates
    criteria: tuple[Callable[[Loss, PyTree, PyTree], PyTree], ...]
    resting: tuple[PyTree, ...]


def plan(section: ConfigDict, params: PyTree, blocks: Blocks, *, epochs: int) -> Plan:
    """Returns the candidates of the section `adapt` of a config.

    Source: Lee et al. (2023), Sec. 3: every way has a grid of learning rates of its own.

    Args:
        section: With `choices`, `learning_rates` and `last_factor`, by which those of the last
            layer are larger; LP-FT and FT-LP tune it at these too, and all at a tenth of them.
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
    factor: list[float] = []
    sizes: list[int] = []
    criteria: list[Any] = []
    numbers: list[int] = []
    for name in choices:
        kind, settings = METHODS.get(name, (name, ({},)))
        sizes.append(len(settings) * len(rates))
        for options in settings:
            strategy = strategies.named(kind, params, blocks, epochs=epochs, **options)
            found.append(strategies.as_data(strategy, params, blocks))
            factor.append(section.last_factor if name in PROBES else 1.0)
            if strategy.criterion is not None:
                criteria.append(strategy.criterion)
            numbers.append(len(criteria) if strategy.criterion is not None else 0)
    lowest = [_lowest(way.multipliers, blocks) for way in found]
    depths = sorted(set(lowest))
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
        depth=each(np.asarray([depths.index(depth) for depth in lowest], np.int32)),
    )
    resting = tuple(_below(params, blocks, depth) for depth in depths)
    return Plan(choices, tuple(sizes), candidates, tuple(criteria), resting)


def _lowest(multipliers: PyTree, blocks: Blocks) -> int:
    """Returns the number of the lowest block with a leaf that is tuned in some epoch.

    0 where a leaf in no block is tuned, since it may be anywhere.
    """
    pairs = zip(leaf_paths(multipliers), jax.tree.leaves(multipliers), strict=True)
    return min(blocks.of(path) or 0 for path, rates in pairs if np.any(rates))


def _below(params: PyTree, blocks: Blocks, depth: int) -> PyTree:
    """Returns which leaves are in the blocks before the one of this number."""
    numbers = [blocks.of(path) for path in leaf_paths(params)]
    is_below = [number is not None and number < depth for number in numbers]
    return jax.tree.unflatten(jax.tree.structure(params), is_below)


def selected(
    valid: Float[Array, "candidates epochs"], sizes: Sequence[int]
) -> tuple[Int[Array, " choices"], Int[Array, " choices"]]:
    """Returns which candidate and which epoch every way to tune is judged at.

    Source: Lee et al. (2023), released code: the arg max of validation accuracy over pairs of
    learning rate and epoch, the first one on ties, rate after rate.

    Args:
        valid: Validation accuracies, way after way.
        sizes: How many candidates every way has.
    """
    epochs = valid.shape[1]
    first = np.cumsum([0, *sizes])
    places = [
        jnp.argmax(valid[i : i + size].reshape(-1))
        for i, size in zip(first[:-1], sizes, strict=True)
    ]
    place = jnp.stack(places)
    return jnp.asarray(first[:-1]) + place // epochs, place % epochs
