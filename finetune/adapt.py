"""Adapting a trained network to target data: a strategy, a grid of learning rates, early stopping.

    target = Target(Examples(x, y), Examples(x_valid, y_valid), Examples(x_test, y_test))
    found = adapt(apply, params, target, strategy, learning_rates=(1e-3, 1e-4), key=key)
    found.params, found.valid, found.test, found.rate, found.epoch

After every epoch the network is scored on held-out target data; of all rates and epochs the best
score there decides, the first one on ties. A whole adaptation is one program (`adaptation`), with
the rates next to one another for dense networks and one after the other for convolutions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from common.evaluation import sums_over
from finetune.adaptation import (
    STATISTICS,
    Apply,
    Examples,
    Found,
    Outputs,
    PerExample,
    Target,
    Task,
    adaptation,
    cross_entropy,
    epoch_index,
    is_right,
)
from finetune.blocks import split
from finetune.checks import check_target, check_whole_batches
from finetune.prefix import Activations, cached_activations, cut_below
from finetune.programs import has_convolution, loop_safe
from finetune.statistics import check_norms
from finetune.strategies import Strategy
from finetune.tuning import How, adam, init_tuning, many

PyTree = Any


class Adapted(NamedTuple):
    """An adapted network, and how it was chosen.

    Attributes:
        params: The network after the chosen epoch at the chosen rate.
        valid: Scores on held-out data, by rate and epoch.
        test: Scores on test data; NaN without any.
        loss: Mean losses.
        rate: The chosen learning rate.
        epoch: The chosen epoch, from 0; -1 where nothing was trained.
        start: Scores (held-out, test) before adapting.
        strategy: Its name.
    """

    params: PyTree
    valid: Float[np.ndarray, "rates epochs"]
    test: Float[np.ndarray, "rates epochs"]
    loss: Float[np.ndarray, "rates epochs"]
    rate: float
    epoch: int
    start: tuple[float, float]
    strategy: str

    @property
    def score(self) -> float:
        """Returns the test score of the chosen network."""
        if self.epoch < 0:
            return self.start[1]
        return float(self.test[self.best])

    @property
    def best(self) -> tuple[int, int]:
        """Returns the place of the best score on held-out data, by rate and epoch."""
        return chosen_place(self.valid)


def chosen_place(scores: Float[np.ndarray, "rates epochs"]) -> tuple[int, int]:
    """Returns (rate, epoch) of the largest score, the first one on ties, rates before epochs.

    Source: Lee et al. (2023): released code: arg max over all (rate, epoch) pairs.
    """
    rate, epoch = divmod(int(np.argmax(scores)), scores.shape[1])
    return rate, epoch


def adapt(
    apply: Apply,
    params: PyTree,
    target: Target,
    strategy: Strategy | None,
    *,
    learning_rates: Sequence[float],
    key: PRNGKeyArray,
    batch_size: int = 64,
    direction: optax.GradientTransformation | None = None,
    cost: PerExample = cross_entropy,
    score: PerExample = is_right,
    train: Callable[[PyTree, PyTree], tuple[Array, PyTree]] | None = None,
    how: How | None = None,
    cached: bool = True,
) -> Adapted:
    """Returns the network adapted by a strategy, chosen over rates and epochs on held-out data.

    Source: Lee et al. (2023): protocol of the released code: Adam, coupled decay 1e-4, batches of
    64, early stopping and the learning rate by accuracy on held-out target data.

    Args:
        apply: (params, inputs) -> logits; batch normalization by running statistics.
        params: A trained network, any tree.
        target: Data of the shifted distribution.
        strategy: Of `finetune.strategies`; None: the network stays as it is.
        learning_rates: The grid, in the order of preference on ties.
        key: Of shuffling, and of factors that start at random.
        batch_size: Examples of a step; fewer where there are not as many.
        direction: Of an optimizer at rate 1; None: `tuning.adam()`.
        cost: What is followed, of every example.
        score: What decides, of every example.
        train: As in `Task`; all normalizations must be tuned then (`statistics.check_norms`).
        how: Rates at once ("vmap") or one after the other ("map"); None: what measures faster.
        cached: What lies below the lowest tuned leaf is computed once, where that is possible.

    Raises:
        ValueError: If there are no data, a label is out of range, or a rate is not positive.
    """
    check_target(apply, params, target, learning_rates)
    task = Task(loop_safe(apply), cost, score, train)
    size = min(batch_size, len(target.train.labels))
    before = _start(task, params, target, size)
    if strategy is None:
        none = np.zeros((len(learning_rates), 0))
        return Adapted(params, none, none, none, 0.0, -1, before, "none")
    if train is not None:
        check_norms(params, strategy.mask)
        check_whole_batches(len(target.train.labels), size)
    how = how or best_how(task.apply, params, target.train.inputs)
    budget = (direction or adam(), learning_rates, key, size)
    found, frozen = _run(task, params, target, strategy, *budget, how, cached)
    valid, test, loss = (np.asarray(x) for x in (found.valid, found.test, found.loss))
    rate, epoch = chosen_place(valid)
    tuned, statistics = jax.tree.map(lambda x: x[rate], (found.tuned, found.model_state))
    adapted = strategy.combine(tuned, frozen)
    adapted = adapted if train is None else {**adapted, STATISTICS: statistics}
    rates = (valid, test, loss, float(learning_rates[rate]))
    return Adapted(adapted, *rates, epoch, before, strategy.name)


def _run(
    task: Task,
    params: PyTree,
    target: Target,
    strategy: Strategy,
    direction: optax.GradientTransformation,
    learning_rates: Sequence[float],
    key: PRNGKeyArray,
    size: int,
    how: How,
    cached: bool,
) -> tuple[Found, PyTree]:
    """Returns what all rates found, and what was frozen."""
    keys, count = jax.random.split(key), len(target.train.labels)
    index = epoch_index(keys[0], count, batch_size=size, epochs=strategy.epochs)
    if strategy.begin is None:
        tuned, frozen = split(params, strategy.mask)
    else:
        tuned, frozen = strategy.begin(keys[1], params), params
    outputs, rest = None, frozen
    is_partial = strategy.is_fixed and not all(jax.tree.leaves(strategy.mask))
    if cached and task.train is None and is_partial:
        outputs, target, rest = _cut(task.apply, params, strategy.mask, target, frozen, size)
    run = adaptation(task, strategy, direction, outputs=outputs)
    state = init_tuning(tuned, direction, () if task.train is None else params[STATISTICS])
    rates, axes = jnp.asarray(learning_rates, jnp.float32), (None, None, None, None, 0, None, None)
    schedule = (strategy.multipliers, jnp.asarray(strategy.renewed))
    return jax.jit(many(run, how, axes))(state, rest, target, index, rates, *schedule), frozen


def best_how(apply: Apply, params: PyTree, inputs: PyTree) -> How:
    """Returns how settings of this network are best put into one program, as `tuning.many` has it.

    Convolutions one after the other, all else at once.
    """
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), inputs)
    return "map" if has_convolution(apply, params, one) else "vmap"


def best_of(found: Sequence[Adapted]) -> Adapted:
    """Returns the one that scores best on held-out data, the first on ties: cross-validation.

    Source: Lee et al. (2023): Cross-Val: the block that is best on held-out target data.
    """
    tops = [adapted.valid.max() if adapted.valid.size else adapted.start[0] for adapted in found]
    return found[int(np.argmax(tops))]


def _cut(
    apply: Apply, params: PyTree, mask: PyTree, target: Target, frozen: PyTree, size: int
) -> tuple[Outputs, Target, PyTree]:
    """Returns outputs of the second part, data with activations as inputs, and what they share."""
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), target.train.inputs
    )
    cut = cut_below(apply, params, mask, batch)

    def outputs(tuned: PyTree, shared: PyTree, rows: PyTree) -> Array:
        return cut.rest(tuned, Activations(rows, shared))

    parts: list[Examples | None] = []
    shared: PyTree = ()
    for examples in target:
        if examples is None:
            parts.append(None)
            continue
        found = cached_activations(cut, frozen, examples.inputs, size)
        shared = found.shared
        parts.append(Examples(found.rows, examples.labels))
    train, valid, test = parts
    assert train is not None and valid is not None
    return outputs, Target(train, valid, test), shared


def _start(task: Task, params: PyTree, target: Target, chunk: int) -> tuple[float, float]:
    """Returns the scores of the network as it is."""

    @jax.jit
    def score(params: PyTree, examples: Examples) -> Array:
        def values(rows: Examples) -> dict[str, Array]:
            return {"score": task.score(task.apply(params, rows.inputs), rows.labels)}

        total, count = sums_over(values, examples, chunk=chunk)["score"]
        return total / count

    valid = float(score(params, target.valid))
    return valid, float("nan") if target.test is None else float(score(params, target.test))
