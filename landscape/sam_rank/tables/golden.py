"""The authors' recorded runs as data: their random numbers, and their digits beside ours."""

from common.aggregates import Results
from common.comparisons import all_of, near
from common.tables import Cell, Published, Table
from common.verdicts import CHECK, Verdict, claim
from landscape.sam_rank.tables.two_layer import (
    ACTIVE,
    CONFIG,
    DISTINCT,
    NORM,
    OVERRIDES,
    RANK,
    TEST,
    TRAIN,
    VARIANTS,
)

METRICS = {
    TRAIN: "train_loss",
    TEST: "test_loss",
    NORM: "norm",
    RANK: "rank",
    ACTIVE: "active",
    DISTINCT: "distinct",
}
SOURCE = "released notebook, output of two-layer networks, seed 4"
Line = tuple[float | None, float, float, int, int, int]  # None: not in that output
# Source of all lines: `SOURCE`; in the order of `METRICS`, rows in the order of `OVERRIDES`.
RELU: tuple[Line, ...] = (
    (3.7757648e-6, 0.01471248, 6.249424, 19, 77, 75),
    (1.5541264e-6, 0.00891473, 7.144880, 18, 68, 44),
    (6.7686037e-6, 0.00603493, 8.613440, 15, 58, 25),
    (3.2779039e-4, 0.01016020, 10.134657, 9, 35, 14),
    (1.7745579e-3, 0.00829462, 9.227508, 4, 10, 8),
)
ABS: tuple[Line, ...] = (
    (None, 0.0399, 6.85, 18, 100, 99),
    (None, 0.0113, 3.71, 18, 99, 95),
    (None, 0.0206, 3.05, 16, 94, 58),
    (None, 0.0135, 2.84, 12, 84, 26),
    (None, 0.0143, 2.62, 8, 49, 15),
)
TANH: tuple[Line, ...] = (
    (None, 0.2899, 22.40, 17, 100, 94),
    (None, 0.0033, 16.19, 16, 99, 96),
    (None, 0.0033, 9.15, 12, 67, 47),
    (None, 0.0254, 4.97, 6, 11, 12),
    (None, 0.0134, 2.68, 3, 4, 5),
)
PENALIZED: tuple[Line, ...] = (
    (6.816e-6, 0.010421, 6.5642, 18, 76, 60),
    (6.005e-7, 0.007333, 7.8823, 16, 60, 33),
    (3.900e-6, 0.006628, 11.3311, 13, 39, 24),
    (7.243e-6, 0.012280, 10.8507, 14, 40, 22),
    (1.298e-3, 0.013065, 27.2381, 6, 12, 9),
)
RECORDED = dict(zip(OVERRIDES, (*RELU, *ABS, *TANH, *PENALIZED), strict=True))
STABLE = tuple(row for row in RECORDED if not row.startswith("abs"))


def recorded(row: str, column: str) -> float | None:
    """Returns what the authors' notebook has, None where its output does not say."""
    return RECORDED[row][list(METRICS).index(column)]


def is_near(
    results: Results, rows: tuple[str, ...], column: str, *, times: float = 0.0, plus: float = 0.0
) -> Verdict:
    """Returns whether cells are what was recorded, but for a share of it and a number."""
    known = {row: value for row in rows if (value := recorded(row, column)) is not None}
    return all_of(
        *(near(results[row, column], x, times * abs(x) + plus) for row, x in known.items())
    )


@claim(CHECK)
def ranks_are_the_recorded_ones(results: Results) -> Verdict:
    """All ranks are those that the authors recorded."""
    return is_near(results, tuple(RECORDED), RANK)


@claim(CHECK)
def losses_are_the_recorded_ones(results: Results) -> Verdict:
    """Losses and norms of ReLU and tanh networks are those recorded, but for 0.2 % and rounding."""
    return all_of(
        is_near(results, STABLE, TRAIN, times=0.002),
        is_near(results, STABLE, TEST, times=0.002, plus=5e-5),
        is_near(results, STABLE, NORM, times=0.002),
    )


@claim(CHECK)
def units_are_the_recorded_ones(results: Results) -> Verdict:
    """Active units are as many as recorded, but for 5 that hover at 0."""
    return is_near(results, tuple(RECORDED), ACTIVE, plus=5)


def _cells() -> tuple[Cell, ...]:
    found = []
    for row, line in RECORDED.items():
        variant = f"data=golden,{VARIANTS[row]}"
        for (column, metric), value in zip(METRICS.items(), line, strict=True):
            paper = None if value is None else Published(float(value), None, f"{SOURCE}, {row}")
            found.append(Cell(row, column, OVERRIDES[row], metric, paper, variant=variant))
    return tuple(found)


TABLE = Table(
    title="The authors' recorded two-layer runs again, from their random numbers",
    source="Andriushchenko et al. (2023), released notebook of two-layer networks",
    published_size="the authors' runs, from their random numbers",
    config=CONFIG,
    cells=_cells(),
    seeds=(4,),
    headline=("ranks_are_the_recorded_ones",),
    notes=(
        "Published values are what the authors' notebook printed: points, teacher, student and "
        "order of the examples of their one seed are shipped here. Theirs are of float32, ours of "
        "float64: updates that switch units on and off magnify the difference where units hover "
        "at 0, and most for abs, whose slope jumps there.",
    ),
    reasons={
        "units_are_the_recorded_ones": "At the largest radius of ReLU some units hover at 0, on "
        "one side in float32 and on the other in float64; they carry no energy, ranks are equal.",
    },
)
