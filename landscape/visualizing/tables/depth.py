"""Depth, shortcuts and width as data: the surfaces of trained networks in numbers."""

from common.aggregates import Results
from common.comparisons import above, all_of, at_least_times, beats, below
from common.tables import Cell, Published, Table
from common.verdicts import CHECK, PAPER, Verdict, claim

CONFIG = "landscape/visualizing/configs/depth.py"
MEASURE = "landscape.visualizing.measures:depth"
SHALLOW, SHALLOW_PLAIN = "20 layers", "20 layers, no shortcuts"
DEEP, DEEP_PLAIN = "56 layers", "56 layers, no shortcuts"
SLOW_PLAIN = "56 layers, no shortcuts, learning rate 0.01"
WIDE_PLAIN = "56 layers, no shortcuts, twice as wide"
VARIANTS = {  # row: argument of the config file
    SHALLOW: "depth=20",
    SHALLOW_PLAIN: "depth=20,shortcuts=no",
    DEEP: "depth=56",
    DEEP_PLAIN: "depth=56,shortcuts=no",
    SLOW_PLAIN: "depth=56,shortcuts=no",
    WIDE_PLAIN: "depth=56,shortcuts=no,widen=2",
}
OVERRIDES = {SLOW_PLAIN: {"optimizer.learning_rate": 0.01}}
TEST, TRAIN = "test error (%)", "training loss"
NONCONVEX, SPREAD, MINIMA = "non-convex share", "its spread over planes", "strict minima"
BASIN, HEIGHT = "basin area", "log10 of the largest loss"
SHARPNESS, STDERR = "sharpness", "its standard error"
METRICS = {
    TEST: "test_error",
    TRAIN: "train_loss",
    NONCONVEX: "nonconvex",
    SPREAD: "nonconvex_spread",
    MINIMA: "minima",
    BASIN: "basin",
    HEIGHT: "log_height",
    SHARPNESS: "sharpness",
    STDERR: "sharpness_stderr",
}
PLACE = "CIFAR-10, Sec. 5"
PUBLISHED = {
    SHALLOW: Published(7.37, None, f"{PLACE}, ResNet-20"),
    SHALLOW_PLAIN: Published(8.18, None, f"{PLACE}, ResNet-20-noshort"),
    DEEP: Published(5.89, None, f"{PLACE}, ResNet-56"),
    DEEP_PLAIN: Published(13.31, None, f"{PLACE}, ResNet-56-noshort"),
    SLOW_PLAIN: Published(10.83, None, "CIFAR-10, Table 2, ResNet-56-noshort, rate 0.01"),
    WIDE_PLAIN: Published(10.26, None, f"{PLACE}, WRN-56-noshort, k = 2"),
}


def _more_convex(results: Results, row: str, other: str) -> Verdict:
    """Judges whether a network has less of what is not convex, and fewer minima, than another."""
    return all_of(
        *(beats(results[row, c], results[other, c], lower=True) for c in (NONCONVEX, MINIMA))
    )


@claim(PAPER, "Sec. 5.1")
def depth_destroys_convexity(results: Results) -> Verdict:
    """Without shortcuts the surface of the deep network is less convex than that of the shallow."""
    return _more_convex(results, SHALLOW_PLAIN, DEEP_PLAIN)


@claim(PAPER, "Sec. 5.1")
def shortcuts_keep_convexity(results: Results) -> Verdict:
    """At 56 layers the surface is more convex with shortcuts than without."""
    return _more_convex(results, DEEP, DEEP_PLAIN)


@claim(PAPER, "Sec. 5.1")
def deep_residual_surfaces_stay_convex(results: Results) -> Verdict:
    """With shortcuts less than a tenth of the surface is not convex, at 20 and at 56 layers."""
    return all_of(*(below(results[row, NONCONVEX], 0.1) for row in (SHALLOW, DEEP)))


@claim(PAPER, "Sec. 5.1")
def shortcuts_matter_less_when_shallow(results: Results) -> Verdict:
    """At 20 layers leaving out the shortcuts costs less test error than at 56."""
    difference = results[SHALLOW_PLAIN, TEST].mean - results[SHALLOW, TEST].mean
    return above(results[DEEP_PLAIN, TEST], results[DEEP, TEST].mean + difference)


@claim()
def slower_training_does_not_mend_convexity(results: Results) -> Verdict:
    """Trained at rate 0.01 the deep network without shortcuts still has the less convex surface."""
    return _more_convex(results, DEEP, SLOW_PLAIN)


@claim(PAPER, "Sec. 5.2")
def width_smooths(results: Results) -> Verdict:
    """Without shortcuts the deep network twice as wide has the more convex surface."""
    return _more_convex(results, WIDE_PLAIN, DEEP_PLAIN)


@claim(PAPER, "Sec. 5.1")
def basins_of_residual_networks_are_alike(results: Results) -> Verdict:
    """With shortcuts the basin at 56 layers is at least half as large as that at 20."""
    return at_least_times(results[DEEP, BASIN], results[SHALLOW, BASIN], 0.5)


@claim(PAPER, "Sec. 5.3")
def convex_surfaces_generalize(results: Results) -> Verdict:
    """At 56 layers the network with shortcuts has the lower test error."""
    return beats(results[DEEP, TEST], results[DEEP_PLAIN, TEST], lower=True)


@claim()
def sharpness_tells_shortcuts(results: Results) -> Verdict:
    """At both depths filter-normalized sharpness is lower with shortcuts."""
    pairs = ((SHALLOW, SHALLOW_PLAIN), (DEEP, DEEP_PLAIN))
    return all_of(
        *(beats(results[a, SHARPNESS], results[b, SHARPNESS], lower=True) for a, b in pairs)
    )


@claim(CHECK)
def sharpness_is_measured(results: Results) -> Verdict:
    """The standard error of every sharpness is below a fifth of it."""
    return all_of(
        *(below(results[row, STDERR], 0.2 * results[row, SHARPNESS].mean) for row in VARIANTS)
    )


UNTRAINED = (
    "At this size no network of 56 layers without shortcuts is trained after 2,000 steps: training "
    "losses are 2.0 to 3.1, guessing has 2.3, and seeds differ widely."
)

TABLE = Table(
    title="Depth, shortcuts and width: the surface around trained weights",
    source="Li et al. (2018), Fig. 5 and 6, Sec. 5",
    config=CONFIG,
    cells=tuple(
        Cell(
            row,
            column,
            OVERRIDES.get(row, {}),
            metric,
            PUBLISHED[row] if column == TEST else None,
            run=MEASURE,
            variant=variant,
        )
        for row, variant in VARIANTS.items()
        for column, metric in METRICS.items()
    ),
    headline=("shortcuts_keep_convexity", "depth_destroys_convexity"),
    leads=True,
    notes=(
        "Published errors are those of convolutional networks on CIFAR-10; of the surfaces the "
        "paper has pictures only. Networks of preset cpu are fully connected, in blocks of two.",
        "Planes: random filter-normalized directions from -1 to 1, biases and batch normalization "
        "at rest. Non-convex share: points of the grid whose second differences have a negative "
        "eigenvalue. Strict minima: points lower than all eight around them. Basin area: share of "
        "the square with a loss below that of guessing, ln 10. Means over planes.",
        "Sharpness: mean of d'Hd over such directions d, by Hutchinson's estimator.",
    ),
    reasons={
        "deep_residual_surfaces_stay_convex": "At 56 layers a fifth of the surface is not convex: "
        "more than at 20, and less than a third of what it is without shortcuts.",
        "width_smooths": UNTRAINED,
        "sharpness_is_measured": f"48 probes are few where there is no minimum. {UNTRAINED}",
    },
    repeat={SHALLOW_PLAIN: (TEST, NONCONVEX)},
)
