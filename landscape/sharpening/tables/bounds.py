"""The bounds of the paper as data, on cubes where the truth can be computed too."""

from common.aggregates import Results
from common.comparisons import above, all_of, at_most_times, beats, below, every, near
from common.tables import Table, crossed
from common.verdicts import CHECK, PAPER, Verdict, claim

CONFIG = "landscape/sharpening/configs/synthetic.py"
MEASURE = "landscape.sharpening.synthetic:bounds"
COUNTS = (16, 64, 256)
ROWS = {
    f"d = {dimension}, {count} samples": (dimension, count)
    for dimension in (1, 2)
    for count in COUNTS
}
GAP, BOUND, RATIO = "generalization gap", "its bound", "bound / gap"
LOWER, TRUE, UPPER = "largest Jacobian at samples", "Lipschitz constant", "with variations"
VARIATION, RADIUS, COVERED = "largest variation", "radius", "share of the cube covered"
PAIR, SHARE = "lower bound by a pair", "relative to the Jacobian there"
METRICS = {
    GAP: "gap",
    BOUND: "bound",
    RATIO: "bound_over_gap",
    LOWER: "lower",
    TRUE: "lipschitz",
    UPPER: "upper",
    VARIATION: "variation",
    RADIUS: "radius",
    COVERED: "covered",
    PAIR: "pair_bound",
    SHARE: "pair_share",
}


@claim(PAPER, "Thm 6.1")
def the_gap_is_bounded(results: Results) -> Verdict:
    """The generalization gap is below its bound."""
    return every(above, results, tuple(ROWS), 1.0, on=RATIO)


@claim(PAPER, "Thm 4.3")
def the_constant_is_between(results: Results) -> Verdict:
    """The Lipschitz constant is between both bounds (up to a thousandth, on a grid)."""
    return all_of(
        *(at_most_times(results[row, LOWER], results[row, TRUE], 1.001) for row in ROWS),
        *(at_most_times(results[row, TRUE], results[row, UPPER], 1.001) for row in ROWS),
    )


@claim(PAPER, "Thm 4.3")
def variations_shrink(results: Results) -> Verdict:
    """The variation of the Jacobian within the balls shrinks with more samples."""
    rows = list(ROWS)
    pairs = [(rows[i + 1], rows[i]) for i in range(len(rows) - 1) if (i + 1) % len(COUNTS)]
    return all_of(
        *(beats(results[a, VARIATION], results[b, VARIATION], lower=True) for a, b in pairs)
    )


@claim(PAPER, "Thm 5.1")
def low_losses_need_large_jacobians(results: Results) -> Verdict:
    """The lower bound by a pair of samples is never above the Jacobian on its segment."""
    return every(below, results, tuple(ROWS), 1.001, on=SHARE)


@claim()
def the_bound_is_loose(results: Results) -> Verdict:
    """The bound is more than a hundred times the gap: it says nothing about its size."""
    return every(above, results, tuple(ROWS), 100.0, on=RATIO)


@claim(CHECK)
def samples_cover_the_cube(results: Results) -> Verdict:
    """All of the cube is within the radius of a sample."""
    return every(near, results, tuple(ROWS), 1.0, 1e-3, on=COVERED)


TABLE = Table(
    title="Bounds of the paper on the unit cube, next to what they bound",
    source="MacDonald et al. (2023), Thm 4.2 to 6.1, which are not evaluated there",
    config=CONFIG,
    cells=crossed(
        {row: {"data.num_train": n, "batch_size": n} for row, (_, n) in ROWS.items()},
        METRICS,
        run=MEASURE,
        variants={row: f"dimension={dimension}" for row, (dimension, _) in ROWS.items()},
    ),
    headline=("the_gap_is_bounded", "the_constant_is_between"),
    notes=(
        "No published value: the paper evaluates none of its bounds. A tanh network of two hidden "
        "layers of 32 neurons learns sin(pi <x, u>) on uniform samples, u along the diagonal.",
        "Radius: balls around the samples cover the cube with probability 0.9. Variation: of the "
        "Jacobian within a ball, largest of 64 random points each. Gap: of half the squared error, "
        "test less training. Its bound: largest error on the test set, times the sum of Lipschitz "
        "constants of network (with variations) and target, times the Wasserstein distance of the "
        "samples from the uniform law (exact for d = 1, an upper bound for d = 2).",
    ),
)
