"""Label smoothing as data: sharpness, and which Jacobian goes with it."""

from common.aggregates import Results
from common.comparisons import above, all_of, beats, below, every
from common.tables import Table, crossed
from common.verdicts import CHECK, PAPER, Verdict, claim
from landscape.sharpening.tables.edge import CONFIG, COURSES, MEASURE, OUTPUT, SOFTMAX, WHOLE

LEVELS = (0.0, 0.25, 0.5, 0.75)
FIELDS = {f"smoothing {level:g}": {"cost": "cross_entropy", "smoothing": level} for level in LEVELS}
NONE, *SMOOTHED = FIELDS
SHARPNESS, CURVATURE = "sharpness, last quarter", "curvature of the cost"
JACOBIANS = {SOFTMAX: "softmax_jacobian", OUTPUT: "output_jacobian"}
MET, GAP, ERROR = "largest lower bound of a Jacobian, relative to it", "loss gap", "test error (%)"
METRICS = {
    SHARPNESS: "sharpness",
    CURVATURE: "cost_curvature",
    **JACOBIANS,
    f"{WHOLE}, {SOFTMAX}": "softmax_rank",
    f"{WHOLE}, {SOFTMAX}, from": "softmax_rank_low",
    f"{WHOLE}, {SOFTMAX}, to": "softmax_rank_high",
    f"{WHOLE}, {OUTPUT}": "output_rank",
    MET: "bound_share",
    GAP: "loss_gap",
    ERROR: "test_error",
}


@claim(PAPER, "Fig. 1, as its reviews tell it")
def sharpness_follows_the_softmax_jacobian(results: Results) -> Verdict:
    """At every level sharpness and the Jacobian of the softmax have a rank correlation over 0.9."""
    return every(above, results, tuple(FIELDS), 0.9, on=f"{WHOLE}, {SOFTMAX}")


@claim()
def without_smoothing_outputs_go_the_other_way(results: Results) -> Verdict:
    """Without smoothing the Jacobian of the outputs rises while the sharpness falls."""
    return below(results[NONE, f"{WHOLE}, {OUTPUT}"], 0)


@claim(PAPER, "Fig. 1, as its reviews tell it")
def smoothing_keeps_sharpness_up(results: Results) -> Verdict:
    """With any smoothing sharpness ends higher than without, and the cost is more curved."""
    return all_of(
        *(
            beats(results[row, c], results[NONE, c])
            for row in SMOOTHED
            for c in (SHARPNESS, CURVATURE)
        )
    )


@claim(PAPER, "Fig. 5, as its reviews tell it")
def smoothing_lowers_the_output_jacobian(results: Results) -> Verdict:
    """With any smoothing the Jacobian of the outputs ends lower than without, and the gap too."""
    return all_of(
        *(
            beats(results[row, column], results[NONE, column], lower=True)
            for row in SMOOTHED
            for column in (OUTPUT, GAP)
        )
    )


@claim(CHECK)
def lower_bound_is_never_violated(results: Results) -> Verdict:
    """On every segment between two images some Jacobian is as large as Theorem 5.1 says."""
    return every(below, results, tuple(FIELDS), 1.0, on=MET)


TABLE = Table(
    title="Label smoothing: sharpness, the curvature of the cost, and Jacobians",
    source="MacDonald et al. (2023), Fig. 1",
    config=CONFIG,
    cells=crossed(FIELDS, METRICS, run=MEASURE),
    figures=COURSES,
    headline=("sharpness_follows_the_softmax_jacobian", "smoothing_lowers_the_output_jacobian"),
    notes=(
        "No published value: the paper has curves only. Networks and data of table edge, with "
        "cross-entropy, gradient descent at learning rate 0.1.",
        "Curvature of the cost: largest eigenvalue of diag(p) - p p', mean over images: the factor "
        "between the Jacobian of the outputs and that of the loss. Gap: test less training loss, "
        "both without smoothing. From and to: 90 % bootstrap interval of the rank correlation, its "
        "ends averaged over seeds.",
    ),
)
