"""Rows and columns of the tables, and claims that more than one of them makes."""

from collections.abc import Mapping, Sequence

from common.aggregates import Aggregate, Results
from common.tables import Cell, Paper, Table, by_last_comma
from common.verdicts import CHECK, OURS, PAPER, Claim, Verdict, above, all_of, beats, below

CONFIG = "sciml/probconserv/configs/neural_process.py"

ANP, SOFT, HARD = "ANP", "SoftC-ANP", "HardC-ANP"
PROBCONSERV, DIFFUSED = "ProbConserv-ANP", "ProbConserv-ANP w/diff"
LOCAL = "ProbConserv-ANP, 4 cells"
ROWS = {  # row: method of its metrics, soft constraint in training
    ANP: ("anp", 0),
    SOFT: ("anp", 1),
    HARD: ("hard", 0),
    PROBCONSERV: ("probconserv", 0),
    DIFFUSED: ("diffused", 0),
    LOCAL: ("local", 0),
}
CONSERVING = (HARD, PROBCONSERV, DIFFUSED, LOCAL)
CE, ABS_CE, LL, MSE = "CE", "|CE|", "LL", "MSE"
COVERAGE, CRPS, SD = "coverage of 90 %", "CRPS", "sd"
BIAS, SHOCK_SD, RMSE = "bias of the shock", "sd of the shock", "RMSE of the shock"
METRICS = {
    CE: "ce",
    ABS_CE: "abs_ce",
    LL: "ll",
    MSE: "mse",
    COVERAGE: "coverage",
    CRPS: "crps",
    SD: "sd",
    BIAS: "shock_bias",
    SHOCK_SD: "shock_sd",
    RMSE: "shock_rmse",
}
Published = Mapping[tuple[str, str], Paper]


def column(param: str, what: str) -> str:
    """Returns the label of a column: "m=1, LL"."""
    return f"{param}, {what}"


def cells(
    pde: str,
    params: Sequence[str],
    quantities: Sequence[str],
    published: Published | None = None,
    *,
    rows: Sequence[str] = tuple(ROWS),
    prefix: str = "",
    title: str = "",
) -> tuple[Cell, ...]:
    """Returns cells of one law.

    Args:
        pde: Key of the config file.
        params: Test parameters, "m=1".
        quantities: Keys of METRICS.
        published: Numbers by (row, column).
        rows: Keys of ROWS.
        prefix: Of metrics: "dropout_" for predictions with dropout on.
        title: What stands before the parameter in columns.
    """
    found = []
    for row in rows:
        method, soft = ROWS[row]
        for param in params:
            for what in quantities:
                label = column(title + param, what)
                metric = f"test_{param}_{prefix}{method}_{METRICS[what]}"
                paper = (published or {}).get((row, label))
                variant = f"pde={pde},soft={soft}"
                found.append(Cell(row, label, {}, metric, paper, variant=variant))
    return tuple(found)


def paper_numbers(
    param: str, ce_unit: float, mse_unit: float, source: str, rows: Mapping[str, Sequence[float]]
) -> dict[tuple[str, str], Paper]:
    """Returns published CE, LL and MSE: rows of (value, standard error) of each in their units."""
    found = {}
    for row, numbers in rows.items():
        pairs = zip((CE, LL, MSE), (ce_unit, 1.0, mse_unit), (0, 2, 4), strict=True)
        for what, unit, at in pairs:
            value, spread = numbers[at], numbers[at + 1]
            found[row, column(param, what)] = Paper(value * unit, spread * unit, source)
    return found


def conserves(params: Sequence[str]) -> Claim:
    """Returns the claim that updated means conserve to rounding."""

    def judge(results: Results) -> Verdict:
        misses = (results[row, column(p, ABS_CE)] for row in CONSERVING for p in params)
        return all_of(*(below(miss, 2e-6) for miss in misses))

    statement = "Updated rows miss the mass by less than 2e-6 (float32), for every parameter."
    return Claim("updates_conserve", statement, judge, PAPER, "abstract")


def misses_the_mass(row: str, params: Sequence[str]) -> Claim:
    """Returns the claim that a row does not conserve."""

    def judge(results: Results) -> Verdict:
        return all_of(*(above(results[row, column(p, ABS_CE)], 5e-4) for p in params))

    name = {ANP: "anp_does_not_conserve", SOFT: "soft_does_not_conserve"}[row]
    statement = f"{row} misses the mass by more than 5e-4 on average, for every parameter."
    return Claim(name, statement, judge, CHECK)


def better(
    name: str,
    row: str,
    other: str,
    what: str,
    params: Sequence[str],
    statement: str,
    source: str = "",
) -> Claim:
    """Returns the claim that a row beats another by two standard errors, paired by seed."""

    def judge(results: Results) -> Verdict:
        def pair(p: str) -> tuple[Aggregate, Aggregate]:
            place = column(p, what)
            return results[row, place], results[other, place]

        return all_of(*(beats(*pair(p), lower=what != LL) for p in params))

    return Claim(name, statement, judge, PAPER if source else OURS, source)


def law_claims(params: Sequence[str], *, hard: bool) -> tuple[Claim, ...]:
    """Returns what is claimed of every law: mass, likelihood and error against all other rows.

    Args:
        params: Test parameters.
        hard: Whether the paper calls the law hard: there it states that its update is better than
            what does not conserve.
    """
    found = [conserves(params), misses_the_mass(ANP, params), misses_the_mass(SOFT, params)]
    names = {ANP: "anp", SOFT: "soft", HARD: "hard"}
    for what, word in ((LL, "higher LL"), (MSE, "lower MSE")):
        for other, short in names.items():
            statement = f"{PROBCONSERV} has a {word} than {other}, for every parameter."
            name = f"{what.lower()}_better_than_{short}"
            source = "abstract" if hard and other in (ANP, SOFT) else ""
            found.append(better(name, PROBCONSERV, other, what, params, statement, source))
    for what, word in ((LL, "the LL"), (MSE, "the MSE")):
        for row, short, who in (
            (DIFFUSED, "diffusion", "Artificial diffusion improves"),
            (LOCAL, "cells", "Masses of 4 cells in place of one improve"),
        ):
            statement = f"{who} {word} of {PROBCONSERV}, for every parameter."
            name = f"{short}_improves_{what.lower()}"
            found.append(better(name, row, PROBCONSERV, what, params, statement))
    return tuple(found)


NOT_READ = (
    "The body of the paper could not be read: numbers in its columns are from where they say, and "
    "there are none where no other source has them."
)
NOTES = (
    NOT_READ,
    "CE: trapezoid mass of the predicted mean minus the exact one, signed mean over 50 test "
    "functions; LL: mean marginal Gaussian log density; both at the report time on 201 points. "
    "Dropout is off in prediction; table dropout has it on, as the released code.",
    "All rows but SoftC-ANP are updates of the same trained ANP. SoftC-ANP adds the mean squared "
    "PDE residual with weight 1, as the paper, to a loss that is a sum over all points: a weak "
    "penalty. HardC-ANP keeps the ANP's variances.",
    "The last row, ours, is given the mass of each quarter of the domain, which needs fluxes at "
    "its ends: more than the other rows know.",
)


def law_table(
    pde: str,
    params: Sequence[str],
    *,
    title: str,
    source: str,
    published: Published | None = None,
    notes: tuple[str, ...] = (),
    reasons: Mapping[str, str] | None = None,
    leads: bool = False,
) -> Table:
    """Returns the table of one law, named after it."""
    return Table(
        name=pde,
        title=title,
        source=source,
        config=CONFIG,
        cells=cells(pde, params, (CE, ABS_CE, LL, MSE), published),
        seeds=(0, 1, 2),
        claims=law_claims(params, hard=pde == "stefan"),
        leads=leads,
        headline=("mse_better_than_anp", "ll_better_than_anp", "updates_conserve"),
        split=by_last_comma,
        paper_spread="standard error over 50 test functions",
        notes=(*notes, *NOTES),
        figures="sciml.probconserv.figures:law",
        reasons=reasons or {},
    )
