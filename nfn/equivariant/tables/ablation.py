"""Ablations of Table 3 as data: which part of the weights tells the class, and on what scale.

Claims were written before any of these numbers was seen.
"""

from collections.abc import Iterator
from typing import Any

from common.aggregates import Results
from common.comparisons import above, all_of, beats, below, every
from common.tables import Cell, Table
from common.verdicts import CHECK, Verdict, claim
from nfn.equivariant.configs.inr_classification import get_config

ALL, KERNELS, BIASES = "All weights", "Kernels only", "Biases only"
NO_LAST = "Without the last bias"
RAW, RAW_PAPER = "Not normalized", "Not normalized, the paper's frequencies"
CHANCE = "Chance"
CPU, PAPER_SCALE = get_config("cpu"), get_config("paper").model.fourier_scale
# What small runs have in common: the networks of Table 6, three seeds in one process.
SMALL: dict[str, Any] = {
    "seed_group": 3,
    "data.copies": 1,
    "data.train_per_class": 600,
    "data.valid_per_class": 50,
    "data.test_per_class": 100,
}
FIELDS = {"steps": "num_steps", "channels": "model.channels"}
CENTRE = {"steps": 1_000, "channels": CPU.model.channels}
ROWS: dict[str, dict[str, Any]] = {
    ALL: {},
    KERNELS: {"model.inputs": "kernels"},
    BIASES: {"model.inputs": "biases"},
    RAW: {"data.normalize": False},
    RAW_PAPER: {"data.normalize": False, "model.fourier_scale": PAPER_SCALE},
    NO_LAST: {"model.inputs": "no_last_bias"},
}
SCALES = (ALL, RAW)  # the third one's phases are in proportion to its frequencies
COLUMNS = {
    "train %": "train_accuracy",
    "test %": "test_accuracy",
    "same answer %": "permuted_test_agreement",
}
PHASES = {"phase / rad": "phase", "least phase / rad": "phase_least"}
TEST = "test %"


@claim()
def biases_carry_most(results: Results) -> Verdict:
    """Biases alone keep over half of what all weights gain over chance."""
    half = (results[ALL, TEST].mean + results[CHANCE, TEST].mean) / 2
    return above(results[BIASES, TEST], half)


@claim()
def biases_beat_kernels(results: Results) -> Verdict:
    """Biases alone beat kernels alone by over two standard errors."""
    return beats(results[BIASES, TEST], results[KERNELS, TEST])


@claim()
def biases_help(results: Results) -> Verdict:
    """All weights beat kernels alone by over two standard errors."""
    return beats(results[ALL, TEST], results[KERNELS, TEST])


@claim()
def last_bias_helps(results: Results) -> Verdict:
    """All weights beat all but the last bias by over two standard errors."""
    return beats(results[ALL, TEST], results[NO_LAST, TEST])


@claim()
def normalizing_helps(results: Results) -> Verdict:
    """Normalized weights beat weights as they are by over two standard errors."""
    return beats(results[ALL, TEST], results[RAW, TEST])


@claim()
def raw_weights_are_at_chance(results: Results) -> Verdict:
    """On weights as they are NFN_NP stays below 1.5 times chance."""
    return below(results[RAW, TEST], 1.5 * results[CHANCE, TEST].mean)


@claim()
def frequencies_make_up_for_it(results: Results) -> Verdict:
    """Frequencies of the paper's scale on weights as they are beat those of this preset there."""
    return beats(results[RAW_PAPER, TEST], results[RAW, TEST])


@claim(CHECK)
def permuting_changes_nothing(results: Results) -> Verdict:
    """Permuted test networks get the same answer (over 99.9 %), whatever part is read."""
    return every(above, results, tuple(ROWS), 99.9, on="same answer %")


@claim(CHECK)
def normalized_weights_are_told_apart(results: Results) -> Verdict:
    """Phases of normalized weights differ by over a radian, of those as they are by less."""
    return all_of(
        above(results[ALL, "least phase / rad"], 1), below(results[RAW, "least phase / rad"], 1)
    )


def fields(**changed: int) -> dict[str, Any]:
    """Returns the overrides of a small run, with other sizes if any are `changed`."""
    sizes = {**CENTRE, **changed}
    return {**SMALL, **{FIELDS[name]: size for name, size in sizes.items()}}


def _cells() -> Iterator[Cell]:
    for row, changed in ROWS.items():
        made = {"model.kind": "np", **fields(), **changed}
        for column, metric in COLUMNS.items():
            yield Cell(row, column, made, metric)
        if row in SCALES:
            for column, metric in PHASES.items():
                run = "nfn.equivariant.classification.phases:phases"
                yield Cell(row, column, made, metric, run=run)
    for column in ("train %", TEST):
        run = "nfn.equivariant.tables.classification:chance"
        yield Cell(CHANCE, column, {"model.kind": "np", **fields()}, COLUMNS[column], run=run)


TABLE = Table(
    title="What NFN_NP reads of SIRENs: biases, kernels, and on what scale",
    source="ablations of ours of Zhou et al. (2023), Table 3, FashionMNIST",
    config="nfn/equivariant/configs/inr_classification.py",
    cells=tuple(_cells()),
    headline=("biases_carry_most", "normalizing_helps"),
    reasons=dict.fromkeys(
        ("biases_carry_most", "biases_beat_kernels"),
        "Readers of biases alone stay near chance on their training networks too, while kernels "
        "alone keep most of what all weights gain: the class is in the waves that an image is made "
        "of. The bias of a sine neuron is the phase of such a wave, which says little without it.",
    ),
    split=lambda column: ("accuracy" if column.endswith("%") else "Fourier features", column),
    notes=(
        "No published value: the ablations are ours. Small runs: "
        f"{CENTRE['steps']:,} steps and 6,000 training networks, those of Table 6, an eighth and a "
        "sixth of Table 3.",
        "What is left out is 0 in all networks. The last bias is the brightness of an image but "
        "for what the sines add; there is one, of the single output.",
        "phase: a weight w is read as sine and cosine of 2 pi w B. phase is the deviation of "
        "2 pi w B among the weights of a tensor over training networks, the root mean square over "
        "all weights; least phase is that of the tensor with the least. Where it is far below a "
        "radian, the features of all its weights are nearly the same.",
    ),
)
