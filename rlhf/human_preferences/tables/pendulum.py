"""The pendulum as data: a reward from few labels against the true one, by number of labels."""

from typing import Any

from common.aggregates import Results
from common.comparisons import all_of, at_least_times, beats, below, near, not_worse
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import (
    CORRELATION,
    RETURN,
    SHOWN,
    SOLVED,
    UNTRAINED,
    gain,
    median_above,
)

CONFIG = "rlhf/human_preferences/configs/control.py"
TRUE, MAIN = "true reward", "60 labels"
LABELS = {"20 labels": 20, MAIN: 60, "200 labels": 200}
OF_POLICY = {RETURN: "return", SOLVED: "solved"}
OF_REWARD = {CORRELATION: "correlation", "agreement": "agreement", SHOWN: "shown_percent"}
# Five steps of a policy that cannot move.
STILL: dict[str, Any] = {"num_steps": 5, "learner.kl_limit": 1e-12}


def row(
    name: str, overrides: dict[str, Any], *, variant: str = "", learns: bool = True
) -> tuple[Cell, ...]:
    """Returns the cells of a row: of its policy, and of its reward model if it has one."""
    columns = {**OF_POLICY, **(OF_REWARD if learns else {})}
    return tuple(
        Cell(name, column, overrides, metric, variant=variant) for column, metric in columns.items()
    )


@claim(PAPER, "Section 3.1.1")
def labels_nearly_match(results: Results) -> Verdict:
    """Sixty labels give over 90 % of what the true reward gives, in the mean and in the median."""
    pair = gain(results, MAIN), gain(results, TRUE)
    return all_of(at_least_times(*pair, 0.9), median_above(*pair, 0.9))


@claim(PAPER, "abstract")
def little_is_shown(results: Results) -> Verdict:
    """They compare clips of less than 1 % of the steps."""
    return below(results[MAIN, SHOWN], 1.0)


@claim(PAPER, "Section 3.1.1")
def most_labels_beat_the_true_reward(results: Results) -> Verdict:
    """With the most labels runs are better than with the true reward."""
    return beats(results["200 labels", RETURN], results[TRUE, RETURN])


@claim()
def more_labels_help_and_saturate(results: Results) -> Verdict:
    """Sixty labels beat twenty, and two hundred give less than 10 % more than sixty."""
    few, some, many = (gain(results, name) for name in LABELS)
    return all_of(beats(some, few), not_worse(many, some), at_least_times(some, many, 0.9))


@claim()
def more_labels_mend_the_seed_that_fails(results: Results) -> Verdict:
    """Two hundred labels, fifty of them of the untrained policy, solve every seed."""
    return near(results["200 labels", SOLVED], 1.0, 0.0)


TABLE = Table(
    title="Pendulum: a policy learned from comparisons of clips against one on the true reward",
    source="Christiano et al. (2017), its control tasks, on a pendulum",
    config=CONFIG,
    cells=(
        *row(UNTRAINED, STILL, variant="source=true", learns=False),
        *row(TRUE, {}, variant="source=true", learns=False),
        *(cell for name, number in LABELS.items() for cell in row(name, {"labels.total": number})),
    ),
    seeds=tuple(range(6)),
    headline=("labels_nearly_match", "little_is_shown"),
    leads=True,
    notes=(
        "No published value: the paper draws curves. Return per episode of 200 steps, by the true "
        "reward, of 32 fresh episodes after 320,000 steps; solved: share of seeds above -250. "
        "Correlation of learned and true reward on those episodes; agreement: share of their pairs "
        "of clips that the reward model orders as the true reward does.",
        "A clip has 25 steps, two are shown for each label. A quarter of the labels is of the "
        "untrained policy.",
    ),
    reasons={
        "most_labels_beat_the_true_reward": "Both solve the task in every seed; what is left is "
        "the spread of where episodes begin, tens of units from seed to seed in either row.",
        "more_labels_help_and_saturate": "Four seeds of six are solved with 20 labels, five with "
        "60, six with 200: means differ by the seeds that are not, and six do not resolve that. Of "
        "the two that 20 labels leave, the rewards end with correlations of -0.04 and 0.71 with "
        "the true one; of the one that 60 leave with 0.96, while its policy is still at -540.",
    },
    repeat={TRUE: (RETURN,)},
)
