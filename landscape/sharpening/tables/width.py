"""Width as data: how much wide networks sharpen, and which layers carry it."""

from common.aggregates import Results
from common.comparisons import all_of, beats
from common.tables import Table, crossed
from common.verdicts import PAPER, Verdict, claim
from landscape.sharpening.tables.edge import CONFIG, COURSES, MEASURE

WIDTHS = (16, 64, 256, 512)
RATE = 0.02  # whose limit, 100, none of them reaches
FIELDS = {
    f"width {width}": {"model.width": width, "optimizer.learning_rate": RATE} for width in WIDTHS
}
NARROW, *_, WIDE = FIELDS
START, END = "sharpness at the start", "sharpness, last quarter"
TIMES = "times its lowest, at a training loss of 0.15"
FIRST, LAST, ALIGNMENT = "share of the first layer", "share of the last layer", "alignment"
LOSS, ERROR = "training loss", "test error (%)"
METRICS = {
    START: "sharpness_start",
    END: "sharpness",
    TIMES: "sharpened",
    FIRST: "first_share",
    LAST: "last_share",
    ALIGNMENT: "alignment",
    LOSS: "train_loss",
    ERROR: "test_error",
}


@claim(PAPER, "as its reviews tell it")
def wide_networks_sharpen_less(results: Results) -> Verdict:
    """Each network sharpens less, relative to its lowest sharpness, than the narrower one."""
    rows = list(FIELDS)
    pairs = zip(rows[1:], rows, strict=False)
    return all_of(*(beats(results[a, TIMES], results[b, TIMES], lower=True) for a, b in pairs))


@claim()
def the_first_layer_matters_less_when_wide(results: Results) -> Verdict:
    """The first layer has a smaller share of the top eigenvalue in the widest network."""
    return beats(results[WIDE, FIRST], results[NARROW, FIRST], lower=True)


TABLE = Table(
    title="Width: how much networks sharpen, and which layers carry it",
    source="MacDonald et al. (2023), Sec. 3, a prediction that is not tested there",
    config=CONFIG,
    cells=crossed(FIELDS, METRICS, run=MEASURE),
    figures=COURSES,
    headline=("wide_networks_sharpen_less",),
    notes=(
        "No published value: the paper predicts that wide networks sharpen little, since the "
        "Jacobian of their first layer is not in the conjugate of the Gauss-Newton matrix; it does "
        "not measure it. Networks and data of table edge, at learning rate 0.02, at which none "
        "comes to its edge.",
        "Times its lowest: sharpness at the first evaluation with that loss, over the least before "
        "it. Shares: of a layer's term of the conjugate in its largest eigenvalue. Alignment: norm "
        "of the Jacobian over the product of those of the layers, mean over images.",
    ),
    reasons={
        "wide_networks_sharpen_less": "From 64 on the means are in this order; the narrowest one "
        "sharpens less than the next.",
    },
)
