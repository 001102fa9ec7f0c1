"""The paper's robots in MuJoCo as data: rewards from 350 and 700 labels against the true ones."""

from typing import Any

from common.aggregates import Results
from common.comparisons import above, all_of, at_least_times, not_worse
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import SHOWN, UNTRAINED, gain
from rlhf.human_preferences.tables.pendulum import STILL

TRUE, MAIN, FEW = "reward given", "700 labels", "350 labels"
CHEETAH, STEADY = "half-cheetah", "half-cheetah at 2 m/s"
TASKS = {CHEETAH: "half_cheetah", "reacher": "reacher", "pendulum": "inverted_pendulum"}
STEADY_STEPS: dict[str, Any] = {"num_steps": 50}  # 200,000 environment steps


def column(name: str, task: str, metric: str, extra: dict[str, Any]) -> tuple[Cell, ...]:
    """Returns the cells of a task: with its reward, with labels, and of the untrained policy."""
    given = f"task={task},source=true"
    return (
        Cell(TRUE, name, extra, metric, variant=given),
        Cell(MAIN, name, {**extra, "labels.total": 700}, metric, variant=f"task={task}"),
        Cell(FEW, name, {**extra, "labels.total": 350}, metric, variant=f"task={task}"),
        Cell(UNTRAINED, name, STILL, metric, variant=given),
    )


@claim(PAPER, "Section 3.1.1")
def labels_give_half(results: Results) -> Verdict:
    """700 labels give at least half of what the true reward gives in as many steps, on each."""
    return all_of(
        *(
            at_least_times(gain(results, MAIN, name), gain(results, TRUE, name), 0.5)
            for name in TASKS
        )
    )


@claim(PAPER, "Section 3.1.1")
def labels_nearly_match(results: Results) -> Verdict:
    """They give at least 90 %."""
    return all_of(
        *(
            at_least_times(gain(results, MAIN, name), gain(results, TRUE, name), 0.9)
            for name in TASKS
        )
    )


@claim(PAPER, "Section 3.1.1")
def more_labels_are_not_worse(results: Results) -> Verdict:
    """700 labels are not worse than 350."""
    return all_of(*(not_worse(results[MAIN, name], results[FEW, name]) for name in TASKS))


@claim(PAPER, "Section 3.2")
def one_speed_is_learned(results: Results) -> Verdict:
    """From 350 labels of one who wants 2 m/s the mean distance from that is under 0.5 m/s."""
    return above(results[FEW, STEADY], -0.5)


def _cheetah(row: str, labels: int, name: str, metric: str) -> Cell:
    return Cell(row, name, {"labels.total": labels}, metric, variant="task=half_cheetah")


TABLE = Table(
    title="Robots in MuJoCo: policies learned from comparisons of clips against the true reward",
    source="Christiano et al. (2017), three of its eight tasks",
    config="rlhf/human_preferences/configs/mujoco.py",
    cells=(
        *column(CHEETAH, TASKS[CHEETAH], "return", {}),
        *column("reacher", TASKS["reacher"], "return", {}),
        *column("pendulum", TASKS["pendulum"], "return", {}),
        *(
            cell
            for cell in column(STEADY, "steady_run", "per_step", STEADY_STEPS)
            if cell.row != MAIN
        ),
        _cheetah(MAIN, 700, "agreement, half-cheetah", "agreement"),
        _cheetah(FEW, 350, "agreement, half-cheetah", "agreement"),
        _cheetah(MAIN, 700, SHOWN, "shown_percent"),
        _cheetah(FEW, 350, SHOWN, "shown_percent"),
    ),
    seeds=(0, 1, 2),
    headline=("labels_give_half", "one_speed_is_learned"),
    notes=(
        "No published value: the paper draws curves. Returns per episode by the true reward, the "
        "cost of control left out: of the half-cheetah after 320,000 steps, its way in meters over "
        "50 s times 20; of the reacher after 200,000; of the inverted pendulum after 80,000.",
        "At 2 m/s: the rater wants that speed and no more; minus the mean distance from it, in "
        "m/s, after 200,000 steps. Agreement: share of pairs of clips that the reward model orders "
        "as the true reward does.",
        "The paper does not state how long its runs are; these are as long as two cores allow in "
        "minutes.",
    ),
)
