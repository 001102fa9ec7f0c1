"""SAM's step taken apart as data: data fit and regularization along trainings."""

from common.aggregates import Results
from common.comparisons import above, all_of, below, every, near
from common.tables import Table, crossed
from common.verdicts import CHECK, PAPER, Verdict, claim
from landscape.sam_rank.tables.two_layer import CONFIG, RADII, radius_row

MEASURE = "landscape.sam_rank.courses:decomposition"
DENSE = {"seed_group": 1, "steps_per_call": 27, "eval_every": 189}  # 105 evaluations
OVERRIDES = {radius_row("ReLU", rho): {**DENSE, "gradient.rho": rho} for rho in RADII["ReLU"]}
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
def units_go_early(results: Results) -> Verdict:
    """Most units that SAM switches off are off after 189 updates, hardly any go after half way."""
    lost = lambda row, later: results[ROWS[0], later].mean - results[row, later].mean
    return all_of(
        *(near(results[row, END], results[row, HALF].mean, 1.0) for row in ROWS),
        *(
            below(results[row, FIRST], results[ROWS[0], END].mean - lost(row, END) / 2)
            for row in ROWS[1:]
        ),
    )


TABLE = Table(
    title="SAM's step in two parts: what it does to pre-activations of a two-layer ReLU network",
    source="Andriushchenko et al. (2023), Sec. 5",
    published_size="the paper's networks, data and steps",
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
