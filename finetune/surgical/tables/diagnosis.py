"""Diagnosis as data: relative gradient norms by block before tuning, over those of clean images."""

from common.aggregates import Results
from common.comparisons import all_of, at_least_times
from common.tables import Table
from common.verdicts import OURS, Verdict, claim
from finetune.surgical.tables.shifts import (
    BLOCKS,
    CONFIG,
    CONTRAST,
    FLIP,
    NEGATIVE,
    SEEDS,
    SHIFTS,
    cells_of,
)

RATIO, RGN, CLEAN = "over clean", "target", "clean"
METRICS = {
    f"{block}, {family}": f"{metric}_{block}"
    for family, metric in ((RATIO, "ratio"), (RGN, "rgn"), (CLEAN, "clean"))
    for block in BLOCKS
}


def _largest(results: Results, name: str, block: str) -> Verdict:
    """Returns whether the ratio of a block is above that of every other one."""
    ours = results[name, f"{block}, {RATIO}"]
    others = (results[name, f"{other}, {RATIO}"] for other in BLOCKS if other != block)
    return all_of(*(at_least_times(ours, other, 1) for other in others))


@claim(OURS)
def flips_name_the_last_layer(results: Results) -> Verdict:
    """Of flipped labels the last layer grows most over its norm of clean images."""
    return _largest(results, FLIP, "last")


@claim(OURS)
def exact_shifts_name_the_first_block(results: Results) -> Verdict:
    """Of x -> -x block 1 grows most."""
    return _largest(results, NEGATIVE, "block1")


@claim(OURS)
def contrast_names_an_early_block(results: Results) -> Verdict:
    """Of low contrast block 1 grows more than block 3 and the last layer."""
    first = results[CONTRAST, f"block1, {RATIO}"]
    others = (results[CONTRAST, f"{block}, {RATIO}"] for block in ("block3", "last"))
    return all_of(*(at_least_times(first, other, 1) for other in others))


TABLE = Table(
    title="Diagnosis before tuning: relative gradient norms of blocks, and over clean images",
    source="Lee et al. (2023), Auto-RGN, by block",
    config=CONFIG,
    cells=tuple(cell for name in SHIFTS for cell in cells_of(name, METRICS)),
    seeds=SEEDS,
    headline=("flips_name_the_last_layer", "exact_shifts_name_the_first_block"),
    notes=(
        "No published value. The gradient is that of the mean loss of 100 target images at the "
        "source network; its norm in a block is taken over that of the block's parameters. Over "
        "clean: each profile over its maximum, then the target's over that of 100 images before "
        "the shift. Runs are those of table shifts.",
    ),
    reasons={
        "exact_shifts_name_the_first_block": "Networks give images of the other sign a wrong class "
        "with confidence, nearly always: gradients of block 3 and the last layer grow most, as "
        "they do under a flip.",
        "flips_name_the_last_layer": "Seeds differ widely in the profile of clean images.",
        "contrast_names_an_early_block": "Seeds differ widely in the profile of clean images.",
    },
)
