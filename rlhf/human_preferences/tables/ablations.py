"""Ablations as data: what each part of the method is worth, where it can matter."""

from typing import Any

from common.aggregates import Results
from common.comparisons import beats, not_worse
from common.tables import Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import RETURN, SOLVED
from rlhf.human_preferences.tables.pendulum import CONFIG, MAIN, row

RANDOM, ALONE, OFFLINE = "random queries", "no ensemble", "no online queries"
FREE, SHORT, TARGETS = "no regularization", "no segments (k = 1)", "targets"
CALM, STIFF = "no entropy bonus", "penalty that starts at 0.3"
ONE_MEMBER = {"reward.used_members": 1, "queries.at_random": True}
ROWS: dict[str, dict[str, Any]] = {
    MAIN: {},
    RANDOM: {"queries.at_random": True},
    ALONE: ONE_MEMBER,
    OFFLINE: {"labels.initial_share": 1.0},
    FREE: {"reward.coefficient": 0.0, "reward.factor": 0.0},
    CALM: {"learner.entropy": 0.0},
    STIFF: {"reward.coefficient": 0.3},
    SHORT: {"clip.length": 1},
    TARGETS: {},
}
VARIANTS = {TARGETS: "source=targets"}


@claim(PAPER, "Section 3.3")
def offline_labels_are_worse(results: Results) -> Verdict:
    """Labels of the untrained policy alone are worse."""
    return beats(results[MAIN, RETURN], results[OFFLINE, RETURN])


@claim(PAPER, "Section 3.3")
def single_steps_are_worse(results: Results) -> Verdict:
    """Comparisons of single steps are worse than of clips."""
    return beats(results[MAIN, RETURN], results[SHORT, RETURN])


@claim(PAPER, "Section 3.3")
def targets_are_worse(results: Results) -> Verdict:
    """Regression on clip rewards that are told is worse than comparisons."""
    return beats(results[MAIN, RETURN], results[TARGETS, RETURN])


@claim(PAPER, "Section 3.3")
def chosen_queries_do_not_always_help(results: Results) -> Verdict:
    """Random queries are no worse than those with the largest variance, on some tasks."""
    return not_worse(results[RANDOM, RETURN], results[MAIN, RETURN])


@claim()
def ensemble_helps(results: Results) -> Verdict:
    """Three members beat one."""
    return beats(results[MAIN, RETURN], results[ALONE, RETURN])


@claim()
def regularization_helps(results: Results) -> Verdict:
    """The adjusted l2 penalty beats none."""
    return beats(results[MAIN, RETURN], results[FREE, RETURN])


@claim()
def entropy_bonus_helps(results: Results) -> Verdict:
    """The entropy bonus beats none."""
    return beats(results[MAIN, RETURN], results[CALM, RETURN])


@claim()
def a_high_penalty_to_start_with_hurts(results: Results) -> Verdict:
    """A penalty that starts at 0.01 beats one that starts at 0.3."""
    return beats(results[MAIN, RETURN], results[STIFF, RETURN])


TABLE = Table(
    title="Ablations on the pendulum, 60 labels each",
    source="Christiano et al. (2017), its ablations, on a pendulum",
    config=CONFIG,
    cells=tuple(
        cell
        for name, overrides in ROWS.items()
        for cell in row(name, overrides, variant=VARIANTS.get(name, ""))
    ),
    seeds=tuple(range(6)),
    headline=("offline_labels_are_worse",),
    notes=(
        "No published value: the paper draws curves. Everything else as in table pendulum; "
        f"{SOLVED}: share of seeds with a return above -250.",
    ),
)
