"""Tuning without labels as data: MEMO in some blocks, episodic and along a stream."""

from common.aggregates import Results
from common.comparisons import all_of, at_least_times, not_worse
from common.tables import Cell, Published, Table
from common.verdicts import PAPER, Verdict, claim
from finetune.surgical.streams import CHOICES, COPIES, IMAGES
from finetune.surgical.tables.shifts import CONFIG, SEEDS

MEASURE = "finetune.surgical.unsupervised:streams"
EPISODIC, ONLINE = "episodic", "online"
# Lee et al. (2023), Table 2: ResNet-26 on CIFAR-10-C, online.
PUBLISHED = {"none": 67.8, "all": 69.7, "block1": 75.4, "block1+block2": 75.5, "last": 67.8}


@claim(PAPER, "Table 2")
def first_block_online(results: Results) -> Verdict:
    """Online, block 1 and blocks 1 and 2 have higher accuracies than tuning all."""
    whole = results["all", ONLINE]
    return all_of(
        *(at_least_times(results[row, ONLINE], whole, 1) for row in ("block1", "block1+block2"))
    )


@claim(PAPER, "Table 2")
def first_block_is_not_worse_than_none(results: Results) -> Verdict:
    """Online, block 1 is not worse than tuning nothing."""
    return not_worse(results["block1", ONLINE], results["none", ONLINE])


TABLE = Table(
    title="Without labels: accuracy of MEMO by tuned block",
    source="Lee et al. (2023), Table 2",
    config=CONFIG,
    cells=tuple(
        Cell(
            row,
            column,
            {"seed_group": 1, "shift.name": "contrast"},
            f"{column}_{row}",
            Published(PUBLISHED[row], None, "Table 2, online, CIFAR-10-C")
            if column == ONLINE
            else None,
            run=MEASURE,
        )
        for row in CHOICES
        for column in (EPISODIC, ONLINE)
    ),
    seeds=SEEDS,
    unit="%",
    headline=("first_block_online",),
    notes=(
        "Published numbers are of ResNet-26 on CIFAR-10-C, other data than here: that they are "
        "near says nothing. Here: networks of table shifts, "
        f"contrast of severity 5, {IMAGES} test images a seed, {COPIES} copies of each by flips "
        "and AugMix without crops, one step of gradient descent at rate 0.005 for every image.",
    ),
)
