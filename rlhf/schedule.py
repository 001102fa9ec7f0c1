"""How many labels have been asked for after so many steps: whole numbers within a budget.

Everything here is NumPy in float64, a pure function of the step: what is asked at a step is known
before the run, to the rater as well.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Numbers = Any  # a number, or an array of them

REMAINS = 0.01  # share of the labels after the first that rl-teacher has left in the end


class LabelSchedule(NamedTuple):
    """A budget of labels over a run.

    Attributes:
        total: Labels in all.
        initial: Labels of the untrained policy, asked before the first step.
        horizon: Environment steps of the run.
        constant: c of the paper's rate, proportional to c / (T + c), in environment steps.
        name: "hyperbolic", "exponential" (rl-teacher) or "constant".
    """

    total: int
    initial: int
    horizon: float
    constant: float = 0.0
    name: str = "hyperbolic"


def hyperbolic(share: Numbers, schedule: LabelSchedule) -> Numbers:
    """Returns the share of the labels after the first that is due, of a rate like c / (T + c).

    Source: Christiano et al. (2017), App. A.1, its rate integrated.
    """
    ratio = schedule.horizon / schedule.constant
    return np.log1p(share * ratio) / np.log1p(ratio)


def exponential(share: Numbers, schedule: LabelSchedule) -> Numbers:
    """Returns the share of the labels after the first that is due: 1 - 0.01^share.

    Source: rl-teacher, released code.
    """
    del schedule
    return 1 - REMAINS**share


def constant(share: Numbers, schedule: LabelSchedule) -> Numbers:
    """Returns the share itself: labels are asked for at one rate."""
    del schedule
    return share


SCHEDULES: dict[str, Callable[[Numbers, LabelSchedule], Numbers]] = {
    "hyperbolic": hyperbolic,
    "exponential": exponential,
    "constant": constant,
}


def check(schedule: LabelSchedule) -> None:
    """Checks the numbers of a schedule.

    Raises:
        ValueError: Naming the first field that is out of range.
    """
    for wrong, field, allowed in (
        (schedule.name not in SCHEDULES, "name", f"one of {', '.join(SCHEDULES)}"),
        (schedule.total < 0, "total", "a budget of at least 0 labels"),
        (not 0 <= schedule.initial <= schedule.total, "initial", f"0 to total={schedule.total}"),
        (not schedule.horizon > 0, "horizon", "more than 0 steps"),
        (schedule.name == "hyperbolic" and not schedule.constant > 0, "constant", "more than 0"),
    ):
        if wrong:
            value = getattr(schedule, field)
            raise ValueError(f"label schedule: {field}={value!r}: expected {allowed}")


def exact_labels(schedule: LabelSchedule, steps: Numbers) -> Numbers:
    """Returns how many labels are due after so many environment steps, not yet whole numbers."""
    share = np.clip(np.asarray(steps, np.float64) / schedule.horizon, 0.0, 1.0)
    due = SCHEDULES[schedule.name](share, schedule)
    return schedule.initial + (schedule.total - schedule.initial) * due


def labels(schedule: LabelSchedule, steps: Numbers) -> Numbers:
    """Returns how many labels have been asked for after so many steps: rounded down, never more.

    Source: Christiano et al. (2017), App. A.

    Raises:
        ValueError: For a schedule that is none.
    """
    check(schedule)
    due = np.floor(exact_labels(schedule, steps) + 1e-9)  # 199.9999999999 are 200
    return np.minimum(due, schedule.total).astype(np.int64)


def new_labels(schedule: LabelSchedule, rounds: int) -> np.ndarray:
    """Returns how many labels each of `rounds` equal parts of a run asks for, after the initial.

    Those due at the end of a part are asked for in it: in all they are the whole budget, as far as
    the schedule spends it.
    """
    ends = np.arange(rounds + 1) / rounds * schedule.horizon
    return np.diff(labels(schedule, ends))
