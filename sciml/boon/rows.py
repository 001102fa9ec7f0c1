"""Rows and columns of the tables, and claims that more than one of them makes."""

from collections.abc import Mapping, Sequence

from common.aggregates import Results
from common.comparisons import all_of, at_most_times, beats, below, every, near
from common.tables import Cell, Published
from common.verdicts import OURS, PAPER, Claim, Verdict

FNO, MWT = "FNO", "MWT"
INPUTS = "FNO + boundary inputs"
LAST = "FNO, output overwritten"
WRITE = "FNO, all layers overwritten"
BOON, BOON_VALUE = "BOON-FNO", "BOON-FNO, direct target"
BOON_INPUTS = "BOON-FNO + boundary inputs"
BOON_MWT = "BOON-MWT"
RELEASED, BOON_RELEASED = "FNO, as released", "BOON-FNO, as released"
WRITE_RELEASED = "BOON-FNO, as released, no elimination"
EXACT_RELEASED = "BOON-FNO, as released, exact elimination"
CLIPPED = "BOON-FNO, as released, gradients clipped"

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
    RELEASED: "kind=plain_released",
    WRITE_RELEASED: "kind=write_released",
    EXACT_RELEASED: "kind=exact_released",
    BOON_RELEASED: "kind=boon_released",
    CLIPPED: "kind=boon_released,clip=50",  # of the order of gradients after the first steps
}
CONSTRAINED = (
    *(LAST, WRITE, BOON, BOON_VALUE, BOON_INPUTS, BOON_MWT),
    *(WRITE_RELEASED, EXACT_RELEASED, BOON_RELEASED, CLIPPED),
)
TITLES = {
    "stokes": "Stokes",
    "burgers": "Burgers",
    "heat": "heat",
    "heat_flux": "heat flux",
    "burgers_periodic": "periodic Burgers",
    "wave": "wave 2-D",
    "cavity": "cavity 2-D",
}
ERROR, BOUNDARY, CONDITION = "relative L2", "boundary error", "condition"
METRICS = {
    ERROR: "test_relative_l2",
    BOUNDARY: "test_boundary_error",
    CONDITION: "condition_number",
}
RunOn = Mapping[str, Sequence[str]]  # row: equations that it is run on


def column(pde: str, what: str) -> str:
    """Returns the label of a column."""
    return f"{TITLES[pde]}, {what}"


def cell(row: str, pde: str, label: str, metric: str, paper: Published | None = None) -> Cell:
    """Returns the cell of a row, trained on an equation."""
    return Cell(row, label, {}, metric, paper, variant=f"pde={pde},{VARIANTS[row]}")


def cells(
    rows: RunOn, pdes: Sequence[str], published: Mapping[tuple[str, str], Published] | None = None
) -> tuple[Cell, ...]:
    """Returns cells of relative L2 and boundary error.

    Args:
        rows: Row label to the equations that it is run on.
        pdes: Equations in the order of the columns.
        published: Relative L2 by (row, equation).
    """
    papers = {(row, pde, ERROR): paper for (row, pde), paper in (published or {}).items()}
    return tuple(
        cell(row, pde, column(pde, what), METRICS[what], papers.get((row, pde, what)))
        for row, run_on in rows.items()
        for pde in pdes
        if pde in run_on
        for what in (ERROR, BOUNDARY)
    )


def at_most(
    results: Results, row: str, other: str, pdes: Sequence[str], *, times: float
) -> Verdict:
    """Returns whether a row has at most `times` another's mean relative L2 on all equations."""
    return every(at_most_times, results, row, other, times, on=[column(p, ERROR) for p in pdes])


def lower_error(
    name: str, row: str, other: str, pdes: Sequence[str], statement: str, *, source: str = ""
) -> Claim:
    """Returns the claim that a row has the lower relative L2 on all equations, paired by seed.

    Args:
        name: Of the claim.
        row: The one that is better.
        other: What it is compared with.
        pdes: The equations.
        statement: In one sentence.
        source: Where the paper states it; "": it does not.
    """
    places = [column(pde, ERROR) for pde in pdes]

    def judge(results: Results) -> Verdict:
        return every(beats, results, row, other, on=places, lower=True)

    return Claim(name, statement, judge, PAPER if source else OURS, source)


def half_error(
    name: str, row: str, other: str, pdes: Sequence[str], statement: str, *, source: str = ""
) -> Claim:
    """Returns the claim that a row has at most half another's mean relative L2 on all equations.

    The lower end of "2 to 20 times", which the abstract says. Arguments as in `lower_error`.
    """

    def judge(results: Results) -> Verdict:
        return at_most(results, row, other, pdes, times=0.5)

    return Claim(name, statement, judge, PAPER if source else OURS, source)


def boundaries_hold_exactly(rows: RunOn) -> Claim:
    """Returns the claim that no constrained row misses its boundary.

    Dirichlet and periodic errors are 0, slopes (Neumann) right to 2e-4 in float32.
    """

    def judge(results: Results) -> Verdict:
        verdicts = []
        for row in CONSTRAINED:
            for pde in rows.get(row, ()):
                miss = results[row, column(pde, BOUNDARY)]
                is_slope = pde in ("heat", "wave")
                verdicts.append(below(miss, 2e-4) if is_slope else near(miss, 0.0, 0.0))
        return all_of(*verdicts)

    statement = (
        "Constrained rows have boundary error 0 (Neumann: under 2e-4 in float32) on every PDE."
    )
    return Claim("boundaries_hold_exactly", statement, judge, PAPER, "abstract")


def claims_on_all(pdes: Sequence[str]) -> tuple[Claim, ...]:
    """Returns what both tables claim of every equation."""
    return (
        lower_error(
            "boon_beats_fno",
            BOON,
            FNO,
            pdes,
            "BOON-FNO has a lower relative L2 than FNO on every PDE by two standard errors.",
            source="abstract",
        ),
        lower_error(
            "elimination_beats_last_layer",
            BOON,
            LAST,
            pdes,
            "BOON-FNO beats the FNO whose output only is overwritten, on every PDE.",
        ),
        half_error(
            "boon_halves_the_error",
            BOON,
            FNO,
            pdes,
            "BOON-FNO has at most half the relative L2 of FNO on every PDE (paper: 2 to 20 times).",
            source="abstract",
        ),
    )


def claims_on_given(pdes: Sequence[str]) -> tuple[Claim, ...]:
    """Returns what both tables claim of the equations that have boundary data."""
    return (
        lower_error(
            "boon_beats_equal_information",
            BOON,
            INPUTS,
            pdes,
            "BOON-FNO beats the FNO that is given the same boundary data as inputs, on every PDE.",
        ),
        lower_error(
            "direct_target_beats_equal_information",
            BOON_VALUE,
            INPUTS,
            pdes,
            "BOON-FNO with direct target beats the FNO with the same data as inputs, on every PDE.",
        ),
    )
