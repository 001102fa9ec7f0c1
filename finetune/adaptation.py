"""The program of a whole adaptation: epochs of tuning, scores after each, the best of them kept.

    run = adaptation(Task(apply, cross_entropy, is_right), strategy, adam())
    found = run(state, frozen, target, index, rate, strategy.multipliers, strategy.renewed)

It is pure and has no host work, so that rates, seeds and masks can be mapped over;
`finetune.adapt` is what calls it for one network and one data set.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from common.evaluation import sums_over
from finetune.blocks import split
from finetune.strategies import Strategy
from finetune.tuning import Tuning, stateful_tuning_step, tuning_epoch

PyTree = Any
Apply: TypeAlias = Callable[[PyTree, PyTree], Array]  # (params, inputs) -> outputs
PerExample: TypeAlias = Callable[[Array, Array], Float[Array, " n"]]  # (outputs, labels)
Outputs: TypeAlias = Callable[[PyTree, PyTree, PyTree], Array]  # (tuned, frozen, inputs)
CRITERION_BATCHES = 5  # released code
STATISTICS = "batch_stats"


class Examples(NamedTuple):
    """Inputs and labels, the examples along the first axis of every array."""

    inputs: PyTree
    labels: Any


class Target(NamedTuple):
    """Labeled data of the shifted distribution: `valid` chooses, `test` is only measured."""

    train: Examples
    valid: Examples
    test: Examples | None = None


class Task(NamedTuple):
    """A network, what it is trained on, and what decides.

    Attributes:
        apply: (params, inputs) -> outputs, batch normalization by running statistics.
        cost: (outputs, labels) -> [n], whose mean is followed.
        score: (outputs, labels) -> [n], whose mean on held-out data is to be large.
        train: (params, inputs) -> (outputs, new batch_stats), batch normalization by the batch;
            `params` are Flax's variables then. None: `apply` is trained as it is.
    """

    apply: Apply
    cost: PerExample
    score: PerExample
    train: Callable[[PyTree, PyTree], tuple[Array, PyTree]] | None = None


class Found(NamedTuple):
    """What an adaptation at one learning rate gives; all arrays.

    Attributes:
        tuned: The tuned tree after the best epoch.
        model_state: Statistics then; () where they rest.
        valid: Score on held-out data after every epoch.
        test: Score on test data after every epoch; NaN without any.
        loss: Mean loss of every epoch.
    """

    tuned: PyTree
    model_state: PyTree
    valid: Float[Array, " epochs"]
    test: Float[Array, " epochs"]
    loss: Float[Array, " epochs"]


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Integer[Array, " n"]
) -> Float[Array, " n"]:
    """Returns the cross-entropy of every example."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def is_right(logits: Float[Array, "n classes"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Returns 1 for every example whose largest logit is that of its label, else 0."""
    return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)


def epoch_index(
    key: PRNGKeyArray, count: int, *, batch_size: int, epochs: int
) -> Integer[Array, "epochs steps batch"]:
    """Returns which examples every step sees: all of them in each epoch, shuffled; -1 fills up."""
    steps = -(-count // batch_size)
    shuffle = jax.vmap(lambda key: jax.random.permutation(key, count))
    order = shuffle(jax.random.split(key, epochs))
    filled = jnp.pad(order, ((0, 0), (0, steps * batch_size - count)), constant_values=-1)
    return filled.reshape(epochs, steps, batch_size)


class Parts(NamedTuple):
    """A network during an adaptation.

    Attributes:
        task: The network and what it is for.
        strategy: How it is adapted.
        outputs: Of a network in two parts; None: by the task.
    """

    task: Task
    strategy: Strategy
    outputs: Outputs | None

    def params(self, state: Tuning, frozen: PyTree) -> PyTree:
        """Returns the whole network."""
        params = self.strategy.combine(state.tuned, frozen)
        statistics = state.model_state
        return {**params, STATISTICS: statistics} if jax.tree.leaves(statistics) else params

    def predict(self, state: Tuning, frozen: PyTree, inputs: PyTree) -> Array:
        """Returns outputs of the network as it is used, not as it is trained."""
        if self.outputs is not None:
            return self.outputs(state.tuned, frozen, inputs)
        return self.task.apply(self.params(state, frozen), inputs)

    def loss(self, parts: PyTree, model_state: PyTree, batch: PyTree) -> tuple[Array, PyTree]:
        """Returns the mean cost of a batch, and new statistics; `parts` are tuned and frozen."""
        (tuned, frozen), (examples, weights) = parts, batch
        state = Tuning(tuned, (), model_state)
        if self.task.train is None:
            found = self.predict(state, frozen, examples.inputs)
        else:
            found, model_state = self.task.train(self.params(state, frozen), examples.inputs)
        return _mean(self.task.cost(found, examples.labels), weights), model_state

    def loss_of_params(self, params: PyTree, batch: PyTree) -> Array:
        """Returns the mean cost of a batch for the whole network, as criteria want it."""
        examples, weights = batch
        return _mean(
            self.task.cost(self.task.apply(params, examples.inputs), examples.labels), weights
        )

    def score(self, state: Tuning, frozen: PyTree, examples: Examples | None, chunk: int) -> Array:
        """Returns the mean score over examples, NaN without any."""
        if examples is None:
            return jnp.float32(jnp.nan)

        def values(rows: Examples) -> dict[str, Array]:
            found = self.predict(state, frozen, rows.inputs)
            return {"score": self.task.score(found, rows.labels)}

        total, count = sums_over(values, examples, chunk=chunk)["score"]
        return total / count

    def rates(
        self, state: Tuning, frozen: PyTree, batches: PyTree, rate: Array, multipliers: PyTree
    ) -> PyTree:
        """Returns the learning rates of an epoch, by leaf."""
        if self.strategy.begin is not None:
            return rate
        if self.strategy.criterion is not None:
            params = self.params(state, frozen)
            found = self.strategy.criterion(self.loss_of_params, params, batches)
            found, _ = split(found, self.strategy.mask)
            multipliers = jax.tree.map(jnp.multiply, multipliers, found)
        return jax.tree.map(lambda m: m * rate, multipliers)


def adaptation(
    task: Task,
    strategy: Strategy,
    direction: optax.GradientTransformation,
    *,
    outputs: Outputs | None = None,
) -> Callable[..., Found]:
    """Returns the program of a whole adaptation at one learning rate.

    It is (state, frozen, target, index, rate, multipliers, renewed) -> Found: `state` from
    `finetune.tuning.init_tuning`, `index` from `epoch_index`, the last two fields of the strategy.

    Args:
        task: The network and what it is for.
        strategy: How it is adapted.
        direction: Of an optimizer at rate 1.
        outputs: (tuned, frozen, inputs) -> outputs, of a network in two parts.
    """
    parts = Parts(task, strategy, outputs)

    def run(
        state: Tuning,
        frozen: PyTree,
        target: Target,
        index: Integer[Array, "epochs steps batch"],
        rate: Array,
        multipliers: PyTree,
        renewed: Array,
    ) -> Found:
        penalty = _distance(state.tuned, strategy) if strategy.l1 or strategy.l2 else None
        step = stateful_tuning_step(
            parts.loss, direction, combine=lambda tuned, frozen: (tuned, frozen), penalty=penalty
        )
        epoch = tuning_epoch(step, rows=_rows)

        def one(carry: tuple[Tuning, PyTree, Array], now: PyTree) -> tuple[PyTree, PyTree]:
            state, best, top = carry
            index, multipliers, is_new = now
            fresh = direction.init(state.tuned)
            opt_state = jax.tree.map(lambda a, b: jnp.where(is_new, a, b), fresh, state.opt_state)
            state = state._replace(opt_state=opt_state)
            batches = _rows(target.train, index[:CRITERION_BATCHES])
            rates = parts.rates(state, frozen, batches, rate, multipliers)
            state, loss = epoch(state, frozen, target.train, index, rates)
            sets = (target.valid, target.test)
            valid, test = (parts.score(state, frozen, x, index.shape[-1]) for x in sets)
            newest = (state.tuned, state.model_state)
            best = jax.tree.map(lambda a, b: jnp.where(valid > top, a, b), newest, best)
            return (state, best, jnp.maximum(valid, top)), (valid, test, loss)

        begin = (state, (state.tuned, state.model_state), jnp.float32(-jnp.inf))
        (_, best, _), scores = jax.lax.scan(one, begin, (index, multipliers, renewed))
        return Found(*best, *scores)

    return run


def _rows(examples: Examples, index: Array) -> tuple[Examples, Array]:
    """Returns the examples of an index, and weights that are 0 where it is -1."""
    rows = jax.tree.map(lambda x: x[jnp.maximum(index, 0)], examples)
    return rows, (index >= 0).astype(jnp.float32)


def _mean(values: Array, weights: Array) -> Array:
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)


def _distance(start: PyTree, strategy: Strategy) -> Callable[[PyTree], Array]:
    """Returns the penalty of a strategy: the distance from the start."""

    def penalty(tuned: PyTree) -> Array:
        away = jax.tree.leaves(jax.tree.map(jnp.subtract, tuned, start))
        absolute = sum(jnp.sum(jnp.abs(d)) for d in away)
        squared = sum(jnp.sum(jnp.square(d)) for d in away)
        return jnp.asarray(strategy.l1 * absolute + strategy.l2 / 2 * squared)

    return penalty
