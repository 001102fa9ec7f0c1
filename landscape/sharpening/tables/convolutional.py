"""Convolutional networks as data: the same quantities in a second family of architectures."""

from common.aggregates import Results
from common.comparisons import above, all_of, below, every
from common.tables import Table, crossed
from common.verdicts import CHECK, PAPER, Verdict, claim
from landscape.sharpening.tables.edge import (
    CONFIG,
    COURSES,
    LIMIT,
    LOWEST,
    MEASURE,
    MET,
    OUTPUT,
    RATIO,
    REACHED,
    SHARPNESS,
    SOFTMAX,
    WHOLE,
)

VGG, VGG_NORM, RESNET = "VGG-11", "VGG-11, batch normalization", "ResNet-18"
VARIANTS = {VGG: "network=vgg11", VGG_NORM: "network=vgg11_bn", RESNET: "network=resnet18"}
LOSS = "training loss"
METRICS = {
    LIMIT: "limit",
    LOWEST: "sharpness_lowest",
    SHARPNESS: "sharpness",
    RATIO: "ratio",
    REACHED: "reached",
    f"{WHOLE}, {SOFTMAX}": "softmax_rank",
    f"{WHOLE}, {OUTPUT}": "output_rank",
    MET: "bound_share",
    LOSS: "train_loss",
}


@claim()
def sharpness_stays_at_the_limit(results: Results) -> Verdict:
    """Over the last quarter sharpness is 0.9 to 1.3 times the limit."""
    rows = tuple(VARIANTS)
    return all_of(
        every(above, results, rows, 0.9, on=RATIO), every(below, results, rows, 1.3, on=RATIO)
    )


@claim(PAPER, "Fig. 8-12, as its reviews tell them")
def sharpness_follows_the_softmax_jacobian(results: Results) -> Verdict:
    """Over the whole training their rank correlation is over 0.8."""
    return every(above, results, tuple(VARIANTS), 0.8, on=f"{WHOLE}, {SOFTMAX}")


@claim(CHECK)
def lower_bound_is_never_violated(results: Results) -> Verdict:
    """On every segment between two images some Jacobian is as large as Theorem 5.1 says."""
    return every(below, results, tuple(VARIANTS), 1.0, on=MET)


TABLE = Table(
    title="Convolutional networks: sharpness and Jacobians under full-batch gradient descent",
    source="MacDonald et al. (2023), Fig. 8 to 12, with the protocol of Cohen et al. (2021)",
    config=CONFIG,
    cells=crossed({row: {} for row in VARIANTS}, METRICS, run=MEASURE, variants=VARIANTS),
    figures=COURSES,
    headline=("sharpness_stays_at_the_limit", "sharpness_follows_the_softmax_jacobian"),
    notes=(
        "No published value: the paper has curves only. Networks of 4 to 32 channels, squared "
        "cost, gradient descent at learning rate 0.1 on 500 images for 400 updates; columns are "
        "those of table edge.",
        "Sharpness is that of the loss as it is trained, normalized by the whole training set "
        "where there is batch normalization; Jacobians are those of a single image, by running "
        "statistics.",
    ),
    reasons={
        "sharpness_stays_at_the_limit": "With batch normalization networks are at the limit from "
        "the beginning, and stay above it.",
        "sharpness_follows_the_softmax_jacobian": "Networks with batch normalization do not rise "
        "to the edge, they are there; their seeds differ widely.",
    },
)
