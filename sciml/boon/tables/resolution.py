"""Transfer to other resolutions as data: the runs of single_step on grids not trained on."""

from collections.abc import Iterator

from common.aggregates import Results
from common.comparisons import all_of, at_most_times, below, every
from common.tables import Cell, Table
from common.verdicts import CHECK, Verdict, claim
from sciml.boon import rows
from sciml.boon.rows import (
    BOON,
    BOON_MWT,
    BOON_VALUE,
    BOUNDARY,
    ERROR,
    FNO,
    METRICS,
    MWT,
    TITLES,
)
from sciml.boon.tables.single_step import CONFIG, GIVEN, NOT_READ

TRAINED, MOVED = "N", {"x0.5": "N / 2", "x2": "2 N", "x4": "4 N"}
ROWS = (FNO, BOON, BOON_VALUE, MWT, BOON_MWT)


def place(pde: str, label: str, what: str = ERROR) -> str:
    """Returns the label of a column: "heat, 2 N" or "heat, 2 N, boundary error"."""
    return f"{TITLES[pde]}, {label}" + (f", {what}" if what == BOUNDARY else "")


def _split(column: str) -> tuple[str, str]:
    setting = column.removesuffix(f", {BOUNDARY}")
    return (ERROR if setting == column else BOUNDARY), setting.replace(", ", " ")


def _cells() -> Iterator[Cell]:
    for row in ROWS:
        for pde in GIVEN:
            yield rows.cell(row, pde, place(pde, TRAINED), METRICS[ERROR])
            for what in (ERROR, BOUNDARY) if row in (FNO, BOON) else (ERROR,):
                for name, label in MOVED.items():
                    metric = METRICS[what].replace("test_", f"test_{name}_")
                    yield rows.cell(row, pde, place(pde, label, what), metric)


@claim(CHECK)
def moved_boundaries_hold(results: Results) -> Verdict:
    """On grids never trained on, BOON-FNO's boundary error is still 0 (Neumann: under 1e-3)."""
    verdicts = []
    for pde in GIVEN:
        for label in MOVED.values():
            miss = results[BOON, place(pde, label, BOUNDARY)]
            verdicts.append(below(miss, 1e-3 if pde == "heat" else 1e-30))
    return all_of(*verdicts)


@claim()
def boon_transfers_better(results: Results) -> Verdict:
    """BOON-FNO has the lower relative L2 on every other grid too."""
    places = [place(pde, label) for pde in GIVEN for label in MOVED.values()]
    return every(at_most_times, results, BOON, FNO, 1, on=places)


@claim()
def fno_transfers(results: Results) -> Verdict:
    """FNO's relative L2 stays below 0.2 on grids of 2 N and 4 N points."""
    labels = [MOVED[name] for name in ("x2", "x4")]
    places = [place(pde, label) for pde in GIVEN for label in labels]
    return every(below, results, FNO, 0.2, on=places)


TABLE = Table(
    title="Relative L2 of the same weights on other grids, never trained on",
    source="Saad et al. (2023), resolution transfer",
    config=CONFIG,
    cells=tuple(_cells()),
    headline=("boon_transfers_better",),
    split=_split,
    drawn_from_cells=True,
    notes=(
        NOT_READ,
        "The runs are those of table single_step, trained with N grid points. Exact solutions, "
        "coordinates and stencils are those of the new grid.",
    ),
    reasons={
        "boon_transfers_better": "A value that is written at one point of a hidden layer is a "
        "jump whose spectrum depends on the spacing; the FNO has no such jump.",
        "fno_transfers": "Fourier layers take the N points as one period, N h, which is longer "
        "than the domain by one spacing, so what they make of fields that are not periodic "
        "depends on the grid. On Stokes that matters most: its initial states differ by 4 % of "
        "their size and its solutions by 38 %, so the operator enlarges differences ten times.",
    },
)
