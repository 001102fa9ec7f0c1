"""Flows as data: which of two predicts where full-batch gradient descent goes."""

from common.aggregates import Results
from common.comparisons import all_of, at_most_times, beats, near
from common.tables import Table, crossed
from common.verdicts import Verdict, claim
from landscape.sharpening.tables.edge import CONFIG

MEASURE = "landscape.sharpening.flows:flows"
RATES = (0.15, 0.2)
FIELDS = {
    f"learning rate {rate}": {"optimizer.learning_rate": rate, "num_steps": 80} for rate in RATES
}
DESCENT, CENTRAL, GRADIENT = "gradient descent", "central flow", "gradient flow"
SHARPNESS, APART, DISTANCE = "sharpness", "training loss off by", "distance at the end"
METRICS = {
    f"{SHARPNESS}, {DESCENT}": "sharpness",
    f"{SHARPNESS}, {CENTRAL}": "central_sharpness",
    f"{SHARPNESS}, {GRADIENT}": "gradient_sharpness",
    f"{APART}, {CENTRAL}": "central_loss_apart",
    f"{APART}, {GRADIENT}": "gradient_loss_apart",
    f"{DISTANCE}, {CENTRAL}": "central_distance",
    f"{DISTANCE}, {GRADIENT}": "gradient_distance",
}


@claim()
def gradient_flow_sharpens_on(results: Results) -> Verdict:
    """Gradient flow goes to at least one and a half times the sharpness of gradient descent."""
    return all_of(
        *(
            at_most_times(
                results[row, f"{SHARPNESS}, {DESCENT}"],
                results[row, f"{SHARPNESS}, {GRADIENT}"],
                1 / 1.5,
            )
            for row in FIELDS
        )
    )


@claim()
def the_central_flow_predicts_the_loss(results: Results) -> Verdict:
    """The loss of the central flow is nearer to that of gradient descent than gradient flow's."""
    return all_of(
        *(
            beats(results[row, f"{c}, {CENTRAL}"], results[row, f"{c}, {GRADIENT}"], lower=True)
            for row in FIELDS
            for c in (APART, DISTANCE)
        )
    )


@claim()
def the_central_flow_stays_at_the_limit(results: Results) -> Verdict:
    """The sharpness of the central flow is within 10 % of 2 / learning rate."""
    return all_of(
        *(
            near(results[row, f"{SHARPNESS}, {CENTRAL}"], 2 / rate, 0.2 / rate)
            for row, rate in zip(FIELDS, RATES, strict=True)
        )
    )


TABLE = Table(
    title="Two flows next to gradient descent at the edge of stability",
    source="Cohen et al. (2025), arXiv 2410.24206, on the training of MacDonald et al. (2023)",
    config=CONFIG,
    cells=crossed(FIELDS, METRICS, run=MEASURE),
    headline=("the_central_flow_predicts_the_loss", "gradient_flow_sharpens_on"),
    notes=(
        "No published value for these networks: those of table edge, 800 updates. Numbers are over "
        "the last half of the training; losses are off by the root mean square of the relative "
        "difference to the mean loss of ten updates.",
        "Central flow: of two directions, by Euler's steps of half a learning rate, with the loss "
        "that its oscillation adds. Gradient flow: by Dormand and Prince's adaptive steps.",
    ),
)
