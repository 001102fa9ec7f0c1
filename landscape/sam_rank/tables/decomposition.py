"""SAM's step taken apart as data: data fit and regularization along trainings."""

from common.aggregates import Results
from common.comparisons import above, all_of, below, every
from common.tables import Table, crossed
from common.verdicts import CHECK, PAPER, Verdict, claim
from landscape.sam_rank.tables.two_layer import CONFIG, RADII, radius_row, sam_fields

MEASURE = "landscape.sam_rank.courses:decomposition"
OVERRIDES = {radius_row("ReLU", rho): {"seed_group": 1, **sam_fields(rho)} for rho in RADII["ReLU"]}
HIGHEST, DROP, OVER_FIT = "regularization, highest", "drop", "drop over data fit"
REMAINDER, ORDER = "remainder", "order of the remainder"
EXACT, STILL = "closed form off by", "examples without a switch"
FIRST, HALF, END = "active units, first", "active units, half way", "active units, end"
METRICS = {
    HIGHEST: "regularization_highest",
    DROP: "drop",
    OVER_FIT: "drop_over_fit",
    REMAINDER: "remainder",
    ORDER: "remainder_order",
    EXACT: "exact_apart",
    STILL: "still_share",
    FIRST: "active_first",
    HALF: "active_half",
    END: "active_end",
}
ROWS = tuple(OVERRIDES)


@claim(PAPER, "Sec. 5")
def regularization_never_raises(results: Results) -> Verdict:
    """The regularization part raises no pre-activation, at any example and evaluation."""
    return every(below, results, ROWS, 1e-12, on=HIGHEST)


@claim(PAPER, "Sec. 5")
def regularization_lowers(results: Results) -> Verdict:
    """It lowers those of active units."""
    return every(above, results, ROWS, 0.0, on=DROP)


@claim(CHECK)
def remainder_is_of_second_order(results: Results) -> Verdict:
    """What both parts leave of the step falls with the square of the radius (power 1.9 to 2.1)."""
    return all_of(
        every(above, results, ROWS, 1.9, on=ORDER), every(below, results, ROWS, 2.1, on=ORDER)
    )


@claim(CHECK)
def closed_form_is_the_gradient(results: Results) -> Verdict:
    """The closed form is SAM's gradient up to rounding of float32."""
    return every(below, results, ROWS, 1e-4, on=EXACT)


@claim()
def units_go_while_sam_climbs(results: Results) -> Verdict:
    """More units are switched off in the first half, while SAM climbs, than in the second."""
    lost = lambda row: (results[row, FIRST].mean, results[row, HALF].mean, results[row, END].mean)
    ends = {row: lost(row) for row in ROWS[1:]}
    return all_of(
        *(below(results[row, HALF], (first + end) / 2) for row, (first, _, end) in ends.items())
    )


TABLE = Table(
    title="SAM's step in two parts: what it does to pre-activations of a two-layer ReLU network",
    source="Andriushchenko et al. (2023), Sec. 5",
    config=CONFIG,
    cells=crossed(OVERRIDES, METRICS, run=MEASURE),
    headline=("regularization_never_raises",),
    notes=(
        "No published value: the paper derives the two parts and does not tabulate them. Networks "
        "of table two_layer. Each evaluation takes apart the step that SAM of radius 0.01 would "
        "make on each training example: changes of its pre-activations, over the learning rate. "
        "Drop: by the regularization part, mean over examples and their active units, and over the "
        "first half of the training; over data fit: relative to the mean size of the other part.",
        "Remainder: what the two parts leave of the change, relative to it, and the power of the "
        "radius with which it falls. Both, and the closed form, at examples at which the ascent "
        "switches no unit on or off; their share is the least of all evaluations.",
    ),
)
