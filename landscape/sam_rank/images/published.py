"""What stands in the place of table images at preset paper: ResNet-18 on CIFAR-10, published."""

from itertools import pairwise

from common.aggregates import Results
from common.comparisons import all_of, at_most_times
from common.tables import Cell, Published, Table
from common.verdicts import PAPER, Verdict, claim
from landscape.sam_rank.tables.two_layer import radius_row

CONFIG = "landscape/sam_rank/configs/images.py"
SOURCE = "released notebook feature_rank, CIFAR-10"
TRAIN, TEST, RANK = "training loss", "test error (%)", "block 3, rank"
METRICS = {TRAIN: "train_loss", TEST: "test_error", RANK: "rank_3"}
# Recipe -> radius -> (training loss, test error, rank at block 3); source of all: `SOURCE`.
PUBLISHED: dict[str, dict[float, tuple[float, float, float]]] = {
    "minimal": {
        0.0: (0.0211, 10.43, 5162),
        0.1: (0.0041, 7.80, 4544),
        0.2: (0.0280, 7.92, 4161),
        0.4: (0.1480, 9.89, 3219),
        0.6: (0.2393, 12.39, 2616),
    },
    "sota": {
        0.0: (0.0017, 5.22, 3720),
        0.1: (0.0045, 4.16, 3138),
        0.4: (0.0337, 4.65, 2989),
        0.6: (0.0695, 5.74, 2153),
        0.8: (0.1021, 6.48, 1673),
    },
}


@claim(PAPER, "its released notebook")
def rank_falls(results: Results) -> Verdict:
    """The rank at block 3 falls from every radius to the next, by both recipes."""
    steps = [
        (radius_row(recipe, a), radius_row(recipe, b))
        for recipe, lines in PUBLISHED.items()
        for a, b in pairwise(lines)
    ]
    return all_of(*(at_most_times(results[b, RANK], results[a, RANK], 1) for a, b in steps))


def _cells() -> tuple[Cell, ...]:
    return tuple(
        Cell(
            radius_row(recipe, rho),
            column,
            {"gradient.rho": rho},
            METRICS[column],
            Published(value, None, f"{SOURCE}, {recipe}, rho = {rho:g}"),
            variant=f"recipe={recipe}",
        )
        for recipe, lines in PUBLISHED.items()
        for rho, line in lines.items()
        for column, value in zip(METRICS, line, strict=True)
    )


TABLE = Table(
    title="ResNet-18 on CIFAR-10: rank of features under SAM",
    source="Andriushchenko et al. (2023), released notebook feature_rank",
    config=CONFIG,
    cells=_cells(),
    claims=(rank_falls,),
    headline=("rank_falls",),
    tolerance=0.1,
    notes=(
        "The published transfer errors are on CIFAR-100, which is not among the sets of images "
        "here; config.data.seen=5 leaves five classes to transfer to. Ranks are of the first "
        "10,240 training images. Their training loss is of augmented images, ours of all images as "
        "they are.",
    ),
)
