"""Robots of the paper in MuJoCo as data: rewards from 700 labels against the true ones."""

from typing import Any

from common.aggregates import Results
from common.comparisons import above, all_of, at_least_times
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import CORRELATION, SHOWN, UNTRAINED, gain
from rlhf.human_preferences.tables.pendulum import STILL

TRUE, MAIN, FEW = "reward given", "700 labels", "400 labels"
CHEETAH, STEADY = "half-cheetah", "half-cheetah at 2 m/s"
OTHERS = {"inverted pendulum": "inverted_pendulum"}
LABELS: dict[str, Any] = {"labels.total": 700}
STEADY_RUN: dict[str, Any] = {"num_steps": 50, "labels.total": 400}  # 200,000 environment steps
OF_REWARD = {CORRELATION: "correlation", "agreement": "agreement", SHOWN: "shown_percent"}


def column(name: str, task: str) -> tuple[Cell, ...]:
    """Returns the cells of a task: with its reward, with labels, and of the untrained policy."""
    given = f"task={task},source=true"
    return (
        Cell(TRUE, name, {}, "return", variant=given),
        Cell(MAIN, name, LABELS, "return", variant=f"task={task}"),
        Cell(UNTRAINED, name, STILL, "return", variant=given),
    )


def at_least_a_share(results: Results, share: float) -> Verdict:
    """Returns whether labels give that share of what the true reward gives, on every robot.

    An untrained half-cheetah stays where it is: its gain is its return.
    """
    cheetah = at_least_times(results[MAIN, CHEETAH], results[TRUE, CHEETAH], share)
    others = (
        at_least_times(gain(results, MAIN, name), gain(results, TRUE, name), share)
        for name in OTHERS
    )
    return all_of(cheetah, *others)


@claim(PAPER, "Section 3.1.1")
def labels_give_half(results: Results) -> Verdict:
    """700 labels give at least half of what the true reward gives in as many steps, on each."""
    return at_least_a_share(results, 0.5)


@claim(PAPER, "Section 3.1.1")
def labels_nearly_match(results: Results) -> Verdict:
    """They give at least 90 %."""
    return at_least_a_share(results, 0.9)


@claim(PAPER, "Section 3.2")
def one_speed_is_learned(results: Results) -> Verdict:
    """From 400 labels of one who wants 2 m/s the mean distance from that is under 0.5 m/s."""
    return above(results[FEW, STEADY], -0.5)


TABLE = Table(
    title="Robots in MuJoCo: policies learned from comparisons of clips against the true reward",
    source="Christiano et al. (2017), two of its eight tasks, and a speed",
    config="rlhf/human_preferences/configs/mujoco.py",
    cells=(
        Cell(TRUE, CHEETAH, {}, "return", variant="task=half_cheetah,source=true"),
        Cell(MAIN, CHEETAH, LABELS, "return", variant="task=half_cheetah"),
        *(cell for name, task in OTHERS.items() for cell in column(name, task)),
        Cell(FEW, STEADY, STEADY_RUN, "per_step", variant="task=steady_run"),
        *(
            Cell(MAIN, f"half-cheetah, {name}", LABELS, metric, variant="task=half_cheetah")
            for name, metric in OF_REWARD.items()
        ),
    ),
    seeds=(0, 1, 2),
    headline=("labels_give_half", "one_speed_is_learned"),
    notes=(
        "No published value: the paper draws curves, of runs whose length it does not state. These "
        "are as long as two cores allow in minutes: 320,000 environment steps of the half-cheetah, "
        "80,000 of the pendulum. Return per episode by the true reward, without a cost of control: "
        "20 times the way in meters of 50 s; minus squared angles of 25 steps.",
        "At 2 m/s: the rater wants that speed and no more; minus the mean distance from it in m/s, "
        "after 200,000 steps. Agreement: share of fresh pairs of clips that the reward model "
        "orders as the true reward does. The entropy bonus was chosen on another seed.",
    ),
    reasons={
        "labels_nearly_match": "One seed of three finds a faster gait with the true reward (a "
        "return of 3,060; the others 1,694 and 1,812), and none does from labels (1,621 to 1,845): "
        "the median of the half-cheetah is 92 % of the one with the true reward, its mean is not.",
        "one_speed_is_learned": "In 200,000 steps a half-cheetah does not yet run at 2 m/s: those "
        "that are rewarded for speed itself have come to 0.9 to 1.4 m/s by then, these to 0.7 to "
        "1.2, and their distance from 2 m/s was still shrinking when the run ended.",
    },
)
