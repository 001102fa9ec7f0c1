"""Steps whose rater is a person: answers come from outside, to pairs that earlier steps chose.

A step of `human_preferences.learning` asks and learns from the answers at once. People take their
time: here a step takes the answers that have come, acts, fits, learns, and chooses the next pairs,
which stay in the state until they are written to the store. All else is the same functions.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from common.experiment import Metrics
from rlhf import buffer as ring
from rlhf.ensemble import Labels, bootstrap_weights, pair_logits
from rlhf.envs.environment import drawn
from rlhf.human_preferences import labeling, learning
from rlhf.human_preferences.learning import Batch, Numbers, Parts
from rlhf.human_preferences.models import learner_of
from rlhf.human_preferences.plan import first_labels
from rlhf.preference import TIE, clip_sum
from rlhf.raters import fit_errors
from rlhf.rollouts import Rollout, rewards_of
from rlhf.training import Learner

CHECK = 1  # the last of the pairs that a step chooses: of known answer


class Filmed(NamedTuple):
    """A rollout as people see it and reward models do; see `labeling.Recording`.

    Attributes:
        seen: What the reward model sees of every step.
        goal: What the task pays for: known of simulated tasks, and never learned from.
        is_first: Whether a step is the first of an episode.
        pictures: What is drawn, see `rlhf.envs.environment.drawn`.
    """

    seen: Shaped[Array, "steps envs *shape"]
    goal: Float[Array, "steps envs"]
    is_first: Bool[Array, "steps envs"]
    pictures: dict[str, Shaped[Array, "steps envs ..."]]


class Shown(NamedTuple):
    """Pairs that a step chose, one for each slot, and the one of known answer.

    Attributes:
        seen: Of both clips.
        pictures: What they look like.
        goal: True clip rewards.
    """

    seen: Shaped[Array, "pairs 2 k *shape"]
    pictures: dict[str, Shaped[Array, "pairs 2 k ..."]]
    goal: Float[Array, "pairs 2"]


class State(NamedTuple):
    """Everything a run with people remembers; `shown` is written to the store by the next step."""

    learner: Learner
    judge: Any
    shown: Shown


def room(parts: Parts) -> int:
    """Returns the most labels that a step takes: those of the untrained policy come at once."""
    return max(parts.asking.slots, first_labels(parts.config))


def blank_batch(parts: Parts) -> Batch:
    """Returns the arrays that answers come in, without any."""
    length, count, seen = parts.asking.length, room(parts), parts.network.seen
    return {
        "seen": np.zeros((count, 2, length, *seen.shape), seen.dtype),
        "preferred": np.zeros(count, np.float32),
        "is_new": np.zeros(count, np.float32),
    }


def init(parts: Parts, key: PRNGKeyArray) -> State:
    """Returns the state before the first step: nobody has been shown anything."""
    learner, judge = learning.init(parts, key)
    count, length = parts.asking.slots + CHECK, parts.asking.length
    state = jax.tree.map(lambda x: x[0], learner.env_states.state)
    like = jax.eval_shape(partial(drawn, parts.task.env), state)
    blank = jax.tree.map(lambda x: jnp.zeros((count, 2, length, *x.shape), x.dtype), like)
    seen = jnp.zeros((count, 2, length, *parts.network.seen.shape), parts.network.seen.dtype)
    return State(learner, judge, Shown(seen, blank, jnp.zeros((count, 2))))


def step(
    parts: Parts, state: State, data: Numbers, batch: Batch, key: PRNGKeyArray
) -> tuple[State, Metrics]:
    """Returns the state after new answers, one rollout, one update and a choice of pairs.

    Source: Christiano et al. (2017), Sec. 2.2, its three processes in a fixed order.

    Args:
        parts: Of the config.
        state: Before.
        data: The numbers of the config, see `human_preferences.numbers`.
        batch: Answers, how many pairs to choose, and whether the policy learns.
        key: Of this step.
    """
    key_rollout, key_judge, key_update = jax.random.split(key, 3)
    key_weights, key_fit, key_shown = jax.random.split(key_judge, 3)
    algorithm = learner_of(parts.config, parts.networks, data)
    told = _told(parts, state.judge, batch, key_weights)

    def judging(rollout: Rollout) -> Any:
        recording = recorded(filmed(parts, rollout))
        return learning.judged(parts, told, recording, data, key_fit, rounds=batch["rounds"])

    before, keys = learning.State(state.learner, told), (key_rollout, key_update)
    played = learning.played(parts, algorithm, before, data, batch, keys, judging)
    (learner, judge), rollout, said = played
    shown = _chosen(parts, judge, filmed(parts, rollout), data, batch["labels"], key_shown)
    answers = judge.labels.count.astype(jnp.float32)
    said = {"return": learning.mean_return(parts, rollout), "answers": answers, **said}
    return State(learner, judge, shown), said


def filmed(parts: Parts, rollout: Rollout) -> Filmed:
    """Returns a rollout as clips are cut from it."""
    return Filmed(
        seen=learning.seen_in(parts, rollout),
        goal=rewards_of(parts.task.goal, rollout),
        is_first=learning.first_steps(rollout),
        pictures=jax.vmap(jax.vmap(partial(drawn, parts.task.env)))(rollout.states),
    )


def recorded(film: Filmed) -> labeling.Recording:
    """Returns what a reward model is fitted to: it needs no pictures."""
    return labeling.Recording(film.seen, film.goal, film.is_first)


def _told(parts: Parts, judge: learning.Judge, batch: Batch, key: PRNGKeyArray) -> learning.Judge:
    """Returns the judge with the answers of a batch among its labels."""
    count, members = len(batch["is_new"]), len(judge.ensemble.coefficient)
    drawn = bootstrap_weights(key, count, members)
    new = Labels(batch["seen"], batch["preferred"], jnp.zeros((count, 2)), drawn)
    labels = ring.add(judge.labels, new, batch["is_new"] > 0)
    return judge._replace(labels=labels, asked=judge.asked + batch["labels"])


def _chosen(
    parts: Parts,
    judge: learning.Judge,
    film: Filmed,
    data: Numbers,
    wanted: Array,
    key: PRNGKeyArray,
) -> Shown:
    """Returns the pairs to show: the most uncertain ones, and the one that is easiest to tell."""
    key_cut, key_choice = jax.random.split(key)
    pairs = labeling.candidates(key_cut, film, parts.asking)
    chosen, _ = labeling.choose_pairs(
        key_choice, pairs.seen, judge.ensemble, parts.how, parts.asking, data, wanted
    )
    worth = clip_sum(pairs.goal)
    easiest = jnp.argmax(jnp.abs(worth[:, 0] - worth[:, 1]))
    places = jnp.append(chosen, easiest)
    pictures = {name: clips[places] for name, clips in pairs.pictures.items()}
    return Shown(pairs.seen[places], pictures, worth[places])


def errors_of_raters(
    parts: Parts, judge: learning.Judge, rater: Array, count: int
) -> Float[Array, " raters"]:
    """Returns the share of answers that each rater gives at random, by out-of-bag predictions.

    Args:
        parts: Of the config.
        judge: Ensemble and labels.
        rater: Who gave the label at each place of the ring, numbers below `count`.
        count: Of raters.
    """
    rows = judge.labels.rows
    logits = pair_logits(judge.ensemble, parts.how, rows.clips)
    out_of_bag = (rows.weights.T == 0) & jnp.expand_dims(ring.is_held(judge.labels), 0)
    number = jnp.sum(out_of_bag, axis=0)
    mean = jnp.sum(jnp.where(out_of_bag, logits, 0), axis=0) / jnp.maximum(number, 1)
    preferred = jnp.where(number > 0, rows.preferred, TIE)  # ties are left out
    return fit_errors(mean, preferred, rater, raters=count)
