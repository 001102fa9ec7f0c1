"""Small against large batches as data: flatness with and without filter normalization."""

from common.aggregates import Results
from common.comparisons import all_of, at_least_times, at_most_times, beats, every
from common.tables import Cell, Published, Table, by_last_comma
from common.verdicts import PAPER, Verdict, claim

CONFIG = "landscape/visualizing/configs/batch_size.py"
MEASURE = "landscape.visualizing.measures:batch_size"
SMALL, LARGE = "small batch", "large batch"
ROWS = {SMALL: "small", LARGE: "large"}
PLAIN, DECAY = "no weight decay", "weight decay"
SETTINGS = {PLAIN: "decay=no", DECAY: "decay=yes"}
TEST, NORM = "test error (%)", "weight norm"
TRAIN = "training loss"
LINE, WIDTH = "width on the line through both", "width along random directions"
SHARPNESS, TRACE = "filter-normalized sharpness", "trace of the Hessian"
NONCONVEX = "non-convex share"
METRICS = {
    TEST: "test_error",
    TRAIN: "train_loss",
    NORM: "weight_norm",
    LINE: "line_width",
    WIDTH: "width",
    SHARPNESS: "sharpness",
    TRACE: "trace",
    NONCONVEX: "nonconvex",
}
PLACE = "VGG-9 on CIFAR-10, SGD, Sec. 3"
PUBLISHED = {
    (SMALL, PLAIN): Published(7.37, None, f"{PLACE}, batch 128, weight decay 0"),
    (LARGE, PLAIN): Published(11.07, None, f"{PLACE}, batch 8192, weight decay 0"),
    (SMALL, DECAY): Published(6.0, None, f"{PLACE}, batch 128, weight decay 5e-4"),
    (LARGE, DECAY): Published(10.19, None, f"{PLACE}, batch 8192, weight decay 5e-4"),
}


def place(setting: str, what: str) -> str:
    """Returns the label of a column."""
    return f"{setting}, {what}"


def _both(what: str) -> list[str]:
    return [place(setting, what) for setting in SETTINGS]


@claim(PAPER, "Sec. 3")
def small_batches_generalize(results: Results) -> Verdict:
    """The small-batch network has the lower test error, with weight decay and without."""
    return every(beats, results, SMALL, LARGE, on=_both(TEST), lower=True)


@claim(PAPER, "Sec. 3")
def decay_flips_the_norms(results: Results) -> Verdict:
    """Without weight decay the large batch has the smaller weights, with it the small batch."""
    return all_of(
        beats(results[LARGE, place(PLAIN, NORM)], results[SMALL, place(PLAIN, NORM)], lower=True),
        beats(results[SMALL, place(DECAY, NORM)], results[LARGE, place(DECAY, NORM)], lower=True),
    )


@claim(PAPER, "Sec. 3")
def decay_flips_the_line(results: Results) -> Verdict:
    """On the line through both the small batch looks wider without decay, the large one with it."""
    return all_of(
        beats(results[SMALL, place(PLAIN, LINE)], results[LARGE, place(PLAIN, LINE)]),
        beats(results[LARGE, place(DECAY, LINE)], results[SMALL, place(DECAY, LINE)]),
    )


@claim(PAPER, "Sec. 4.1")
def small_batches_are_wide(results: Results) -> Verdict:
    """Along filter-normalized directions the small-batch minimum is wider in both settings."""
    return every(beats, results, SMALL, LARGE, on=_both(WIDTH))


@claim(PAPER, "Sec. 4.1")
def sharpness_ranks_test_errors(results: Results) -> Verdict:
    """In both settings the network with the lower test error has the lower filtered sharpness."""
    return every(beats, results, SMALL, LARGE, on=_both(SHARPNESS), lower=True)


@claim()
def raw_curvature_does_not_rank(results: Results) -> Verdict:
    """With weight decay the trace of the Hessian, not normalized, ranks them the other way."""
    column = place(DECAY, TRACE)
    return beats(results[LARGE, column], results[SMALL, column], lower=True)


@claim()
def sharpness_is_free_of_scale(results: Results) -> Verdict:
    """Decay multiplies the small-batch trace by more than 5, and sharpness by less than 1.3."""
    decay, plain = ({m: results[SMALL, place(s, m)] for m in METRICS} for s in (DECAY, PLAIN))
    return all_of(
        at_least_times(decay[TRACE], plain[TRACE], 5.0),
        at_most_times(decay[SHARPNESS], plain[SHARPNESS], 1.3),
    )


TABLE = Table(
    title="Small and large batches: how flat their minima are, by raw and by normalized directions",
    source="Li et al. (2018), Fig. 2 to 4, Sec. 3 and 4",
    config=CONFIG,
    cells=tuple(
        Cell(
            row,
            place(setting, what),
            {},
            f"{prefix}_{metric}",
            PUBLISHED[row, setting] if what == TEST else None,
            run=MEASURE,
            variant=variant,
        )
        for row, prefix in ROWS.items()
        for setting, variant in SETTINGS.items()
        for what, metric in METRICS.items()
    ),
    headline=("sharpness_ranks_test_errors", "decay_flips_the_norms"),
    split=by_last_comma,
    notes=(
        "Published errors are those of VGG-9 on CIFAR-10.",
        "A run trains both networks: from the same weights on the same examples, the one with 32 "
        "updates where the other has one of 512 examples at preset cpu.",
        "Widths: length of the interval around the network in which the training loss is below "
        "0.3, on a line from -0.5 to 1.5 (0 and 1: the networks), and along the axes of the planes "
        "from -1 to 1, mean over six directions. On the line an interval also ends where an "
        "interpolated running variance turns negative, which it does just beyond the network with "
        "the smaller weights: right of 1 without decay, left of 0 with it.",
        "Sharpness: mean of d'Hd over filter-normalized directions d; the trace of the Hessian is "
        "that of Gaussian directions that are not normalized.",
    ),
    reasons={
        "raw_curvature_does_not_rank": "With decay the small-batch weights shrink to a quarter and "
        "the trace rises tenfold, while the sharpness stays: the trace measures the scale too. But "
        "it was forty times smaller before, so that the order stays.",
    },
)
