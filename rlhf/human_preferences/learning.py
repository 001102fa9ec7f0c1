"""One step of learning from preferences: a rollout, new labels, the ensemble, the policy."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from common.experiment import Metrics
from rlhf import buffer as ring
from rlhf import raters
from rlhf.algorithms import Algorithm
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
from rlhf.normalizer import Normalizer, init_normalizer, normalize
from rlhf.policies import Networks
from rlhf.queries import make_score
from rlhf.rollouts import EnvStates, Rollout, collect, rewards_of
from rlhf.segments import check_length
from rlhf.training import Learner, init_learner

PyTree = Any
Numbers = Batch = dict[str, Any]


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
        ValueError: For a task, goal, score or algorithm that is unknown, or a clip too long.
    """
    task, section = make_task(config), config.labels
    longest = min(task.env.horizon, config.learner.steps)
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
    )
    row = labeling.blank(parts.asking, parts.network.shape, members)
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
        batch: How many labels are asked for, and whether the policy learns.
        key: Of this step.
    """
    key_rollout, key_judge, key_update = jax.random.split(key, 3)
    algorithm = learner_of(parts.config, parts.networks, data)
    env_states, rollout = act(parts, algorithm, state.learner, key_rollout)
    goal = rewards_of(parts.task.goal, rollout)
    if parts.asks:
        recording = Recording(seen_in(parts, rollout), goal, first_steps(rollout))
        judge, rewards, found = _judged(
            parts, state.judge, recording, data, batch["labels"], key_judge
        )
    else:
        judge, found = (), {}
        is_true = parts.config.reward.source == "true"
        rewards = goal if is_true else jax.random.uniform(key_judge, goal.shape)
    agent, of_update = algorithm.update(state.learner.agent, rollout, rewards, key_update)
    learns = batch["learns"] > 0
    agent = jax.tree.map(lambda a, b: jnp.where(learns, a, b), agent, state.learner.agent)
    mean = {"return": jnp.mean(goal) * parts.task.env.horizon}
    return State(Learner(agent, env_states), judge), {**mean, **found, **of_update}


def act(
    parts: Parts, algorithm: Algorithm, learner: Learner, key: PRNGKeyArray
) -> tuple[EnvStates, Rollout]:
    """Returns the environments after a rollout of the policy as it is, and the rollout."""
    policy = partial(algorithm.act, learner.agent)
    return collect(parts.task.env, policy, learner.env_states, key, parts.config.learner.steps)


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
    parts: Parts, judge: Judge, data: Numbers, seen: Float[Array, "*batch_shape"]
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


def _judged(
    parts: Parts,
    judge: Judge,
    recording: Recording,
    data: Numbers,
    wanted: Array,
    key: PRNGKeyArray,
) -> tuple[Judge, Array, Metrics]:
    """Returns the judge after new labels and a fit, its rewards of the rollout, and metrics."""
    key_ask, key_fit = jax.random.split(key)
    new, is_new = labeling.ask(
        key_ask, recording, judge.ensemble, parts.how, parts.asking, data, wanted
    )
    labels = ring.add(judge.labels, new, is_new)
    judge = judge._replace(labels=labels, asked=judge.asked + wanted)
    return judged(parts, judge, recording, data, key_fit)


def judged(
    parts: Parts, judge: Judge, recording: Recording, data: Numbers, key: PRNGKeyArray
) -> tuple[Judge, Array, Metrics]:
    """Returns the judge after a fit to its labels, its rewards of the rollout, and metrics."""
    how = parts.how._replace(loss=_loss(parts, judge.labels, data))
    ensemble, report = fit(key, judge.ensemble, how, judge.labels, factor=data["factor"])
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
