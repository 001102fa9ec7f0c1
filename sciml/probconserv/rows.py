"""Rows and columns of the tables, and the claim that most of them make."""

from collections.abc import Mapping, Sequence

from common.aggregates import Results
from common.comparisons import beats, every
from common.tables import Cell, Published
from common.verdicts import OURS, PAPER, Claim, Verdict

CONFIG = "sciml/probconserv/configs/neural_process.py"

ANP, SOFT, HARD = "ANP", "SoftC-ANP", "HardC-ANP"
PROBCONSERV, DIFFUSED = "ProbConserv-ANP", "ProbConserv-ANP w/diff"
LOCAL = "ProbConserv-ANP, 4 cells"
WITHIN, BOTH = "ANP within bounds", "ProbConserv-ANP within bounds"
ROWS = {  # row: method in the names of its metrics, soft constraint in training
    ANP: ("anp", 0),
    SOFT: ("anp", 1),
    HARD: ("hard", 0),
    PROBCONSERV: ("probconserv", 0),
    DIFFUSED: ("diffused", 0),
    LOCAL: ("local", 0),
}
BOUNDED = {  # rows of the laws that have bounds: no constraint, one of both, both
    ANP: ROWS[ANP],
    WITHIN: ("bounds", 0),
    PROBCONSERV: ROWS[PROBCONSERV],
    BOTH: ("bounded", 0),
}
CE, ABS_CE, LL, MSE = "CE", "|CE|", "LL", "MSE"
OUTSIDE = "outside"
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
    OUTSIDE: "outside",
    BIAS: "shock_bias",
    SHOCK_SD: "shock_sd",
    RMSE: "shock_rmse",
}
DIFFUSION, PME = ("k=1", "k=5"), ("m=1", "m=3", "m=6")  # test parameters
STEFAN, SPEEDS = ("u*=0.6", "u*=0.5"), ("a=1", "a=3")
NOT_READ = (
    "The body of the paper could not be read: numbers in its columns are from where they say, and "
    "there are none where no other source has them."
)


def column(param: str, what: str) -> str:
    """Returns the label of a column: "m=1, LL"."""
    return f"{param}, {what}"


def cells(
    pde: str,
    params: Sequence[str],
    quantities: Sequence[str],
    *,
    rows: Mapping[str, tuple[str, int]] = ROWS,
    published: Mapping[tuple[str, str], Published] | None = None,
    prefix: str = "",
    title: str = "",
) -> tuple[Cell, ...]:
    """Returns cells of one conservation law.

    Args:
        pde: Key of the config file.
        params: Test parameters, "m=1".
        quantities: Keys of METRICS.
        rows: Method and soft constraint of every row, as in ROWS.
        published: Numbers by (row, column).
        prefix: Of metrics: "dropout_" for predictions with dropout on.
        title: What stands before the parameter in columns.
    """
    found = []
    for row, (method, soft) in rows.items():
        for param in params:
            for what in quantities:
                label = column(title + param, what)
                metric = f"test_{param}_{prefix}{method}_{METRICS[what]}"
                paper = (published or {}).get((row, label))
                variant = f"pde={pde},soft={soft}"
                found.append(Cell(row, label, {}, metric, paper, variant=variant))
    return tuple(found)


def some(*names: str) -> dict[str, tuple[str, int]]:
    """Returns these of the ROWS."""
    return {name: ROWS[name] for name in names}


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
    places = [column(param, what) for param in params]

    def judge(results: Results) -> Verdict:
        return every(beats, results, row, other, on=places, lower=what != LL)

    return Claim(name, statement, judge, PAPER if source else OURS, source)
