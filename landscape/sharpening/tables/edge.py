"""The edge of stability as data: where sharpness goes under full-batch gradient descent."""

from typing import Any

from common.aggregates import Results
from common.comparisons import above, all_of, below, every
from common.tables import Table, crossed
from common.verdicts import CHECK, PAPER, Verdict, claim

CONFIG = "landscape/sharpening/configs/gradient_descent.py"
MEASURE = "landscape.sharpening.measures:edge"
COURSES = "landscape.sharpening.figures.courses:draw"
SLOW, MIDDLE, FAST = (f"tanh, learning rate {rate}" for rate in (0.05, 0.1, 0.2))
RELU, ELU = "ReLU", "ELU"
HEAVY_BALL, NESTEROV = "heavy ball", "Nesterov"
ENTROPY = "cross-entropy"
RATE, MOMENTUM = "optimizer.learning_rate", "optimizer.momentum"
FIELDS: dict[str, dict[str, Any]] = {
    SLOW: {RATE: 0.05},
    MIDDLE: {},
    FAST: {RATE: 0.2},
    RELU: {"model.activation": "relu"},
    ELU: {"model.activation": "elu"},
    HEAVY_BALL: {RATE: 0.2, MOMENTUM: 0.9},
    NESTEROV: {MOMENTUM: 0.9, "optimizer.nesterov": True},
    ENTROPY: {"cost": "cross_entropy"},
}
AT_EDGE = (MIDDLE, FAST, RELU, ELU, HEAVY_BALL, NESTEROV)
SLOWLY = (SLOW, MIDDLE, RELU, ELU)  # for more than a few evaluations; others are there at once
LIMIT, SHARPNESS = "limit", "sharpness, last quarter"
RATIO, LEAST, MOST = "sharpness / limit, last quarter", "its least", "its most"
REACHED, LOWEST = "share of the training until the edge", "lowest sharpness"
SOFTMAX, OUTPUT = "softmax Jacobian", "output Jacobian"
RISING = "rank correlation with sharpness while it rises"
WHOLE = "rank correlation over the whole training"
APART, RESIDUAL = "Gauss-Newton off by", "residual"
MET = "largest lower bound of a Jacobian, relative to it"
ERROR = "test error (%)"
METRICS = {
    LIMIT: "limit",
    LOWEST: "sharpness_lowest",
    SHARPNESS: "sharpness",
    RATIO: "ratio",
    LEAST: "ratio_least",
    MOST: "ratio_most",
    REACHED: "reached",
    f"{RISING}, {SOFTMAX}": "softmax_rank_rising",
    f"{RISING}, {SOFTMAX}, from": "softmax_rank_rising_low",
    f"{RISING}, {SOFTMAX}, to": "softmax_rank_rising_high",
    f"{RISING}, {OUTPUT}": "output_rank_rising",
    f"{WHOLE}, {SOFTMAX}": "softmax_rank",
    f"{WHOLE}, {OUTPUT}": "output_rank",
    APART: "gauss_newton_apart",
    RESIDUAL: "residual",
    MET: "bound_share",
    ERROR: "test_error",
}


@claim()
def sharpness_stays_at_the_limit(results: Results) -> Verdict:
    """Over the last quarter sharpness is 0.9 to 1.3 times the limit, where the edge is reached."""
    return all_of(
        every(above, results, AT_EDGE, 0.9, on=RATIO), every(below, results, AT_EDGE, 1.3, on=RATIO)
    )


@claim(PAPER, "abstract")
def sharpness_rises(results: Results) -> Verdict:
    """With squared cost sharpness at least doubles from its lowest point."""
    rows = (SLOW, *AT_EDGE)
    return all_of(*(above(results[row, SHARPNESS], 2 * results[row, LOWEST].mean) for row in rows))


@claim(PAPER, "Fig. 1, as its reviews tell it")
def sharpness_follows_the_softmax_jacobian(results: Results) -> Verdict:
    """While it rises, sharpness has a rank correlation over 0.9 with the softmax Jacobian."""
    return every(above, results, SLOWLY, 0.9, on=f"{RISING}, {SOFTMAX}")


@claim(PAPER, "Fig. 1, as its reviews tell it")
def jacobians_go_on_at_the_edge(results: Results) -> Verdict:
    """Over the whole training it is lower: Jacobians grow on while sharpness is held."""
    return all_of(
        *(
            below(results[row, f"{WHOLE}, {SOFTMAX}"], results[row, f"{RISING}, {SOFTMAX}"].mean)
            for row in (MIDDLE, ELU)
        )
    )


@claim(PAPER, "Ansatz 3.1, as its reviews tell it")
def softmax_tells_what_saturation_does(results: Results) -> Verdict:
    """With cross-entropy sharpness goes with the softmax Jacobian, and against that of outputs."""
    return all_of(
        above(results[ENTROPY, f"{WHOLE}, {SOFTMAX}"], 0.9),
        below(results[ENTROPY, f"{WHOLE}, {OUTPUT}"], 0),
    )


@claim(CHECK)
def lower_bound_is_never_violated(results: Results) -> Verdict:
    """On every segment between two images some Jacobian is as large as Theorem 5.1 says."""
    return every(below, results, tuple(FIELDS), 1.0, on=MET)


@claim(CHECK)
def gauss_newton_has_the_sharpness(results: Results) -> Verdict:
    """The largest eigenvalue of the Gauss-Newton matrix is the sharpness up to 5 %."""
    return every(below, results, AT_EDGE, 0.05, on=APART)


@claim(CHECK)
def sharpness_is_known(results: Results) -> Verdict:
    """The residual of the tracked sharpness is below a tenth of it (median)."""
    return every(below, results, tuple(FIELDS), 0.1, on=RESIDUAL)


TABLE = Table(
    title="The edge of stability: sharpness and Jacobians under full-batch gradient descent",
    source="MacDonald et al. (2023), Fig. 1, with the protocol of Cohen et al. (2021)",
    config=CONFIG,
    cells=tuple(
        cell
        for cell in crossed(FIELDS, METRICS, run=MEASURE)
        if cell.row in SLOWLY or not cell.column.startswith(RISING)
    ),
    figures=COURSES,
    headline=("sharpness_stays_at_the_limit", "sharpness_follows_the_softmax_jacobian"),
    leads=True,
    notes=(
        "No published value: the paper has curves only, and its code is not public. Networks of "
        "two hidden layers of 64 neurons, tanh, squared cost and gradient descent at learning rate "
        "0.1 where a row does not say otherwise, on 500 images for 1,600 updates.",
        "Limit: the largest sharpness at which the optimizer is stable on a quadratic: 2 / "
        "learning rate for gradient descent. Sharpness: the largest eigenvalue of the Hessian, by "
        "Lanczos from the last eigenvector, every ten updates; residual: an eigenvalue lies within "
        "so much of it, median relative to it.",
        "Jacobians: spectral norms of the derivative of outputs, or of their softmax, in the "
        "image, mean over 100 training images. While it rises: from the lowest sharpness until "
        "0.9 times the limit, where that takes at least six evaluations (of 40 updates each); from "
        "and to: its 90 % bootstrap interval, whose ends are averaged over seeds.",
        "Lower bound: Theorem 5.1 for pairs of training images; the largest Jacobian on the "
        "segment between them is no smaller. Largest ratio of 16 pairs and all evaluations.",
    ),
    reasons={
        "sharpness_rises": "At learning rate 0.2 the limit itself is only one and a half times the "
        "lowest sharpness.",
    },
    repeat={MIDDLE: (SHARPNESS, ERROR)},
)
