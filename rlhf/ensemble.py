"""Reward models that learn from the same labels, each from a bootstrap sample of its own.

A label draws its weight for every member once, when it arrives, from a Poisson distribution of mean
1. It trains the members that gave it weight and validates those that gave it none, a share 1 / e of
them: what the paper's "drawn with replacement" and "1/e held out" say together, for labels that
keep arriving. No label ever moves from one side to the other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from common.gradient_types import Gradient
from common.plain_gradient import plain
from common.steps import Metrics, TrainState, init_train_state, stateful_step
from rlhf import buffer as ring
from rlhf.l2_controller import adjust
from rlhf.preference import agreement, clip_logit, clip_sum, cross_entropy, weighted_mean
from rlhf.reward_model import squared_weights

PyTree = Any
POISSON = (0.36787944, 0.73575888, 0.91969860, 0.98101184, 0.99634015, 0.99940582, 0.99991676)
POISSON_CDF = (*POISSON, 0.99998975, 0.99999887, 0.99999989)  # of mean 1; no weight exceeds 10


class Labels(NamedTuple):
    """Labels as the buffer holds them, one row each.

    Attributes:
        clips: What the reward model sees of both clips, arrays [labels, 2, k, ...].
        preferred: Weight on the first clip.
        targets: True reward of both clips, for regression; zeros in learning from preferences.
        weights: Of every member.
    """

    clips: PyTree
    preferred: Float[Array, " labels"]
    targets: Float[Array, "labels 2"]
    weights: Float[Array, "labels members"]


class Ensemble(NamedTuple):
    """Reward models with a leading axis of members.

    Attributes:
        train: Parameters and state of the optimizer, one for each.
        coefficient: Of the l2 penalty.
    """

    train: TrainState
    coefficient: Float[Array, " members"]


class FitReport(NamedTuple):
    """How well members explain the labels of a buffer; every entry has one number per member.

    Attributes:
        train_loss: Mean over in-bag labels, each as often as it was drawn.
        valid_loss: Mean over out-of-bag labels, nan without any.
        accuracy: Share of out-of-bag answers that are predicted, ties left out; nan without any.
    """

    train_loss: Float[Array, " members"]
    valid_loss: Float[Array, " members"]
    accuracy: Float[Array, " members"]


LabelLoss = Callable[[Float[Array, "n 2 k"], Labels], Float[Array, " n"]]
Apply = Callable[[PyTree, PyTree, PyTree, PRNGKeyArray | None], tuple[Array, PyTree]]


class Fit(NamedTuple):
    """How members are fitted: functions and sizes, no arrays.

    Attributes:
        apply: (params, model state, clips, key or None) -> (rewards [..., k], new model state). A
            key means training: dropout draws from it, batches are normalized by their own moments.
        loss: Rewards of both clips and their labels -> the loss of each pair.
        optimizer: Of a member.
        batch_size: Labels of a step.
        steps: Between two adjustments of the coefficient.
        rounds: Adjustments of a fit.
        sample: Labels whose losses adjust it, drawn from the buffer; 0: all that it holds.
        gradient: What the optimizer follows.
        is_mapped: Whether members are computed one after the other, which is faster for
            convolutions on CPUs; else side by side.
    """

    apply: Apply
    loss: LabelLoss
    optimizer: optax.GradientTransformation
    batch_size: int
    steps: int
    rounds: int
    sample: int = 0
    gradient: Gradient = plain
    is_mapped: bool = False


def preference_loss(error: Float[Array, ""] | float) -> LabelLoss:
    """Returns the loss of answers, by a rater of this error."""

    def loss(rewards: Array, labels: Labels) -> Array:
        return cross_entropy(clip_logit(rewards[:, 0], rewards[:, 1]), labels.preferred, error)

    return loss


def target_loss(center: Float[Array, ""] | float, scale: Float[Array, ""] | float) -> LabelLoss:
    """Returns the squared error of predicted clip rewards, less `center` and in units of `scale`.

    Source: Christiano et al. (2017), Sec. 3.3, its ablation "target".
    """

    def loss(rewards: Array, labels: Labels) -> Array:
        return jnp.mean((clip_sum(rewards) - (labels.targets - center) / scale) ** 2, axis=-1)

    return loss


def bootstrap_weights(key: PRNGKeyArray, labels: int, members: int) -> Array:
    """Draws how often each member's bootstrap sample holds each label, ~ Poisson(1).

    Source: Oza & Russell (2001), the online bootstrap; Christiano et al. (2017), Sec. 2.2.3.
    """
    drawn = jax.random.uniform(key, (labels, members))
    return jnp.searchsorted(jnp.array(POISSON_CDF), drawn, side="right").astype(jnp.float32)


def init_ensemble(
    key: PRNGKeyArray,
    init: Callable[[PRNGKeyArray], PyTree],
    optimizer: optax.GradientTransformation,
    *,
    members: int,
    coefficient: Float[Array, ""] | float,
    gradient: Gradient = plain,
    model_state: PyTree = (),
) -> Ensemble:
    """Draws members, each from a key of its own; `model_state` is that of a fresh one.

    Raises:
        ValueError: If there are none.
    """
    if members < 1:
        raise ValueError(f"an ensemble of {members} members: expected at least 1")

    def drawn(key: PRNGKeyArray) -> TrainState:
        return init_train_state(init(key), optimizer, model_state, gradient=gradient)

    train = jax.vmap(drawn)(jax.random.split(key, members))
    start = jnp.broadcast_to(jnp.asarray(coefficient, jnp.float32), (members,))
    return Ensemble(train, start)


def predict(ensemble: Ensemble, how: Fit, inputs: PyTree) -> Float[Array, " members *batch"]:
    """Returns every member's rewards of the same inputs, not normalized."""

    def rewards(params: PyTree, model_state: PyTree) -> Array:
        return how.apply(params, model_state, inputs, None)[0]

    return _over_members(how, rewards)(ensemble.train.params, ensemble.train.model_state)


def pair_logits(ensemble: Ensemble, how: Fit, clips: PyTree) -> Float[Array, "members pairs"]:
    """Returns every member's log odds that the first clip is preferred."""
    rewards = predict(ensemble, how, clips)
    return clip_logit(rewards[:, :, 0], rewards[:, :, 1])


def report(
    ensemble: Ensemble, how: Fit, labels: ring.Buffer, key: PRNGKeyArray | None = None
) -> FitReport:
    """Returns losses of labels in the buffer, in-bag and out-of-bag, as means.

    Source: Christiano et al. (2017), Sec. 2.2.3.

    Args:
        ensemble: Members.
        how: See `Fit`.
        labels: A buffer of `Labels`.
        key: Draws `how.sample` of them, with replacement; None: all are looked at.
    """
    rows, is_held = labels.rows, ring.is_held(labels)
    if key is not None and 0 < how.sample < ring.capacity(labels):
        places, total = ring.draw(key, is_held.astype(jnp.float32), how.sample)
        rows = jax.tree.map(lambda x: x[places], rows)
        is_held = jnp.broadcast_to(total > 0, places.shape)
    rewards = predict(ensemble, how, rows.clips)

    def of_member(rewards: Array, weights: Array) -> FitReport:
        losses = how.loss(rewards, rows)
        in_bag = jnp.where(is_held, weights, 0.0)
        out_of_bag = jnp.where(is_held & (weights == 0), 1.0, 0.0)
        train, _ = weighted_mean(losses, in_bag)
        valid, count = weighted_mean(losses, out_of_bag)
        hidden = jnp.where(out_of_bag > 0, rows.preferred, 0.5)
        right, answers = agreement(clip_logit(rewards[:, 0], rewards[:, 1]), hidden)
        return FitReport(
            train,
            jnp.where(count > 0, valid, jnp.nan),
            jnp.where(answers > 0, right / jnp.maximum(answers, 1.0), jnp.nan),
        )

    return jax.vmap(of_member)(rewards, rows.weights.T)


def fit(
    key: PRNGKeyArray,
    ensemble: Ensemble,
    how: Fit,
    labels: ring.Buffer,
    *,
    factor: Float[Array, ""] | float = 0.1,
    rounds: Int[Array, ""] | int | None = None,
) -> tuple[Ensemble, FitReport]:
    """Returns members after `rounds` times `steps` updates, and how they explain the labels then.

    Source: Christiano et al. (2017), Sec. 2.2.3.

    Labels of an update are drawn from the member's bootstrap sample. After each round the weight of
    the l2 penalty is adjusted, see `rlhf.l2_controller`. Without labels nothing changes.

    Args:
        key: Draws labels, and what dropout drops.
        ensemble: Members.
        how: See `Fit`.
        labels: A buffer of `Labels`.
        factor: Share by which the coefficient moves; 0: it stays.
        rounds: In place of those of `how`; may be an array.
    """
    members = len(ensemble.coefficient)

    def a_round(number: Array, before: tuple[Ensemble, FitReport]) -> tuple[Ensemble, FitReport]:
        carry, _ = before
        keys = jax.random.split(jax.random.fold_in(key, number), members)
        train = _over_members(how, lambda *rows: _train(how, labels, *rows))
        trained = train(carry.train, carry.coefficient, labels.rows.weights.T, keys)
        # Updates draw from the numbers below `steps`.
        key_sample = jax.random.fold_in(keys[0], how.steps)
        found = report(carry._replace(train=trained), how, labels, key_sample)
        coefficient = adjust(carry.coefficient, found.train_loss, found.valid_loss, factor=factor)
        return Ensemble(trained, coefficient), found

    nothing = FitReport(*(jnp.full(members, jnp.nan) for _ in FitReport._fields))
    count = how.rounds if rounds is None else rounds
    return jax.lax.fori_loop(0, count, a_round, (ensemble, nothing))


def _train(
    how: Fit,
    labels: ring.Buffer,
    member: TrainState,
    coefficient: Array,
    weights: Array,
    key: PRNGKeyArray,
) -> TrainState:
    """Returns one member after one round."""
    in_bag = jnp.where(ring.is_held(labels), weights, 0.0)

    def objective(
        params: PyTree, model_state: PyTree, data: PyTree, rows: Labels, key: PRNGKeyArray
    ) -> tuple[Array, Metrics, PyTree]:
        rewards, model_state = how.apply(params, model_state, rows.clips, key)
        penalty = data["coefficient"] * squared_weights(params)
        return jnp.mean(how.loss(rewards, rows)) + penalty, {}, model_state

    update = stateful_step(objective, how.optimizer, gradient=how.gradient)

    def a_step(member: TrainState, number: Array) -> tuple[TrainState, None]:
        key_rows, key_dropout = jax.random.split(jax.random.fold_in(key, number))
        places, total = ring.draw(key_rows, in_bag, how.batch_size)
        rows = jax.tree.map(lambda x: x[places], labels.rows)
        new, _ = update(member, {"coefficient": coefficient}, rows, key_dropout)
        return jax.tree.map(lambda a, b: jnp.where(total > 0, a, b), new, member), None

    return jax.lax.scan(a_step, member, jnp.arange(how.steps))[0]


def _over_members(how: Fit, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` of one member as one of all, side by side or one after the other."""
    if not how.is_mapped:
        return jax.vmap(function)
    return lambda *members: jax.lax.map(lambda rows: function(*rows), members)
