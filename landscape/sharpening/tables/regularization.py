"""Regularizers as data: which quantity follows the generalization gap in families of networks."""

from common.aggregates import Results
from common.comparisons import above, all_of, below
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim

CONFIG = "landscape/sharpening/configs/regularization.py"
MEASURE = "landscape.sharpening.families:regularization"
ALL = "all"
RATE, BATCH, EPOCHS = "learning rate", "batch size, equal updates", "batch size, equal epochs"
DECAY, SMOOTHING, SAM = "weight decay", "label smoothing", "SAM"
MIXUP, AUGMENT = "mixup", "augmentation"
FAMILIES = {
    ALL: "all",
    RATE: "learning_rate",
    BATCH: "batch_size",
    EPOCHS: "batch_size_epochs",
    DECAY: "weight_decay",
    SMOOTHING: "smoothing",
    SAM: "sam",
    MIXUP: "mixup",
    AUGMENT: "augment",
}
SHARPNESS, OUTPUT, LARGEST, SOFTMAX = (
    "sharpness",
    "output Jacobian",
    "largest output Jacobian",
    "softmax Jacobian",
)
QUANTITIES = {
    SHARPNESS: "sharpness",
    OUTPUT: "output_jacobian",
    LARGEST: "output_jacobian_max",
    SOFTMAX: "softmax_jacobian",
}
LOSS_GAP, ERROR_GAP = "rank correlation with the loss gap", "rank correlation with the error gap"
LOW, HIGH = "from", "to"
CHANGE = "strongest against none"
RANKS = {LOSS_GAP: "loss_gap", ERROR_GAP: "error_gap"}
CHANGES = {
    SHARPNESS: "sharpness_times",
    OUTPUT: "output_jacobian_times",
    SOFTMAX: "softmax_jacobian_times",
    "loss gap": "loss_gap_times",
    "test error": "test_error_change",
}


def _columns(row: str) -> dict[str, str]:
    """Returns the columns of a row: metrics by label."""
    columns = {"networks": "members"}
    for rank, gap in RANKS.items():
        for label, quantity in QUANTITIES.items():
            columns[f"{rank}, {label}"] = f"{quantity}_{gap}"
    for end, suffix in ((LOW, "low"), (HIGH, "high")):
        for label in (SHARPNESS, OUTPUT, SOFTMAX):
            columns[f"{LOSS_GAP}, {label}, {end}"] = f"{QUANTITIES[label]}_loss_gap_{suffix}"
    if row != ALL:
        columns |= {f"{CHANGE}, {label}": metric for label, metric in CHANGES.items()}
    return columns


@claim(PAPER, "Fig. 5, as its reviews tell it")
def the_output_jacobian_follows_the_gap(results: Results) -> Verdict:
    """Over all networks the gap has a rank correlation over 0.8 with the Jacobian of outputs."""
    return above(results[ALL, f"{LOSS_GAP}, {OUTPUT}"], 0.8)


@claim(PAPER, "Fig. 5, as its reviews tell it")
def sharpness_does_not(results: Results) -> Verdict:
    """Over all networks sharpness has no rank correlation above 0 with the gap."""
    return below(results[ALL, f"{LOSS_GAP}, {SHARPNESS}"], 0)


@claim()
def the_softmax_jacobian_does_not_either(results: Results) -> Verdict:
    """Nor has the Jacobian of the softmax, which sharpness follows during training."""
    return below(results[ALL, f"{LOSS_GAP}, {SOFTMAX}"], 0)


@claim(PAPER, "Fig. 2, as its reviews tell it")
def decay_sharpens_and_generalizes(results: Results) -> Verdict:
    """The strongest weight decay raises the sharpness, and lowers Jacobian and gap."""
    return all_of(
        above(results[DECAY, f"{CHANGE}, {SHARPNESS}"], 1),
        below(results[DECAY, f"{CHANGE}, {OUTPUT}"], 1),
        below(results[DECAY, f"{CHANGE}, loss gap"], 1),
    )


@claim(PAPER, "Fig. 5, as its reviews tell it")
def sam_flattens(results: Results) -> Verdict:
    """SAM lowers the sharpness."""
    return below(results[SAM, f"{CHANGE}, {SHARPNESS}"], 1)


@claim(PAPER, "Fig. 5, as its reviews tell it")
def only_sam_flattens(results: Results) -> Verdict:
    """Weight decay, smoothing, mixup and augmentation raise the sharpness."""
    rows = (DECAY, SMOOTHING, MIXUP, AUGMENT)
    return all_of(*(above(results[row, f"{CHANGE}, {SHARPNESS}"], 1) for row in rows))


@claim(PAPER, "Fig. 5, as its reviews tell it")
def regularizers_lower_jacobian_and_gap(results: Results) -> Verdict:
    """Every regularizer lowers the Jacobian of the outputs, and the gap with it."""
    rows = (DECAY, SMOOTHING, SAM, MIXUP, AUGMENT)
    columns = (f"{CHANGE}, {OUTPUT}", f"{CHANGE}, loss gap")
    return all_of(*(below(results[row, column], 1) for row in rows for column in columns))


@claim(PAPER, "Fig. 4, as its reviews tell it")
def large_batches_part_jacobian_and_gap(results: Results) -> Verdict:
    """With equal epochs, Jacobian and gap have a lower correlation than with equal updates."""
    column = f"{LOSS_GAP}, {OUTPUT}"
    return below(results[EPOCHS, column], results[BATCH, column].mean)


@claim()
def sharper_minima_generalize_better(results: Results) -> Verdict:
    """SAM, decay and augmentation give sharper minima with lower test errors (arXiv 2510.12451)."""
    rows = (SAM, DECAY, AUGMENT)
    return all_of(
        *(above(results[row, f"{CHANGE}, {SHARPNESS}"], 1) for row in rows),
        *(below(results[row, f"{CHANGE}, test error"], 0) for row in rows),
    )


@claim()
def error_gaps_follow_nothing(results: Results) -> Verdict:
    """Over all networks no quantity has a rank correlation over 0.8 with the gap in errors."""
    columns = [f"{ERROR_GAP}, {label}" for label in QUANTITIES]
    return all_of(*(below(results[ALL, column], 0.8) for column in columns))


TABLE = Table(
    title="Regularizers: what follows the generalization gap",
    source="MacDonald et al. (2023), Fig. 2 to 5",
    config=CONFIG,
    cells=tuple(
        Cell(row, column, {"family": name}, metric, run=MEASURE)
        for row, name in FAMILIES.items()
        for column, metric in _columns(row).items()
    ),
    headline=("the_output_jacobian_follows_the_gap", "decay_sharpens_and_generalizes"),
    notes=(
        "No published value: the paper has pictures only, and its strengths could not be read. "
        "ReLU networks of two hidden layers of 128 neurons on 1,000 images, cross-entropy, 3,000 "
        "updates of SGD in batches of 32, at learning rates 0.05 and 0.2 each.",
        "Members: learning rates 0.025 to 0.4; batches of 8, 32 and 128; weight decay 0, 0.001, "
        "0.003 and 0.01; smoothing 0, 0.1, 0.3 and 0.5; SAM with radius 0, 0.05, 0.1 and 0.2; "
        "mixup with 0, 0.2 and 1; crops and flips or not.",
        "Gaps: test less training, losses without smoothing and mixing. Rank correlations are "
        "Spearman's over the networks of a family; from and to: its 90 % bootstrap interval, whose "
        "ends are averaged over seeds.",
        "Strongest against none, at learning rate 0.05: quotients, of the test error the "
        "difference in points. Of learning rates 0.4 against 0.05; of batches 128 against 32.",
        "Sharpness, Jacobians: of the training loss as it is followed (with smoothing), of 500 "
        "training images.",
    ),
    reasons={
        "large_batches_part_jacobian_and_gap": "Six networks are too few: the intervals of both "
        "correlations, averaged over seeds, reach from about 0 to 1.",
        "sharper_minima_generalize_better": "SAM gives flatter ones, and lower test errors. Crops "
        "and flips by 4 of 14 pixels do more harm than good here: the test error rises by 13 "
        "points.",
    },
)
