"""A chain with a trap as data: labels asked along the way against those of the untrained policy."""

from common.aggregates import Results
from common.comparisons import all_of, at_least_times, beats, near
from common.tables import Table
from common.verdicts import PAPER, Verdict, claim
from rlhf.human_preferences.judgements import RETURN, SOLVED
from rlhf.human_preferences.tables.pendulum import CONFIG, TRUE, row

CALM = "labels along the way, entropy bonus 0.01"
ONLINE, OFFLINE = "labels along the way", "labels of the untrained policy only"


@claim(PAPER, "Section 3.3")
def offline_fails(results: Results) -> Verdict:
    """Labels of the untrained policy alone are worse than as many asked along the way."""
    return beats(results[ONLINE, RETURN], results[OFFLINE, RETURN])


@claim()
def online_finds_the_best_place(results: Results) -> Verdict:
    """Labels along the way keep all seeds out of the trap, those before it none."""
    return all_of(near(results[ONLINE, SOLVED], 1.0, 0.0), near(results[OFFLINE, SOLVED], 0.0, 0.0))


@claim()
def online_is_as_good_as_the_true_reward(results: Results) -> Verdict:
    """Labels along the way give over 90 % of the true reward's return."""
    return at_least_times(results[ONLINE, RETURN], results[TRUE, RETURN], 0.9)


@claim(PAPER, "Section 2.2.1")
def entropy_bonus_is_what_to_tune(results: Results) -> Verdict:
    """More seeds get out of the trap with the larger entropy bonus."""
    return at_least_times(results[ONLINE, SOLVED], results[CALM, SOLVED], 1.0)


TABLE = Table(
    title="A chain with a trap: when labels are asked",
    source='Christiano et al. (2017), its ablation "no online queries", on a chain',
    config=CONFIG,
    cells=(
        *row(TRUE, {}, variant="task=chain,source=true", learns=False),
        *row(ONLINE, {}, variant="task=chain"),
        *row(CALM, {"learner.entropy": 0.01}, variant="task=chain"),
        *row(OFFLINE, {"labels.initial_share": 1.0}, variant="task=chain"),
    ),
    seeds=tuple(range(6)),
    headline=("offline_fails",),
    notes=(
        "No published value for this task. The reward rises to the right up to the twentieth cell "
        "and is -1 behind it; no random walk of 50 steps comes that far. Clips have 10 steps; the "
        "entropy bonus is 0.05 unless a row says so, chosen after three pilot seeds that are not "
        "among these. "
        f"{SOLVED}: share of seeds with a return above 20 of 50 steps.",
    ),
)
