"""Bounds beside the mass as data: the most likely profile that obeys either, or both."""

from common.aggregates import Results
from common.comparisons import above, all_of, at_most_times, below, every, near
from common.tables import Table, by_last_comma
from common.verdicts import CHECK, Claim, Verdict, claim
from sciml.probconserv.rows import (
    ABS_CE,
    ANP,
    BOTH,
    BOUNDED,
    CONFIG,
    LL,
    MSE,
    NOT_READ,
    OUTSIDE,
    PME,
    PROBCONSERV,
    STEFAN,
    WITHIN,
    better,
    cells,
    column,
)

LAWS = {"stefan": ("Stefan ", STEFAN), "pme": ("PME ", PME)}
PLACES = [title + param for title, params in LAWS.values() for param in params]


def _columns(what: str) -> list[str]:
    return [column(place, what) for place in PLACES]


@claim(CHECK)
def bounds_hold(results: Results) -> Verdict:
    """Rows within bounds never leave them, and with the mass they miss that by less than 2e-6."""
    inside = [near(results[row, c], 0.0, 0.0) for row in (WITHIN, BOTH) for c in _columns(OUTSIDE)]
    return all_of(*inside, every(below, results, BOTH, 2e-6, on=_columns(ABS_CE)))


@claim(CHECK)
def bounds_alone_never_raise_the_error(results: Results) -> Verdict:
    """The ANP within bounds has no higher MSE than the ANP: the truth is within them too."""
    return every(at_most_times, results, WITHIN, ANP, 1 + 1e-6, on=_columns(MSE))


@claim()
def conserving_means_leave_the_bounds(results: Results) -> Verdict:
    """ProbConserv-ANP, which conserves, leaves the bounds by more than 0.01 somewhere."""
    return every(above, results, PROBCONSERV, 0.01, on=_columns(OUTSIDE))


def _better(name: str, other: str, what: str, statement: str) -> Claim:
    return better(name, BOTH, other, what, PLACES, statement)


bounds_improve_mse = _better(
    "bounds_improve_mse",
    PROBCONSERV,
    MSE,
    "Bounds lower the MSE of ProbConserv-ANP, for every parameter.",
)
bounds_improve_ll = _better(
    "bounds_improve_ll",
    PROBCONSERV,
    LL,
    "Bounds raise the LL of ProbConserv-ANP, with the variances it had, for every parameter.",
)
mass_is_needed_beside_bounds = _better(
    "mass_is_needed_beside_bounds",
    WITHIN,
    MSE,
    "Both together have a lower MSE than bounds alone, for every parameter.",
)

TABLE = Table(
    title="Bounds 0 <= u <= 1 (Stefan) and 0 <= u (PME) beside the mass",
    source="ours; the paper has equations only",
    config=CONFIG,
    cells=tuple(
        cell
        for pde, (title, params) in LAWS.items()
        for cell in cells(pde, params, (OUTSIDE, ABS_CE, MSE, LL), rows=BOUNDED, title=title)
    ),
    split=by_last_comma,
    headline=("bounds_improve_mse", "bounds_hold"),
    notes=(
        NOT_READ,
        "Outside: by how much the mean leaves the bounds where it does so most, mean over 50 test "
        "functions. The rows are updates of the same trained networks, those of tables stefan and "
        "pme, made for every draw of z; mixtures of profiles within bounds are within them.",
        "Within bounds: the most likely profile of the prediction cut off at the bounds. Variances "
        "are those of the row without bounds, which no cut raises: intervals after it are not "
        "claimed to be calibrated, and LL is that of a Gaussian that reaches over the bounds.",
        "The claims were written before the numbers were seen.",
    ),
)
