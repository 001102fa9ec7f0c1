"""The reacher in MuJoCo as data: from 350 and from 700 labels against its true reward."""

from typing import Any

from common.aggregates import Results
from common.comparisons import at_least_times, not_worse
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import RETURN, UNTRAINED, gain
from rlhf.human_preferences.tables.mujoco import LABELS, MAIN, TRUE
from rlhf.human_preferences.tables.pendulum import OF_REWARD, STILL

FEW = "350 labels"
HALF_OF_THEM: dict[str, Any] = {"labels.total": 350}
TAUGHT, GIVEN = "task=reacher", "task=reacher,source=true"


def row(name: str, overrides: dict[str, Any]) -> tuple[Cell, ...]:
    """Returns the cells of a reward from labels: of its policy, and of its reward model."""
    columns = {RETURN: "return", **OF_REWARD}
    return tuple(
        Cell(name, column, overrides, metric, variant=TAUGHT) for column, metric in columns.items()
    )


@claim()
def few_labels_give_half(results: Results) -> Verdict:
    """350 labels give at least half of what the true reward gives in as many steps."""
    return at_least_times(gain(results, FEW), gain(results, TRUE), 0.5)


@claim(PAPER, "Section 3.1.1")
def labels_nearly_match(results: Results) -> Verdict:
    """700 labels give at least 90 % of it."""
    return at_least_times(gain(results, MAIN), gain(results, TRUE), 0.9)


@claim()
def twice_the_labels_are_no_worse(results: Results) -> Verdict:
    """700 labels are not beaten by 350."""
    return not_worse(results[MAIN, RETURN], results[FEW, RETURN])


TABLE = Table(
    title="The reacher in MuJoCo, learned from comparisons of clips",
    source="Christiano et al. (2017), one of its eight tasks",
    config="rlhf/human_preferences/configs/mujoco.py",
    cells=(
        Cell(TRUE, RETURN, {}, "return", variant=GIVEN),
        *row(FEW, HALF_OF_THEM),
        *row(MAIN, LABELS),
        Cell(UNTRAINED, RETURN, STILL, "return", variant=GIVEN),
    ),
    seeds=(0, 1, 2),
    headline=("few_labels_give_half", "labels_nearly_match"),
    reasons={
        "labels_nearly_match": "The policy waits for the first quarter of the labels, and its "
        "reward is learned while it moves: it was still coming nearer to the target when the run "
        "ended.",
    },
    notes=(
        "No published value: the paper draws curves, of runs whose length it does not state. These "
        "have 200,000 environment steps. Return per episode: minus the distance in meters from the "
        "target, over 50 steps, without a cost of control.",
        "Discount, decay and trust region were chosen by the true reward on a seed that is not "
        "among these. What is observed is in units of 0.2 m and 10 rad/s, of like size: reward "
        "models see it as it is. That this lets them learn is from a pilot without results.",
    ),
)
