"""Noise in one block as data: which block, tuned alone, repairs it."""

from common.aggregates import Results
from common.comparisons import all_of, beats, fact, not_worse
from common.tables import Cell, Table
from common.verdicts import OURS, PAPER, Verdict, claim
from finetune.surgical.tables.shifts import BLOCKS, CONFIG, NONE, SEEDS, WAYS

METRICS = {NONE: "test_none", **{way: f"test_{way}" for way in WAYS}}


def row_of(block: str) -> str:
    """Returns the row of noise in a block."""
    return f"noise in {block}"


@claim(PAPER, "noise in one block")
def diagonal_wins(results: Results) -> Verdict:
    """In at least 3 of 4 rows the block with the noise is the best one to tune, by means."""
    right = []
    for block in BLOCKS:
        means = {other: results[row_of(block), other].mean for other in BLOCKS}
        right.append(max(means, key=lambda name, of=means: of[name]) == block)
    named = ", ".join(block for block, is_right in zip(BLOCKS, right, strict=True) if is_right)
    return fact(sum(right) >= 3, f"{sum(right)} of {len(right)}: {named}")


@claim(PAPER, "noise in one block")
def diagonal_beats_all(results: Results) -> Verdict:
    """Tuning the block with the noise is not worse than tuning all."""
    return all_of(*(not_worse(results[row_of(b), b], results[row_of(b), "all"]) for b in BLOCKS))


@claim(OURS)
def tuning_repairs(results: Results) -> Verdict:
    """Tuning the block with the noise beats tuning nothing."""
    return all_of(*(beats(results[row_of(b), b], results[row_of(b), NONE]) for b in BLOCKS))


TABLE = Table(
    title="Noise in the weights of one block: test accuracy after tuning one block",
    source="Lee et al. (2023), noise in one block",
    config=CONFIG,
    cells=tuple(
        Cell(
            row_of(block),
            column,
            {"shift.name": f"noise_{block}", "shift.sigma": 1.0},
            metric,
        )
        for block in BLOCKS
        for column, metric in METRICS.items()
    ),
    seeds=SEEDS,
    unit="%",
    headline=("diagonal_wins",),
    notes=(
        "No published value at this size. Every tensor w of the block becomes w + rms(w) N(0, 1), "
        "drawn once a seed, and the images are those of the source. 100 images are given; "
        "networks, rates and validation images as in table shifts.",
    ),
)
