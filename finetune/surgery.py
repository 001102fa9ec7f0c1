"""Which block should I tune? Profiles of a network on target data, and what they recommend.

    found = recommend(apply, params, cross_entropy, target.train, source=clean)
    found.block, found.confidence, found.gain, found.basis
    adapted = adapt(apply, params, target, tune(params, found.blocks, found.block, epochs=15), ...)

A block is recommended by what a shift changes in the profile of relative gradient norms, so clean
data of training should be given: without them every profile looks alike. Measured shifts
(`finetune.calibration`) say what such profiles came to, and how often the advice was good.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from finetune import criteria
from finetune.adaptation import Apply, Examples, PerExample
from finetune.blocks import Blocks, blocks_by_depth
from finetune.calibration import Calibration, advice, features
from finetune.checks import check_labels
from finetune.programs import loop_safe

PyTree = Any
CRITERIA = ("rgn", "snr", "fisher")
TITLES = {"rgn": "relative gradient norm", "snr": "signal to noise", "fisher": "Fisher information"}
NO_CLEAN_DATA = "relative gradient norms of the target data alone: weak, give clean data as source"
BY_RULE = "largest relative gradient norm, relative to clean data; no measured shifts to compare"


class Recommendation(NamedTuple):
    """What profiles say.

    Attributes:
        block: The block to tune, or "all".
        blocks: The groups of the network.
        profiles: By criterion, the value of every block over the largest.
        clean: The same of clean data; empty without any.
        relative: By criterion, profiles over those of clean data; empty without any.
        gain: Expected test score over tuning everything, in points; None if nothing was measured.
        confidence: How often advice of such agreement was at least level with tuning everything;
            None if nothing was measured.
        basis: What the advice rests on.
    """

    block: str
    blocks: Blocks
    profiles: dict[str, Float[np.ndarray, " blocks"]]
    clean: dict[str, Float[np.ndarray, " blocks"]]
    relative: dict[str, Float[np.ndarray, " blocks"]]
    gain: float | None
    confidence: float | None
    basis: str


def recommend(
    apply: Apply,
    params: PyTree,
    cost: PerExample,
    target: Examples,
    *,
    source: Examples | None = None,
    blocks: Blocks | None = None,
    calibration: Calibration | None = None,
    batch_size: int = 64,
) -> Recommendation:
    """Returns which block of a trained network to tune for labeled target data.

    Args:
        apply: (params, inputs) -> outputs; batch normalization by running statistics.
        params: A trained network, any tree.
        cost: (outputs, labels) -> [n], whose mean is to fall.
        target: Labeled data of the shifted distribution.
        source: Clean data, some hundred examples the network was trained on.
        blocks: Groups; None: four by depth, or as many as there are layers.
        calibration: Measured shifts, of `calibration.read`; None: the rule alone decides.
        batch_size: Of gradients; criteria are averaged over the first five batches.

    Raises:
        ValueError: If there are fewer than two target examples, or a label is out of range.
    """
    sets = {"target": target} if source is None else {"target": target, "source": source}
    for name, examples in sets.items():
        if len(examples.labels) < 2:
            raise ValueError(f"{name} has {len(examples.labels)} examples; expected two or more")
        check_labels(apply, params, examples, name)
    if blocks is None:
        blocks = blocks_by_depth(params, apply=apply, inputs=target.inputs)
    measure = profiler(apply, cost, blocks, batch_size=batch_size)
    found = {name: measure(params, examples) for name, examples in sets.items()}
    ours, clean = found["target"], found.get("source", {})
    relative = {name: ours[name] / np.maximum(clean[name], 1e-6) for name in clean}
    whole = (blocks, ours, clean, relative)
    if not clean:
        block = blocks.names[int(np.argmax(ours["rgn"]))]
        return Recommendation(block, *whole, None, None, NO_CLEAN_DATA)
    if calibration is None:
        block = blocks.names[int(np.argmax(relative["rgn"]))]
        return Recommendation(block, *whole, None, None, BY_RULE)
    size, names = len(calibration.blocks), calibration.criteria
    told = advice(calibration, features(relative, size, names))
    block = _own_block(blocks, calibration, told.choice)
    basis = f"the {told.neighbors} nearest of {len(calibration.shifts)} measured shifts"
    return Recommendation(block, *whole, told.gain, told.confidence, basis)


def profiler(
    apply: Apply, cost: PerExample, blocks: Blocks, *, batch_size: int = 64, batches: int = 5
) -> Callable[[PyTree, Examples], dict[str, Float[np.ndarray, " blocks"]]]:
    """Returns (params, examples) -> every criterion by block, over the largest block.

    Examples are used in their order. Data sets of one size share a compiled program.

    Args:
        apply: (params, inputs) -> outputs.
        cost: (outputs, labels) -> [n].
        blocks: Groups.
        batch_size: Of relative gradient norms; fewer where there are not as many.
        batches: How many at most; single examples are as many.
    """
    fast = loop_safe(apply)

    def loss(params: PyTree, batch: Examples) -> jax.Array:
        return cost(fast(params, batch.inputs), batch.labels).mean()

    @jax.jit
    def all_of(params: PyTree, batches: Examples) -> dict[str, jax.Array]:
        rgn = criteria.averaged(criteria.relative_gradient_norm, loss, params, batches, blocks)
        singles = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)
        moments = criteria.example_moments(loss, params, singles)
        found = (rgn, criteria.example_snr(moments, blocks), criteria.fisher(moments, blocks))
        return {
            name: criteria.normalized(profile.blocks)
            for name, profile in zip(CRITERIA, found, strict=True)
        }

    def profiles(params: PyTree, examples: Examples) -> dict[str, Any]:
        count = len(examples.labels)
        size = min(batch_size, count)
        number = min(batches, count // size)
        used = jax.tree.map(
            lambda x: np.asarray(x[: number * size]).reshape(number, size, *x.shape[1:]), examples
        )
        return {name: np.asarray(x) for name, x in all_of(params, used).items()}

    return profiles


def _own_block(blocks: Blocks, calibration: Calibration, choice: str) -> str:
    """Returns the block of a network that lies as deep as one of those that were measured."""
    if choice not in calibration.blocks:
        return choice  # "all"
    depth = calibration.blocks.index(choice) / max(len(calibration.blocks) - 1, 1)
    return blocks.names[round(depth * (len(blocks.names) - 1))]
