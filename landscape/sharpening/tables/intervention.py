"""Interventions as data: a penalty on Jacobians and one on sharpness, each seen in the other."""

from common.aggregates import Results
from common.comparisons import all_of, beats
from common.tables import Table, crossed
from common.verdicts import PAPER, Verdict, claim
from landscape.sharpening.tables.edge import CONFIG, COURSES, MEASURE, OUTPUT, SOFTMAX

BASE = {"cost": "cross_entropy", "smoothing": 0.1, "optimizer.learning_rate": 0.05}
PENALTIES = {
    "none": {},
    "Jacobian 0.01": {"penalty.jacobian": 0.01},
    "Jacobian 0.1": {"penalty.jacobian": 0.1},
    "sharpness 0.001": {"penalty.sharpness": 0.001},
    "sharpness 0.01": {"penalty.sharpness": 0.01},
}
FIELDS = {row: {**BASE, **penalty} for row, penalty in PENALTIES.items()}
NONE, *_ = FIELDS
ON_JACOBIAN = tuple(row for row in FIELDS if row.startswith("Jacobian"))
ON_SHARPNESS = tuple(row for row in FIELDS if row.startswith("sharpness"))
SHARPNESS, LOSS, GAP, ERROR = (
    "sharpness, last quarter",
    "training loss",
    "loss gap",
    "test error (%)",
)
METRICS = {
    SHARPNESS: "sharpness",
    OUTPUT: "output_jacobian",
    SOFTMAX: "softmax_jacobian",
    LOSS: "train_loss",
    GAP: "loss_gap",
    ERROR: "test_error",
}


def _lower(results: Results, rows: tuple[str, ...], column: str) -> Verdict:
    return all_of(*(beats(results[row, column], results[NONE, column], lower=True) for row in rows))


@claim(PAPER, "Ansatz 3.1")
def small_jacobians_are_flat(results: Results) -> Verdict:
    """A penalty on the Jacobian of the outputs lowers the sharpness."""
    return _lower(results, ON_JACOBIAN, SHARPNESS)


@claim()
def flat_losses_have_small_jacobians(results: Results) -> Verdict:
    """A penalty on the sharpness lowers the Jacobian of the outputs."""
    return _lower(results, ON_SHARPNESS, OUTPUT)


@claim(PAPER, "Thm 6.1")
def small_jacobians_generalize(results: Results) -> Verdict:
    """A penalty on the Jacobian of the outputs lowers the gap between training and test loss."""
    return _lower(results, ON_JACOBIAN, GAP)


@claim()
def flat_losses_generalize(results: Results) -> Verdict:
    """A penalty on the sharpness lowers the gap between training and test loss."""
    return _lower(results, ON_SHARPNESS, GAP)


TABLE = Table(
    title="Interventions: penalties on Jacobians and on sharpness, each seen in the other",
    source="MacDonald et al. (2023), Ansatz 3.1, as its reviewers asked",
    config=CONFIG,
    cells=crossed(FIELDS, METRICS, run=MEASURE),
    figures=COURSES,
    headline=("small_jacobians_are_flat", "flat_losses_have_small_jacobians"),
    notes=(
        "No published value: the paper only correlates. Networks and data of table edge.",
        "What is followed is the loss with half the squared Frobenius norm of the Jacobian of the "
        "outputs, mean over images, times 0.01 or 0.1; or with half the curvature along the "
        "tracked eigenvector. What is shown is that of the loss without.",
    ),
)
