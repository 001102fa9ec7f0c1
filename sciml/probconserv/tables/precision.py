"""The limit of a noise-free mass as data: PME with noise of standard deviation sigma in it."""

from common.aggregates import Results
from common.comparisons import all_of, at_most_times
from common.tables import Table, by_last_comma
from common.verdicts import CHECK, Verdict, claim
from sciml.probconserv.rows import (
    ABS_CE,
    ANP,
    CONFIG,
    LL,
    MSE,
    NOT_READ,
    PME,
    PROBCONSERV,
    ROWS,
    better,
    cells,
    column,
)

SIGMAS = (0.1, 0.01, 0.001)
NOISY = {f"sigma = {sigma:g}": (f"sigma{sigma:g}", 0) for sigma in SIGMAS}
LEVELS = {ANP: ROWS[ANP], **NOISY, PROBCONSERV: ROWS[PROBCONSERV]}  # the last one: sigma = 0


@claim(CHECK)
def error_falls_with_sigma(results: Results) -> Verdict:
    """The conservation error falls with sigma, from the ANP's to 0, for every m."""
    rows = list(LEVELS)
    return all_of(
        *(
            at_most_times(results[after, column(p, ABS_CE)], results[before, column(p, ABS_CE)], 1)
            for p in PME
            for before, after in zip(rows, rows[1:], strict=False)
        )
    )


likelihood_does_not_fall = better(
    "likelihood_does_not_fall",
    PROBCONSERV,
    next(iter(NOISY)),
    LL,
    PME,
    "The exact update has a higher LL than the one with sigma = 0.1, for every m.",
)

TABLE = Table(
    title="PME: from no constraint to an exact one, by the noise sigma of the mass",
    source="Hansen et al. (2023), figure on the precision 1 / sigma^2",
    config=CONFIG,
    cells=cells("pme", PME, (ABS_CE, LL, MSE), rows=LEVELS),
    headline=("error_falls_with_sigma", "likelihood_does_not_fall"),
    split=by_last_comma,
    notes=(
        NOT_READ,
        "The last row is the limit sigma = 0, in closed form.",
    ),
)
