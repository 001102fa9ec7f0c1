"""Coverage and CRPS before and after updates as data."""

from common.aggregates import Results
from common.comparisons import above, all_of, below
from common.tables import Table, by_last_comma
from common.verdicts import Claim, Verdict, claim
from sciml.probconserv.rows import (
    ANP,
    CONFIG,
    COVERAGE,
    CRPS,
    DIFFUSED,
    DIFFUSION,
    HARD,
    NOT_READ,
    PME,
    PROBCONSERV,
    SD,
    SPEEDS,
    STEFAN,
    better,
    cells,
    column,
    some,
)

CALIBRATED = {
    "diffusion": ("diffusion ", DIFFUSION[:1]),
    "pme": ("PME ", PME),
    "stefan": ("Stefan ", STEFAN),
    "advection": ("advection ", SPEEDS[1:]),
    "burgers_shock": ("Burgers ", SPEEDS[1:]),
}


@claim()
def coverage_is_not_worse(results: Results) -> Verdict:
    """The update moves the coverage of the central 90 % by less than 0.05 on every law."""
    verdicts = []
    for title, params in CALIBRATED.values():
        for p in params:
            place = column(title + p, COVERAGE)
            before, after = results[ANP, place], results[PROBCONSERV, place]
            verdicts += [above(after, before.mean - 0.05), below(after, before.mean + 0.05)]
    return all_of(*verdicts)


def _crps_claim(other: str, short: str) -> Claim:
    """Returns the claim that ProbConserv-ANP has a lower CRPS than another row on every law."""
    places = [title + p for title, params in CALIBRATED.values() for p in params]
    statement = f"{PROBCONSERV} has a lower CRPS than {other} on every law."
    return better(f"crps_better_than_{short}", PROBCONSERV, other, CRPS, places, statement)


TABLE = Table(
    title="Calibration: coverage of central 90 % intervals and CRPS, before and after updates",
    source="ours; the paper reports likelihoods",
    config=CONFIG,
    cells=tuple(
        cell
        for pde, (title, params) in CALIBRATED.items()
        for cell in cells(
            pde,
            params,
            (COVERAGE, CRPS, SD),
            rows=some(ANP, HARD, PROBCONSERV, DIFFUSED),
            title=title,
        )
    ),
    claims=(coverage_is_not_worse, _crps_claim(ANP, "anp"), _crps_claim(HARD, "hard")),
    split=by_last_comma,
    drawn_from_cells=True,
    headline=("crps_better_than_anp", "coverage_is_not_worse"),
    notes=(
        NOT_READ,
        "Marginals of the mixture over draws of z; sd: mean over the points of the slice.",
        "The claims about CRPS were written after its values had been seen.",
    ),
    reasons=dict.fromkeys(
        ("crps_better_than_anp", "crps_better_than_hard"),
        "On diffusion the mass is 0 and says nothing about the amplitude; at a = 3 networks of "
        "different seeds differ by more than the update changes them.",
    ),
)
