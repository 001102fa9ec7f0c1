"""Rows of the tables, and claims that more than one of them makes."""

from collections.abc import Mapping

from common.aggregates import Results
from common.tables import Cell, Paper
from common.verdicts import OURS, PAPER, Claim, Verdict, all_of, at_most_times, beats, below, near

FNO, MWT = "FNO", "MWT"
INPUTS = "FNO + boundary inputs"
LAST = "FNO, output overwritten"
WRITE = "FNO, all layers overwritten"
BOON, BOON_VALUE = "BOON-FNO", "BOON-FNO, direct target"
BOON_INPUTS = "BOON-FNO + boundary inputs"
BOON_MWT = "BOON-MWT"

VARIANTS = {  # row: argument of the config files
    FNO: "kind=plain",
    INPUTS: "kind=inputs",
    LAST: "kind=last",
    WRITE: "kind=write",
    BOON: "kind=boon",
    BOON_VALUE: "kind=boon_value",
    BOON_INPUTS: "kind=boon_inputs",
    MWT: "kind=plain,base=mwt",
    BOON_MWT: "kind=boon,base=mwt",
}
CONSTRAINED = (LAST, WRITE, BOON, BOON_VALUE, BOON_INPUTS, BOON_MWT)
TITLES = {
    "stokes": "Stokes",
    "burgers": "Burgers",
    "heat": "heat",
    "burgers_periodic": "periodic Burgers",
    "wave": "wave 2-D",
    "cavity": "cavity 2-D",
}
ERROR, BOUNDARY, CONDITION = "relative L2", "boundary error", "condition"


def column(pde: str, what: str) -> str:
    """Returns the label of a column."""
    return f"{TITLES[pde]}, {what}"


def cells(
    rows: Mapping[str, tuple[str, ...]],
    pdes: tuple[str, ...],
    published: Mapping[tuple[str, str], Paper] | None = None,
) -> tuple[Cell, ...]:
    """Returns cells of relative L2 and boundary error.

    Args:
        rows: Row label to the equations that it is run on.
        pdes: Equations in the order of the columns.
        published: Relative L2 by (row, equation).
    """
    found = []
    for row, run_on in rows.items():
        for pde in pdes:
            if pde not in run_on:
                continue
            variant = f"pde={pde},{VARIANTS[row]}"
            paper = (published or {}).get((row, pde))
            found += [
                Cell(row, column(pde, ERROR), {}, "test_relative_l2", paper, variant=variant),
                Cell(row, column(pde, BOUNDARY), {}, "test_boundary_error", variant=variant),
            ]
    return tuple(found)


def lower(results: Results, row: str, other: str, pdes: tuple[str, ...]) -> Verdict:
    """Returns whether a row has the lower relative L2 on all equations, paired by seed."""
    return all_of(
        *(
            beats(results[row, place], results[other, place], lower=True)
            for place in (column(pde, ERROR) for pde in pdes)
        )
    )


def at_most_half(results: Results, row: str, other: str, pdes: tuple[str, ...]) -> Verdict:
    """Returns whether a row has at most half of another's mean relative L2 on all equations."""
    places = [column(pde, ERROR) for pde in pdes]
    return all_of(*(at_most_times(results[row, p], results[other, p], 0.5) for p in places))


def exact(results: Results, rows: tuple[str, ...], pdes: tuple[str, ...]) -> Verdict:
    """Returns whether Dirichlet and periodic errors are 0 and slopes right to 2e-4 of float32."""
    verdicts = []
    for row in rows:
        for pde in pdes:
            miss = results[row, column(pde, BOUNDARY)]
            is_slope = pde in ("heat", "wave")
            verdicts.append(below(miss, 2e-4) if is_slope else near(miss, 0.0, 0.0))
    return all_of(*verdicts)


def boundaries_hold_exactly(rows: Mapping[str, tuple[str, ...]]) -> Claim:
    """Returns the claim that no constrained row misses its boundary."""

    def judge(results: Results) -> Verdict:
        constrained = {row: pdes for row, pdes in rows.items() if row in CONSTRAINED}
        return all_of(*(exact(results, (row,), pdes) for row, pdes in constrained.items()))

    statement = (
        "Constrained rows have boundary error 0 (Neumann: under 2e-4 in float32) on every PDE."
    )
    return Claim("boundaries_hold_exactly", statement, judge, PAPER, "abstract")


def comparisons(
    wanted: Mapping[str, tuple[str, str, str]], pdes: tuple[str, ...]
) -> tuple[Claim, ...]:
    """Returns claims that one row has the lower relative L2 on all of some equations.

    Args:
        wanted: By name: the row, the row it is compared with, the statement.
        pdes: The equations.
    """

    def made(name: str, row: str, other: str, statement: str) -> Claim:
        kind, source = (PAPER, "abstract") if (row, other) == (BOON, FNO) else (OURS, "")
        judge = lambda results: lower(results, row, other, pdes)
        return Claim(name, statement, judge, kind, source)

    return tuple(made(name, *fields) for name, fields in wanted.items())


# On every equation of a table, and on those that have boundary data.
ON_ALL = {
    "boon_beats_fno": (
        BOON,
        FNO,
        "BOON-FNO has a lower relative L2 than FNO on every PDE by two standard errors.",
    ),
    "elimination_beats_last_layer": (
        BOON,
        LAST,
        "BOON-FNO beats the FNO whose output only is overwritten, on every PDE.",
    ),
}
ON_GIVEN = {
    "boon_beats_equal_information": (
        BOON,
        INPUTS,
        "BOON-FNO beats the FNO that is given the same boundary data as inputs, on every PDE.",
    ),
    "direct_target_beats_equal_information": (
        BOON_VALUE,
        INPUTS,
        "BOON-FNO with direct target beats the FNO with the same data as inputs, on every PDE.",
    ),
}


def boon_halves_the_error(pdes: tuple[str, ...]) -> Claim:
    """Returns the claim of the paper's abstract, at its lower end."""
    statement = (
        "BOON-FNO has at most half the relative L2 of FNO on every PDE (paper: 2 to 20 times)."
    )
    judge = lambda results: at_most_half(results, BOON, FNO, pdes)
    return Claim("boon_halves_the_error", statement, judge, PAPER, "abstract")
