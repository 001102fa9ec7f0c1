"""Robots in MuJoCo from 350 labels as data, and the reacher, which the table mujoco lacks."""

from typing import Any

from common.aggregates import Results
from common.comparisons import all_of, at_least_times
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import UNTRAINED, gain
from rlhf.human_preferences.tables.mujoco import CHEETAH, LABELS, MAIN, TRUE
from rlhf.human_preferences.tables.pendulum import STILL

FEW = "350 labels"
REACHER, PENDULUM = "reacher", "inverted pendulum"
TASKS = {REACHER: "reacher", PENDULUM: "inverted_pendulum", CHEETAH: "half_cheetah"}
HALF_OF_THEM: dict[str, Any] = {"labels.total": 350}


def column(name: str) -> tuple[Cell, ...]:
    """Returns the cells of a task: with its reward, and with 350 labels."""
    task = f"task={TASKS[name]}"
    return (
        Cell(TRUE, name, {}, "return", variant=f"{task},source=true"),
        Cell(FEW, name, HALF_OF_THEM, "return", variant=task),
    )


def untrained(name: str) -> Cell:
    """Returns the cell of a policy that does not learn."""
    return Cell(UNTRAINED, name, STILL, "return", variant=f"task={TASKS[name]},source=true")


@claim(PAPER, "Section 3.1.1")
def few_labels_give_half(results: Results) -> Verdict:
    """350 labels give at least half of what the true reward gives in as many steps, on each."""
    cheetah = at_least_times(results[FEW, CHEETAH], results[TRUE, CHEETAH], 0.5)
    others = (
        at_least_times(gain(results, FEW, name), gain(results, TRUE, name), 0.5)
        for name in (REACHER, PENDULUM)
    )
    return all_of(cheetah, *others)  # an untrained half-cheetah stays where it is


@claim(PAPER, "Section 3.1.1")
def the_reacher_is_learned(results: Results) -> Verdict:
    """700 labels give the reacher at least 90 % of what its true reward gives."""
    return at_least_times(gain(results, MAIN, REACHER), gain(results, TRUE, REACHER), 0.9)


TABLE = Table(
    title="Robots in MuJoCo from 350 labels, half as many as in the table mujoco",
    source="Christiano et al. (2017), three of its eight tasks",
    config="rlhf/human_preferences/configs/mujoco.py",
    cells=(
        *column(REACHER),
        Cell(MAIN, REACHER, LABELS, "return", variant="task=reacher"),
        untrained(REACHER),
        *column(PENDULUM),
        untrained(PENDULUM),
        *column(CHEETAH),
    ),
    seeds=(0, 1, 2),
    headline=("few_labels_give_half",),
    notes=(
        "No published value: the paper draws curves, of runs whose length it does not state. "
        "320,000 environment steps of the half-cheetah, 80,000 of the pendulum, 200,000 of the "
        "reacher. Return per episode by the true reward, without a cost of control: 20 times the "
        "way in meters of 50 s; minus squared angles of 25 steps; minus the distance in meters "
        "from the target, over 50 steps.",
        "Discount, decay and trust region of the reacher were chosen by its true reward on a seed "
        "that is not among these.",
    ),
)
