"""The limit of a noise-free mass as data: PME with noise of standard deviation sigma in it."""

from common.aggregates import Results
from common.tables import Cell, Table, by_last_comma
from common.verdicts import CHECK, Verdict, all_of, at_most_times, beats, claim
from sciml.probconserv.claims import (
    ABS_CE,
    ANP,
    CONFIG,
    LL,
    METRICS,
    MSE,
    NOT_READ,
    PROBCONSERV,
    column,
)

PARAMS = ("m=1", "m=3", "m=6")
SIGMAS = (0.1, 0.01, 0.001)
LEVELS = {ANP: "anp"} | {f"sigma = {s:g}": f"sigma{s:g}" for s in SIGMAS}
LEVELS[PROBCONSERV] = "probconserv"  # sigma = 0


@claim(CHECK)
def error_falls_with_sigma(results: Results) -> Verdict:
    """The conservation error falls with sigma, from the ANP's to 0, for every m."""
    rows = list(LEVELS)
    return all_of(
        *(
            at_most_times(results[after, column(p, ABS_CE)], results[before, column(p, ABS_CE)], 1)
            for p in PARAMS
            for before, after in zip(rows, rows[1:], strict=False)
        )
    )


@claim()
def likelihood_does_not_fall(results: Results) -> Verdict:
    """The exact update has a higher LL than the one with sigma = 0.1, for every m."""
    first = f"sigma = {SIGMAS[0]:g}"
    return all_of(
        *(
            beats(results[PROBCONSERV, place], results[first, place])
            for place in (column(p, LL) for p in PARAMS)
        )
    )


TABLE_PRECISION = Table(
    name="precision",
    title="PME: from no constraint to an exact one, by the noise sigma of the mass",
    source="Hansen et al. (2023), figure on the precision 1 / sigma^2",
    config=CONFIG,
    cells=tuple(
        Cell(row, column(p, what), {}, f"test_{p}_{name}_{METRICS[what]}", variant="pde=pme,soft=0")
        for row, name in LEVELS.items()
        for p in PARAMS
        for what in (ABS_CE, LL, MSE)
    ),
    seeds=(0, 1, 2),
    claims=(error_falls_with_sigma, likelihood_does_not_fall),
    headline=("error_falls_with_sigma", "likelihood_does_not_fall"),
    split=by_last_comma,
    notes=(
        NOT_READ,
        "The last row is the limit sigma = 0, in closed form.",
    ),
)
