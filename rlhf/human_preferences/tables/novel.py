"""A pendulum that is to spin as data: behavior that the task never rewards, from comparisons."""

from common.aggregates import Results
from common.comparisons import above, at_least_times
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import CORRELATION, SHOWN
from rlhf.human_preferences.tables.pendulum import CONFIG, MAIN

GIVEN, SPEED = "spin reward given", "mean velocity (rad/s)"


@claim(PAPER, "Section 3.2")
def novel_behavior_is_learned(results: Results) -> Verdict:
    """Sixty labels of one who prefers rotation give more than 5 rad/s."""
    return above(results[MAIN, SPEED], 5.0)


@claim()
def as_fast_as_with_the_reward(results: Results) -> Verdict:
    """That is over 90 % of the velocity that the reward itself gives."""
    return at_least_times(results[MAIN, SPEED], results[GIVEN, SPEED], 0.9)


TABLE = Table(
    title="A pendulum that is to spin: behavior for which the task has no reward",
    source="Christiano et al. (2017), its novel behaviors, on a pendulum",
    config=CONFIG,
    cells=(
        Cell(GIVEN, SPEED, {}, "per_step", variant="task=spin,source=true"),
        Cell(MAIN, SPEED, {}, "per_step", variant="task=spin"),
        Cell(MAIN, CORRELATION, {}, "correlation", variant="task=spin"),
        Cell(MAIN, SHOWN, {}, "shown_percent", variant="task=spin"),
    ),
    seeds=tuple(range(6)),
    headline=("novel_behavior_is_learned",),
    notes=(
        "No published value: the paper shows videos. Angular velocity over episodes of 200 steps "
        "that begin anywhere, mostly hanging; the pendulum is never faster than 8 rad/s.",
    ),
)
