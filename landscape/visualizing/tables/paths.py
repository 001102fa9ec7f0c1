"""Paths of optimizers as data: in how few dimensions they lie, and what their planes show."""

from common.aggregates import Results
from common.comparisons import above, all_of, beats, below, every, near
from common.tables import Cell, Published, Table
from common.verdicts import CHECK, PAPER, Verdict, claim
from landscape.visualizing.tables import batch_size
from landscape.visualizing.tables.batch_size import CONFIG, DECAY, LARGE, PLAIN, SMALL

MEASURE = "landscape.visualizing.paths:paths"
SGD, ADAM = "SGD", "Adam"
VARIANTS = {  # (optimizer, setting): argument of the config file
    (optimizer, setting): f"{decay},optimizer={optimizer.lower()}" if optimizer != SGD else decay
    for optimizer in (SGD, ADAM)
    for setting, decay in batch_size.SETTINGS.items()
}
TEST = "test error (%)"
TWO, ONE, RAW = "two axes", "one axis", "two axes, not centred"
LATE, NORM_FREE = "two axes, without the first steps", "two axes, lengths of filters taken out"
RANDOM, COSINE = "two random directions", "cosine with a random one over its expectation"
RESIDUAL, FACTOR = "distance from the plane", "factor between the losses of plane and state"
FIRST, BEFORE, AFTER = "descent, first steps", "descent, up to the drop", "descent, after the drop"
IN_FIRST, IN_BEFORE = "step in the plane, first steps", "step in the plane, up to the drop"
METRICS = {
    TEST: "test_error",
    TWO: "two_axes",
    ONE: "one_axis",
    RAW: "two_axes_uncentred",
    LATE: "two_axes_late",
    NORM_FREE: "two_axes_norm_free",
    RANDOM: "random_plane",
    COSINE: "random_cosine",
    RESIDUAL: "residual",
    FACTOR: "loss_factor",
    FIRST: "descent_first",
    BEFORE: "descent_before_drop",
    AFTER: "descent_after_drop",
    IN_FIRST: "inside_first",
    IN_BEFORE: "inside_before_drop",
}


def row(optimizer: str, setting: str, size: str) -> str:
    """Returns the label of a row."""
    return f"{optimizer}, {setting}, {size}"


ROWS = tuple(row(*place, size) for place in VARIANTS for size in batch_size.ROWS)
DECAYED = tuple(row(optimizer, DECAY, SMALL) for optimizer in (SGD, ADAM))


def _published(optimizer: str, setting: str, size: str, what: str) -> Published | None:
    """Returns the published error of a row trained by SGD; of Adam's no source could be read."""
    is_known = what == TEST and optimizer == SGD
    return batch_size.PUBLISHED[size, setting] if is_known else None


@claim(PAPER, "Sec. 7.1")
def random_planes_show_nothing(results: Results) -> Verdict:
    """Two random directions hold less than 1 % of the variation of any path."""
    return every(below, results, ROWS, 0.01, on=RANDOM)


@claim(PAPER, "Sec. 7.2")
def two_axes_hold_most(results: Results) -> Verdict:
    """Two principal axes hold more than 40 % of the variation of every path."""
    return every(above, results, ROWS, 0.4, on=TWO)


@claim(PAPER, "Sec. 7.2")
def two_axes_do_not_hold_all(results: Results) -> Verdict:
    """Two principal axes hold less than 90 % of the variation of every path."""
    return every(below, results, ROWS, 0.9, on=TWO)


@claim(PAPER, "Sec. 7.2")
def first_steps_cross_contours(results: Results) -> Verdict:
    """The first steps go down the slope of the plane, at less than 45 degrees to its gradient."""
    return every(above, results, ROWS, 0.71, on=FIRST)


@claim(PAPER, "Sec. 7.2")
def small_batches_with_decay_orbit(results: Results) -> Verdict:
    """With decay small batches then go along contours: less down the slope than at first."""
    return all_of(*(beats(results[r, BEFORE], results[r, FIRST], lower=True) for r in DECAYED))


@claim()
def small_batches_leave_the_plane(results: Results) -> Verdict:
    """In every setting less of the steps of small batches is in the plane up to the drop."""
    small = [row(*place, SMALL) for place in VARIANTS]
    return all_of(*(beats(results[r, IN_BEFORE], results[r, IN_FIRST], lower=True) for r in small))


@claim()
def large_batches_have_flatter_paths(results: Results) -> Verdict:
    """In every setting two axes hold more of the path of the large batch."""
    pairs = [(row(*place, LARGE), row(*place, SMALL)) for place in VARIANTS]
    return all_of(*(beats(results[a, TWO], results[b, TWO]) for a, b in pairs))


@claim()
def lengths_are_part_of_it(results: Results) -> Verdict:
    """Where lengths of filters are taken out, two axes hold less of every path of SGD."""
    rows = [row(SGD, setting, size) for setting in (PLAIN, DECAY) for size in (SMALL, LARGE)]
    return all_of(*(beats(results[r, NORM_FREE], results[r, TWO], lower=True) for r in rows))


@claim(CHECK)
def random_directions_are_at_right_angles(results: Results) -> Verdict:
    """Cosines with random directions are those of Gaussian vectors, up to a fifth."""
    return all_of(*(near(results[r, COSINE], 1.0, 0.2) for r in ROWS))


TABLE = Table(
    title="Paths of optimizers: what two principal axes hold, and what random directions do",
    source="Li et al. (2018), Fig. 8 and 9, Sec. 7",
    config=CONFIG,
    cells=tuple(
        Cell(
            row(*place, size),
            what,
            {},
            f"{prefix}_{metric}",
            _published(*place, size, what),
            run=MEASURE,
            variant=variant,
        )
        for place, variant in VARIANTS.items()
        for size, prefix in batch_size.ROWS.items()
        for what, metric in METRICS.items()
    ),
    headline=("random_planes_show_nothing", "two_axes_hold_most"),
    notes=(
        "Published errors are those of VGG-9 on CIFAR-10, trained by SGD.",
        "Paths have a state of every three epochs at preset cpu, parameters without running "
        "statistics. Shares are those of the rows theta_i - theta_n, without their mean as in the "
        "released code, or not centred as in the text. The first steps are a tenth of all.",
        "Distance from the plane: root of the mean square over that of the distance from the end. "
        "Losses: of the plane, with the running statistics of the end, and of the states; median.",
        "Descent: cosine between the step in the plane and its steepest descent, a mean over the "
        "first steps, from there to the first drop of the learning rate, and as many after it. "
        "Step in the plane: the length of its projection over its own.",
        "Random directions: 32, without normalization; expected |cosine| is sqrt(2 / (pi n)).",
    ),
    reasons={
        "two_axes_do_not_hold_all": "These paths are short: most of each is one axis, from the "
        "start to the end, and part of that is whole filters growing or shrinking.",
        "first_steps_cross_contours": "With decay the weights of the start are more than twice as "
        "long as those of the end, whose running statistics the plane has: its loss there is "
        "thousands and more, and where it falls differs between seeds.",
        "small_batches_with_decay_orbit": "Up to the drop the greater part of a step is outside of "
        "the plane: what goes round does so in other dimensions, and the plane shows the drift.",
    },
)
