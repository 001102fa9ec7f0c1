"""The position of the Stefan front in drawn profiles as data."""

from common.aggregates import Results
from common.comparisons import at_most_times, every
from common.tables import Table, by_last_comma
from common.verdicts import PAPER, Verdict, claim
from sciml.probconserv.rows import (
    ANP,
    BIAS,
    CONFIG,
    DIFFUSED,
    HARD,
    LOCAL,
    NOT_READ,
    PROBCONSERV,
    RMSE,
    SHOCK_SD,
    STEFAN,
    cells,
    column,
    some,
)


@claim(PAPER, "abstract")
def probconserv_locates_best(results: Results) -> Verdict:
    """ProbConserv-ANP has at most half the bias of ANP and of HardC-ANP at u*=0.6."""
    place = column("u*=0.6", BIAS)
    return every(at_most_times, results, PROBCONSERV, (ANP, HARD), 0.5, on=place)


@claim()
def probconserv_has_the_least_rmse(results: Results) -> Verdict:
    """ProbConserv-ANP has a lower RMSE of the shock than ANP and HardC-ANP, for both u*."""
    places = [column(param, RMSE) for param in STEFAN]
    return every(at_most_times, results, PROBCONSERV, (ANP, HARD), 1, on=places)


TABLE = Table(
    title="Stefan problem: position of the shock in profiles drawn from the prediction",
    source="Hansen et al. (2023), downstream task",
    config=CONFIG,
    cells=cells(
        "stefan",
        STEFAN,
        (BIAS, SHOCK_SD, RMSE),
        rows=some(ANP, HARD, PROBCONSERV, DIFFUSED, LOCAL),
    ),
    headline=("probconserv_locates_best",),
    split=by_last_comma,
    notes=(
        NOT_READ,
        "500 profiles of every test function; the shock is at the first point that is not above "
        "0. Bias: |mean position - exact position|; sd: of the positions of one function.",
        "All rows are drawn with their variances. The released script draws the unconstrained "
        "rows with the standard deviation in place of the variance, which inflates their noise.",
        "ProbConserv's profiles are projected draws of the ANP, so each of them has the exact "
        "mass.",
    ),
    reasons={
        "probconserv_locates_best": "The bias is lower, but seeds differ, and half of it is a lot "
        "to ask of so small a network.",
    },
)
