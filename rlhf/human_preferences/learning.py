"""One step of learning from preferences: a rollout, new labels, the ensemble, the policy."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped
from ml_collections import ConfigDict

from common.experiment import Metrics
from common.plain_gradient import in_order
from rlhf import buffer as ring
from rlhf import raters
from rlhf.algorithms import Agent, Algorithm
from rlhf.ensemble import (
    Ensemble,
    Fit,
    LabelLoss,
    fit,
    init_ensemble,
    predict,
    preference_loss,
    target_loss,
)
from rlhf.human_preferences import labeling
from rlhf.human_preferences.labeling import Asking, Recording
from rlhf.human_preferences.models import (
    RewardNetwork,
    learner_of,
    policy_networks,
    reward_fit,
    reward_network,
)
from rlhf.human_preferences.numbers import as_data, habits, numbers_of
from rlhf.human_preferences.plan import FROM_LABELS
from rlhf.human_preferences.tasks import Task, make_task
from rlhf.normalizer import Normalizer, init_normalizer, normalize, rescaled
from rlhf.policies import Networks
from rlhf.queries import make_score
from rlhf.rollouts import EnvStates, Rollout, collect, rewards_of
from rlhf.segments import check_length
from rlhf.training import Learner, init_learner

PyTree = Any
Numbers = Batch = dict[str, Any]
# A rollout -> the judge after it, its rewards of the rollout, and metrics.
Judging = Callable[[Rollout], tuple[Any, Float[Array, "steps envs"], Metrics]]


class Judge(NamedTuple):
    """What a policy is rewarded by.

    Attributes:
        ensemble: Reward models.
        normalizer: Moments of their rewards.
        labels: What raters said.
        asked: Pairs shown so far, those without an answer among them.
    """

    ensemble: Ensemble
    normalizer: Normalizer
    labels: ring.Buffer
    asked: Int[Array, ""]


class State(NamedTuple):
    """Everything a run remembers; `judge` is () where no labels are asked for."""

    learner: Learner
    judge: Any


class Parts(NamedTuple):
    """What a config is made of: functions and sizes, no arrays.

    Attributes:
        config: The config.
        task: What is learned.
        networks: Policy and value function.
        network: The reward model.
        how: How the ensemble is fitted; its loss comes with the step.
        asking: How pairs are shown.
    """

    config: ConfigDict
    task: Task
    networks: Networks
    network: RewardNetwork
    how: Fit
    asking: Asking

    @property
    def asks(self) -> bool:
        """Whether the reward is learned from what a rater says."""
        return self.config.reward.source in FROM_LABELS


def parts_of(config: ConfigDict) -> Parts:
    """Returns the parts of a config.

    Raises:
        ValueError: For a task, goal, score or algorithm that is unknown, a clip too long, or
            rollouts that are not whole turns.
    """
    task, section = make_task(config), config.labels
    longest = min(task.env.horizon, config.learner.steps)
    unroll = config.learner.get("unroll", 0)
    if unroll and config.learner.steps % unroll:
        raise ValueError(
            f"config.learner.unroll={unroll}: expected a divisor of "
            f"config.learner.steps={config.learner.steps}, or 0 for all of them"
        )
    check_length(config.clip.length, longest, "config.clip.length")
    make_score(config.queries.score)
    raters.check(habits(as_data(numbers_of(config))))
    has_targets = config.reward.source == "targets"
    asking = Asking(section.slots, config.clip.length, config.queries.score, has_targets)
    network = reward_network(config, task.env)
    networks = policy_networks(config, task.env)
    return Parts(config, task, networks, network, reward_fit(config, network), asking)


def init(parts: Parts, key: PRNGKeyArray) -> State:
    """Returns the state before the first step: nothing is learned and nothing asked."""
    config = parts.config
    key_learner, key_judge = jax.random.split(key)
    algorithm = learner_of(config, parts.networks, as_data(numbers_of(config)))
    learner = init_learner(parts.task.env, algorithm, key_learner, num_envs=config.learner.envs)
    if not parts.asks:
        return State(learner, ())
    members = config.reward.members
    ensemble = init_ensemble(
        key_judge,
        parts.network.init,
        parts.how.optimizer,
        members=members,
        coefficient=config.reward.coefficient,
        gradient=parts.how.gradient,
        model_state=parts.network.model_state,
    )
    row = labeling.blank(parts.asking, parts.network.seen, members)
    labels, asked = ring.empty(row, config.labels.capacity), jnp.zeros((), jnp.int32)
    return State(learner, Judge(ensemble, init_normalizer(members), labels, asked))


def step(
    parts: Parts, state: State, data: Numbers, batch: Batch, key: PRNGKeyArray
) -> tuple[State, Metrics]:
    """Returns the state after one rollout, its labels and one update, and what there is to say.

    Source: Christiano et al. (2017), Sec. 2.2, its three processes in a fixed order.

    Args:
        parts: Of the config.
        state: Before.
        data: The numbers of the config, see `human_preferences.numbers`.
        batch: A step of the `plan`: labels to ask for, rounds of the fit, whether the policy
            learns.
        key: Of this step.
    """
    key_rollout, key_judge, key_update = jax.random.split(key, 3)
    algorithm = learner_of(parts.config, parts.networks, data)
    judging = partial(after_labels, parts, state.judge, data=data, batch=batch, key=key_judge)
    keys = key_rollout, key_update
    state, rollout, said = played(parts, algorithm, state, data, batch, keys, judging)
    return state, {"return": mean_return(parts, rollout), **said}


def mean_return(parts: Parts, rollout: Rollout) -> Float[Array, ""]:
    """Returns the rater's reward of a rollout, as of an episode."""
    return jnp.mean(rewards_of(parts.task.goal, rollout)) * parts.task.judged.horizon


def played(
    parts: Parts,
    algorithm: Algorithm,
    state: State,
    data: Numbers,
    batch: Batch,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    judging: Judging,
) -> tuple[State, Rollout, Metrics]:
    """Returns the state after a rollout, its judgement and the updates, in the algorithm's order.

    Args:
        parts: Of the config.
        algorithm: Acts and learns.
        state: Before; its judge is what rewards turns of an algorithm that has some.
        data: The numbers of the config.
        batch: A step of the `plan`.
        keys: Of the rollout, and of the updates.
        judging: Called once, with the rollout.
    """
    if parts.config.learner.get("unroll", 0):
        learner, rollout, of_update = in_turns(parts, algorithm, state, data, batch, keys)
        judge, _, found = judging(rollout)
    else:
        env_states, rollout = act(parts, algorithm, state.learner, keys[0])
        judge, rewards, found = judging(rollout)
        agent, of_update = update(algorithm, state.learner, rollout, rewards, batch, keys[1])
        learner = Learner(agent, env_states)
    return State(learner, judge), rollout, {**found, **of_update}


def in_turns(
    parts: Parts,
    algorithm: Algorithm,
    state: State,
    data: Numbers,
    batch: Batch,
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
) -> tuple[Learner, Rollout, Metrics]:
    """Returns the learner after an update for every few steps, the whole rollout, and metrics.

    Source: Mnih et al. (2016), Sec. 4; Christiano et al. (2017), App. A.2: n = 5 steps.

    Rewards are those of the judge as the last step left it: clips are longer than a turn.
    """
    steps, unroll = parts.config.learner.steps, parts.config.learner.unroll

    def turn(learner: Learner, keys: tuple[Array, Array]) -> tuple[Learner, Any]:
        (key_rollout, key_reward), key_update = jax.random.split(keys[0]), keys[1]
        states, rollout = act(parts, algorithm, learner, key_rollout, steps=unroll)
        rewards = standing_rewards(parts, state.judge, data, rollout, key_reward)
        agent, metrics = update(algorithm, learner, rollout, rewards, batch, key_update)
        return Learner(agent, states), (rollout, metrics)

    rollouts, updates = (jax.random.split(key, steps // unroll) for key in keys)
    learner, (turns, metrics) = jax.lax.scan(turn, state.learner, (rollouts, updates))
    whole = jax.tree.map(lambda x: x.reshape(steps, *x.shape[2:]), turns)
    return learner, whole, jax.tree.map(jnp.mean, metrics)


def update(
    algorithm: Algorithm,
    learner: Learner,
    rollout: Rollout,
    rewards: Float[Array, "steps envs"],
    batch: Batch,
    key: PRNGKeyArray,
) -> tuple[Agent, Metrics]:
    """Returns the agent after an update, or as it was where the policy does not learn yet."""
    new, metrics = algorithm.update(learner.agent, rollout, rewards, key)
    learns = batch["learns"] > 0
    return jax.tree.map(lambda a, b: jnp.where(learns, a, b), new, learner.agent), metrics


def standing_rewards(
    parts: Parts, judge: Any, data: Numbers, rollout: Rollout, key: PRNGKeyArray
) -> Float[Array, "steps envs"]:
    """Returns the rewards of a rollout by what the judge knows now, or those beside it."""
    if not parts.asks:
        return other_rewards(parts, rewards_of(parts.task.goal, rollout), key)
    outputs = predict(judge.ensemble, parts.how, seen_in(parts, rollout))
    members, *shape = outputs.shape
    weights = labeling.member_weights(data, members)
    flat = outputs.reshape(members, -1)
    return rescaled(judge.normalizer, flat, weights, target=data["target"]).reshape(shape)


def other_rewards(
    parts: Parts, goal: Float[Array, "steps envs"], key: PRNGKeyArray
) -> Float[Array, "steps envs"]:
    """Returns the rewards where nobody is asked: the true ones, or random ones."""
    is_true = parts.config.reward.source == "true"
    return goal if is_true else jax.random.uniform(key, goal.shape)


def act(
    parts: Parts,
    algorithm: Algorithm,
    learner: Learner,
    key: PRNGKeyArray,
    *,
    steps: int | None = None,
) -> tuple[EnvStates, Rollout]:
    """Returns the environments after a rollout of the policy as it is, and the rollout.

    Of a deterministic run every device gets the rollout of all environments, and learns from it by
    itself: no sum is taken over a number of devices.
    """
    env, count = parts.task.env, steps or parts.config.learner.steps

    def of_some(
        whole: tuple[Agent, PRNGKeyArray], states: EnvStates, first: Array
    ) -> tuple[EnvStates, Rollout]:
        agent, key = whole
        policy = partial(algorithm.act, agent)
        states, rollout = collect(env, policy, states, key, count, first=first)
        return states, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rollout)

    states, rollout = in_order(of_some)((learner.agent, key), learner.env_states)
    return states, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rollout)


def seen_in(parts: Parts, rollout: Rollout) -> Array:
    """Returns what the reward model sees of a rollout, [steps, envs, ...]."""
    return parts.network.see(rollout.observations, rollout.actions)


def first_steps(rollout: Rollout) -> Array:
    """Returns which steps of a rollout begin an episode, as far as it shows."""
    ended = rollout.ended
    return jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])


def correlation(a: Float[Array, "*shape"], b: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Returns Pearson's correlation, 0 where one of both is constant."""
    a, b = (x - jnp.mean(x) for x in (a, b))
    size = jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
    return jnp.sum(a * b) / jnp.maximum(size, 1e-12)


def learned_rewards(
    parts: Parts, judge: Judge, data: Numbers, seen: Shaped[Array, "*batch_shape"]
) -> tuple[Array, Normalizer]:
    """Returns the rewards that a policy gets for what is seen of steps, and the new normalizer."""
    outputs = predict(judge.ensemble, parts.how, seen)
    members, *batch = outputs.shape
    rewards, normalizer = normalize(
        judge.normalizer,
        outputs.reshape(members, -1),
        labeling.member_weights(data, members),
        target=data["target"],
        memory=data["memory"],
    )
    return rewards.reshape(batch), normalizer


def after_labels(
    parts: Parts, judge: Any, rollout: Rollout, *, data: Numbers, batch: Batch, key: PRNGKeyArray
) -> tuple[Any, Float[Array, "steps envs"], Metrics]:
    """Returns the judge after new labels and a fit, its rewards of the rollout, and metrics.

    Where nobody is asked there is no judge, and the rewards are the true or random ones.
    """
    goal = rewards_of(parts.task.goal, rollout)
    if not parts.asks:
        return (), other_rewards(parts, goal, key), {}
    recording = Recording(seen_in(parts, rollout), goal, first_steps(rollout))
    key_ask, key_fit = jax.random.split(key)
    new, is_new = labeling.ask(
        key_ask, recording, judge.ensemble, parts.how, parts.asking, data, batch["labels"]
    )
    labels = ring.add(judge.labels, new, is_new)
    judge = judge._replace(labels=labels, asked=judge.asked + batch["labels"])
    return judged(parts, judge, recording, data, key_fit, rounds=batch["rounds"])


def judged(
    parts: Parts,
    judge: Judge,
    recording: Recording,
    data: Numbers,
    key: PRNGKeyArray,
    *,
    rounds: Int[Array, ""] | None = None,
) -> tuple[Judge, Array, Metrics]:
    """Returns the judge after a fit to its labels, its rewards of the rollout, and metrics."""
    how = parts.how._replace(loss=_loss(parts, judge.labels, data))
    fitted = partial(fit, factor=data["factor"], rounds=rounds)
    ensemble, report = fitted(key, judge.ensemble, how, judge.labels)
    judge = judge._replace(ensemble=ensemble)
    rewards, normalizer = learned_rewards(parts, judge, data, recording.seen)
    means = {f"reward_{name}": jnp.mean(value) for name, value in report._asdict().items()}
    found = {
        "labels": judge.asked.astype(jnp.float32),
        "correlation": correlation(rewards, recording.goal),
        "coefficient": jnp.mean(ensemble.coefficient),
        **means,
    }
    return judge._replace(normalizer=normalizer), rewards, found


def _loss(parts: Parts, labels: ring.Buffer, data: Numbers) -> LabelLoss:
    """Returns what members minimize: of answers, or of the clip rewards that they are told."""
    if parts.asking.has_targets:
        return target_loss(*labeling.target_scale(labels))
    return preference_loss(data["error"])
