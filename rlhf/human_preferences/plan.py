"""What every step of a run asks for, known before it begins: labels, and whether a policy learns.

The first steps of a run are those of the untrained policy: they ask for the initial labels, as many
a step as there are slots, and leave the policy as it is. Epochs of pretraining, if there are any,
come with the last of them.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from rlhf import schedule
from rlhf.schedule import LabelSchedule

FROM_LABELS = ("preferences", "targets")  # sources of the reward that ask a rater


class Plan(NamedTuple):
    """A whole run, one entry for every step."""

    labels: np.ndarray  # int32, asked in the step
    learns: np.ndarray  # float32, 1 where the policy is updated
    rounds: np.ndarray  # int32, of the fit in the step


def make_plan(config: ConfigDict) -> Plan:
    """Returns the plan of a config.

    Raises:
        ValueError: If labels are asked for that no step has a slot for, or a schedule is none.
    """
    steps, section = config.num_steps, config.labels
    if config.reward.source not in FROM_LABELS:
        none = np.zeros(steps, np.int32)
        return Plan(none, np.ones(steps, np.float32), none)
    initial = first_labels(config)
    before = -(-initial // section.slots)
    if before >= steps:
        raise ValueError(
            f"config.labels: {initial} initial labels at {section.slots} a step take {before} "
            f"steps: expected fewer than config.num_steps={steps}"
        )
    after = steps - before
    size = after * config.learner.envs * config.learner.steps
    plan = LabelSchedule(
        section.total, initial, size, section.constant_share * size, section.schedule
    )
    new = schedule.new_labels(plan, after)
    if new.max() > section.slots:
        raise ValueError(
            f"config.labels.slots={section.slots}: a step asks for up to {new.max()} labels"
        )
    first = np.diff(np.minimum(np.arange(before + 1) * section.slots, initial))
    labels = np.concatenate([first, new]).astype(np.int32)
    learns = np.arange(steps) >= before
    return Plan(labels, learns.astype(np.float32), _rounds(config, learns, initial))


def _rounds(config: ConfigDict, learns: np.ndarray, initial: int) -> np.ndarray:
    """Returns the rounds of every fit: with epochs before the policy learns, all at once there."""
    section = config.reward
    rounds = np.full(len(learns), section.rounds, np.int32)
    epochs = section.get("pretraining_epochs", 0)
    if epochs and not learns.all():
        updates = epochs * initial / section.batch_size
        rounds[~learns] = 0
        rounds[np.flatnonzero(~learns)[-1]] = np.ceil(updates / section.steps)
    return rounds


def first_labels(config: ConfigDict) -> int:
    """Returns how many labels are asked of the untrained policy, rounded up to one."""
    section = config.labels
    return int(np.ceil(section.initial_share * section.total - 1e-9))
