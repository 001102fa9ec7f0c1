"""A half-cheetah that is to run at 2 m/s as data, for longer than in the table mujoco."""

from typing import Any

from common.aggregates import Results
from common.comparisons import above, not_worse
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.tables.mujoco import FEW, STEADY, TRUE

AWAY = f"{STEADY}, minus the distance from it"
LONGER: dict[str, Any] = {"num_steps": 120}  # 480,000 environment steps
ASKED: dict[str, Any] = {**LONGER, "labels.total": 400}


@claim(PAPER, "Section 3.2")
def one_speed_is_learned(results: Results) -> Verdict:
    """From 400 labels of one who wants 2 m/s the mean distance from that is under 0.5 m/s."""
    return above(results[FEW, AWAY], -0.5)


@claim()
def the_distance_itself_is_no_better(results: Results) -> Verdict:
    """A policy that is rewarded for the distance itself does not come nearer than from labels."""
    return not_worse(results[FEW, AWAY], results[TRUE, AWAY])


TABLE = Table(
    title="A half-cheetah that is to run at 2 m/s and no faster",
    source="Christiano et al. (2017), Sec. 3.2, of a robot that keeps up with others",
    config="rlhf/human_preferences/configs/mujoco.py",
    cells=(
        Cell(TRUE, AWAY, LONGER, "per_step", variant="task=steady_run,source=true"),
        Cell(FEW, AWAY, ASKED, "per_step", variant="task=steady_run"),
        Cell(FEW, "agreement", ASKED, "agreement", variant="task=steady_run"),
        Cell(FEW, "% of steps shown", ASKED, "shown_percent", variant="task=steady_run"),
    ),
    seeds=(0, 1, 2),
    headline=("one_speed_is_learned",),
    notes=(
        "No published value. Minus the mean distance from 2 m/s, in m/s, over episodes of 50 s, "
        "after 480,000 environment steps: 2.4 times as many as in the table mujoco, whose policies "
        "still came nearer when they ended. One that stands still is 2 m/s away.",
    ),
)
