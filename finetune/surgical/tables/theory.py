"""Two layers as data: which of them a shift asks for, and what tuning both of them costs."""

from common.aggregates import Results
from common.comparisons import above, all_of, below, every, near
from common.tables import Cell, Table
from common.verdicts import CHECK, PAPER, Verdict, claim
from finetune.surgical.tables.shifts import CONFIG

MEASURE = "finetune.surgical.theory:everything"
FIRST, LAST, BOTH = "first layer", "last layer", "both layers"
LEAST, APART = "both layers, least on the way", "closed form off by"
SQUARED, MOVED = "s squared", "v v^T - B B^T moves by"
SMALLEST, ONE, THREE = "smallest case", "8 inputs, 1 shown", "8 inputs, 3 shown"
INPUTS, LABELS = "ReLU, rotated inputs", "ReLU, labels of the other sign"
FLOWS = {FIRST: "first", LAST: "last", BOTH: "both", LEAST: "least", MOVED: "moved"}
CLOSED = {APART: "apart", SQUARED: "squared"}
LAYERS = {FIRST: "first", LAST: "last"}
ROWS = {
    SMALLEST: ("smallest", {**FLOWS, **CLOSED}),
    ONE: ("one_shown", {**FLOWS, **CLOSED}),
    THREE: ("three_shown", FLOWS),
    INPUTS: ("rotated_inputs", LAYERS),
    LABELS: ("negated_labels", LAYERS),
}
LINEAR = (SMALLEST, ONE, THREE)


@claim(PAPER, "Thm. 1")
def first_layer_reaches_zero(results: Results) -> Verdict:
    """Gradient flow on the first layer ends with a target loss of 0 (under 1e-6)."""
    return every(below, results, LINEAR, 1e-6, on=FIRST)


@claim(PAPER, "Thm. 1")
def both_layers_never_do(results: Results) -> Verdict:
    """Gradient flow on both layers has a target loss above 0.001 at every time."""
    return every(above, results, LINEAR, 1e-3, on=LEAST)


@claim(CHECK)
def closed_forms_agree(results: Results) -> Verdict:
    """Where one example is shown, closed forms are off by less than 0.001 of gradient flow."""
    return every(below, results, (SMALLEST, ONE), 1e-3, on=APART)


@claim(CHECK)
def smallest_case_has_its_numbers(results: Results) -> Verdict:
    """In the smallest case s squared is 1/5 and the loss of both layers is 0.0584."""
    return all_of(
        near(results[SMALLEST, SQUARED], 0.2, 1e-9), near(results[SMALLEST, BOTH], 0.0584, 1e-4)
    )


@claim(CHECK)
def the_invariant_stays(results: Results) -> Verdict:
    """Gradient flow on both layers keeps v v^T - B B^T."""
    return every(below, results, LINEAR, 1e-6, on=MOVED)


@claim(PAPER, "Prop. 1")
def inputs_want_the_first_layer(results: Results) -> Verdict:
    """Rotated inputs are undone by a first layer, and by no last layer to a tenth."""
    return all_of(below(results[INPUTS, FIRST], 1e-9), above(results[INPUTS, LAST], 0.1))


@claim(PAPER, "Prop. 2")
def labels_want_the_last_layer(results: Results) -> Verdict:
    """Labels of the other sign are undone by a last layer, and by no first layer at all."""
    return all_of(below(results[LABELS, LAST], 1e-9), above(results[LABELS, FIRST], 0.99))


TABLE = Table(
    title="Two layers: target losses of gradient flow, and the least ones of a layer",
    source="Lee et al. (2023), Prop. 1, Prop. 2 and Thm. 1",
    published_size="the paper's theorems, by gradient flow",
    config=CONFIG,
    cells=tuple(
        Cell(row, column, {"seed_group": 1}, f"{case}_{metric}", run=MEASURE)
        for row, (case, columns) in ROWS.items()
        for column, metric in columns.items()
    ),
    seeds=(0, 1, 2, 3, 4),
    headline=("first_layer_reaches_zero", "both_layers_never_do"),
    notes=(
        "No published value: the paper proves statements. Closed forms were derived anew. Losses "
        "are means of r^2 / 2 over inputs of covariance 1; those of ReLU are in units of the loss "
        "of the output 0. Float64, gradient flow to a tolerance of 1e-10. In the smallest case, "
        "which has no seed, last-layer tuning solves the target as well.",
    ),
)
