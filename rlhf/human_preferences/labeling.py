"""How a step gets labels: candidates cut from the rollout, the pairs worth showing, the answers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from rlhf import buffer as ring
from rlhf import queries, raters, segments
from rlhf.ensemble import Ensemble, Fit, Labels, bootstrap_weights, pair_logits
from rlhf.human_preferences.numbers import habits
from rlhf.preference import clip_sum

PyTree = Any


class Recording(NamedTuple):
    """A rollout as labels are made of it.

    Attributes:
        seen: What the reward model sees of every step.
        goal: What the rater values: no learner sees it.
        is_first: Whether a step is the first of an episode.
    """

    seen: Shaped[Array, "steps envs *shape"]
    goal: Float[Array, "steps envs"]
    is_first: Bool[Array, "steps envs"]


class Asking(NamedTuple):
    """How pairs are chosen and shown: sizes and names, no arrays.

    Attributes:
        slots: The most pairs that a step shows.
        length: Of clips.
        score: Name of the query score.
        has_targets: Whether the rater tells the true clip rewards too.
    """

    slots: int
    length: int
    score: str
    has_targets: bool


def blank(asking: Asking, seen: jax.ShapeDtypeStruct, members: int) -> Labels:
    """Returns one label of zeros, as a buffer is made for it, of what is `seen` in a step."""
    clips = jnp.zeros((2, asking.length, *seen.shape), seen.dtype)
    return Labels(clips, jnp.zeros(()), jnp.zeros(2), jnp.zeros(members))


def candidates(key: PRNGKeyArray, recording: Any, asking: Asking) -> Any:
    """Returns pairs of clips [pairs, 2, length, ...] drawn from a rollout, ten for each slot.

    `recording` is a `Recording`, or another tuple of arrays [steps, envs, ...] with `is_first`.
    """
    valid = segments.valid_starts(recording.is_first, asking.length)
    count = 2 * queries.CANDIDATES * asking.slots
    places = segments.draw_places(key, valid, count)
    return segments.pairs(segments.cut(recording, places, asking.length))


def choose_pairs(
    key: PRNGKeyArray,
    seen: Shaped[Array, "pairs 2 k *shape"],
    ensemble: Ensemble,
    how: Fit,
    asking: Asking,
    data: dict[str, Any],
    wanted: Int[Array, ""],
) -> tuple[Int[Array, " slots"], Bool[Array, " slots"]]:
    """Returns which candidates to show, one for every slot, and which slots are taken.

    Source: Christiano et al. (2017), Sec. 2.2.4.
    """
    weights = member_weights(data, len(ensemble.coefficient))
    scores = queries.make_score(asking.score)(pair_logits(ensemble, how, seen), weights)
    return queries.choose(key, scores, asking.slots, wanted=wanted, at_random=data["at_random"])


def ask(
    key: PRNGKeyArray,
    recording: Recording,
    ensemble: Ensemble,
    how: Fit,
    asking: Asking,
    data: dict[str, Any],
    wanted: Int[Array, ""],
) -> tuple[Labels, Bool[Array, " slots"]]:
    """Returns new labels, one for every slot, and which of them are any.

    Source: Christiano et al. (2017), Sec. 2.2.4.
    """
    key_cut, key_choice, key_answer, key_weights = jax.random.split(key, 4)
    pairs = candidates(key_cut, recording, asking)
    chosen, is_shown = choose_pairs(key_choice, pairs.seen, ensemble, how, asking, data, wanted)
    seen, goal = pairs.seen[chosen], pairs.goal[chosen]
    habit = habits(data)
    worth = raters.clip_scores(goal, discount=habit.discount)
    answers = raters.answer(key_answer, worth[:, 0], worth[:, 1], habit)
    # Zeros in learning from preferences: the true reward goes no further than the rater.
    targets = clip_sum(goal) if asking.has_targets else jnp.zeros((asking.slots, 2))
    drawn = bootstrap_weights(key_weights, asking.slots, len(ensemble.coefficient))
    return Labels(seen, answers.preferred, targets, drawn), is_shown & answers.is_given


def member_weights(data: dict[str, Any], members: int) -> Float[Array, " members"]:
    """Returns the weight of every member: 1 for those that are used, 0 for others."""
    return (jnp.arange(members) < data["used_members"]).astype(jnp.float32)


def target_scale(labels: ring.Buffer) -> tuple[Array, Array]:
    """Returns mean and standard deviation of the clip rewards that the buffer holds."""
    held = jnp.expand_dims(ring.is_held(labels), 1).astype(jnp.float32)
    total = jnp.maximum(2 * jnp.sum(held), 1.0)
    mean = jnp.sum(held * labels.rows.targets) / total
    variance = jnp.sum(held * (labels.rows.targets - mean) ** 2) / total
    return mean, jnp.sqrt(variance) + 1e-6
