"""Networks on images as data: ranks by depth and radius, active units, transfer."""

from itertools import pairwise
from typing import Any, NamedTuple

from common.aggregates import Aggregate, Results
from common.comparisons import all_of, at_least_times, at_most_times, beats, fact
from common.tables import Cell, Table, by_last_comma
from common.verdicts import PAPER, Verdict, claim
from landscape.sam_rank.images import published
from landscape.sam_rank.tables.two_layer import radius_row

CONFIG = published.CONFIG
BLOCKS = (1, 2, 3, 4, 5)
TRANSFER = (3, 4, 5)
SHARES = (0, 1, 5, 10)  # percent of the images that a unit is on for, at least
TRAIN, TEST = "training loss", "test error (%)"
RANK, PCA, UNCENTERED = "rank", "PCA rank", "rank without centering"
STABLE, ENTROPY = "stable PCA rank", "entropy PCA rank"
NEIGHBORS, PROBE = "error of 10 neighbours (%)", "error of a linear probe (%)"
PER_UNIT = "rank per active unit"
BEFORE, BEHIND = "before the last GELU", "behind the last GELU"


class Kind(NamedTuple):
    """Networks of one kind.

    Attributes:
        variant: What makes them, behind the preset.
        radii: Of SAM; 0 is plain training.
        relu: Blocks whose values are behind a ReLU.
        cost: What is learned by.
    """

    variant: str
    radii: tuple[float, ...]
    relu: tuple[int, ...] = ()
    cost: str = "cross_entropy"


PRE, POST, GROUP = "pre-activation", "post-activation", "group norm"
REGRESSION, VIT, MIXER = "squared loss", "ViT", "Mixer"
KINDS = {
    PRE: Kind("network=preact", (0.0, 0.1, 0.4), (4, 5)),
    POST: Kind("network=postact", (0.0, 0.1, 0.4), BLOCKS),
    GROUP: Kind("network=preact_group", (0.0, 0.4), (4, 5)),
    REGRESSION: Kind("network=preact", (0.0, 0.4), (4, 5), "squared"),
    VIT: Kind("network=vit", (0.0, 0.2)),
    MIXER: Kind("network=mixer", (0.0, 0.2)),
}
TRANSFORMERS = (VIT, MIXER)


def at(block: int, quantity: str) -> str:
    """Returns the column of a quantity at a block."""
    return f"block {block}, {quantity}"


def on_for(share: int) -> str:
    """Returns what units are called that are on for more than this share of the images."""
    return f"units on for over {share} %"


def rows_of(name: str) -> list[str]:
    """Returns the rows of a kind, plain training first."""
    return [radius_row(name, rho) for rho in KINDS[name].radii]


def _columns(name: str) -> dict[str, str]:
    """Returns the metrics of a kind by column."""
    found = {TRAIN: "train_loss", TEST: "test_error"}
    for quantity, metric in ((RANK, "rank"), (PCA, "pca"), (UNCENTERED, "uncentered")):
        found |= {at(block, quantity): f"{metric}_{block}" for block in BLOCKS}
    for quantity, metric in ((STABLE, "stable"), (ENTROPY, "entropy")):
        found |= {at(block, quantity): f"{metric}_{block}" for block in TRANSFER}
    if name in TRANSFORMERS:
        for place, number in ((BEFORE, 6), (BEHIND, 7)):
            found |= {f"{place}, {RANK}": f"rank_{number}", f"{place}, {PCA}": f"pca_{number}"}
    for block in KINDS[name].relu:
        found |= {at(block, on_for(share)): f"active_{block}_{share}" for share in SHARES}
        found[at(block, PER_UNIT)] = f"per_unit_{block}"
    for quantity, metric in ((NEIGHBORS, "neighbors"), (PROBE, "probe")):
        found |= {at(block, quantity): f"{metric}_{block}" for block in TRANSFER}
    return found


def _overrides(kind: Kind, rho: float) -> dict[str, Any]:
    """Returns the fields of a row."""
    radius: dict[str, Any] = {"gradient.rho": rho}
    return radius if kind.cost == "cross_entropy" else {**radius, "cost": kind.cost}


def _ends(results: Results, name: str, column: str) -> tuple[Aggregate, Aggregate]:
    """Returns the cells of the largest radius, and of plain training."""
    first, *_, last = rows_of(name)
    return results[last, column], results[first, column]


def _falls(results: Results, column: str, names: tuple[str, ...] = tuple(KINDS)) -> Verdict:
    """Returns whether the largest radius is below plain training."""
    return all_of(*(beats(*_ends(results, name, column), lower=True) for name in names))


@claim(PAPER, "abstract")
def rank_falls(results: Results) -> Verdict:
    """The largest radius gives features of a lower rank than plain training, at block 3."""
    return _falls(results, at(3, RANK))


@claim(PAPER, "abstract")
def rank_falls_at_other_depths(results: Results) -> Verdict:
    """So it does at blocks 4 and 5."""
    return all_of(*(_falls(results, at(block, RANK)) for block in (4, 5)))


@claim()
def rank_falls_step_by_step(results: Results) -> Verdict:
    """At block 3 of both ResNets the mean rank falls from every radius to the next."""
    column = at(3, RANK)
    steps = [step for name in (PRE, POST) for step in pairwise(rows_of(name))]
    return all_of(*(at_most_times(results[b, column], results[a, column], 1) for a, b in steps))


@claim()
def pca_rank_falls_too(results: Results) -> Verdict:
    """Principal components, of features less their mean over images, fall in number as well."""
    return _falls(results, at(3, PCA))


@claim()
def centering_matters_little(results: Results) -> Verdict:
    """The share of the rank that is left under SAM differs by at most 0.1 from that under PCA."""
    parts = []
    for name in KINDS:
        left = {}
        for quantity in (RANK, PCA):
            last, first = _ends(results, name, at(3, quantity))
            left[quantity] = last.mean / first.mean
        detail = f"{left[RANK]:.2f} of the rank is left, {left[PCA]:.2f} of the PCA rank"
        holds = abs(left[RANK] - left[PCA]) <= 0.1
        parts.append(fact(holds, detail, row=rows_of(name)[-1], column=at(3, RANK)))
    return all_of(*parts)


@claim()
def units_are_switched_off(results: Results) -> Verdict:
    """In the post-activation ResNet fewer units are on for over 5 % of the images."""
    return all_of(*(_falls(results, at(block, on_for(5)), (POST,)) for block in (3, 4, 5)))


@claim()
def they_do_not_explain_the_rank(results: Results) -> Verdict:
    """There the rank falls by more than the units: each that is left carries less of it."""
    return all_of(*(_falls(results, at(block, PER_UNIT), (POST,)) for block in (3, 4, 5)))


@claim()
def none_are_in_others(results: Results) -> Verdict:
    """At the only ReLU among the places of pre-activation networks 95 % of the units stay on."""
    column, names = at(5, on_for(5)), (PRE, GROUP, REGRESSION)
    return all_of(*(at_least_times(*_ends(results, name, column), 0.95) for name in names))


@claim(PAPER, "its released notebook")
def neighbors_do_best_under_sam(results: Results) -> Verdict:
    """Of the radii of a ResNet one above 0 has the least error of neighbours at block 3."""
    column, parts = at(3, NEIGHBORS), []
    for name in (PRE, POST):
        plain, *others = (results[row, column] for row in rows_of(name))
        parts.append(at_most_times(min(others, key=lambda cell: cell.mean), plain, 1))
    return all_of(*parts)


TABLE = Table(
    title="Networks on images: rank of features by depth under SAM, active units, transfer",
    source="Andriushchenko et al. (2023), its networks on images",
    config=CONFIG,
    cells=tuple(
        Cell(
            radius_row(name, rho),
            column,
            _overrides(kind, rho),
            metric,
            variant=kind.variant,
        )
        for name, kind in KINDS.items()
        for rho in kind.radii
        for column, metric in _columns(name).items()
    ),
    headline=("rank_falls", "units_are_switched_off"),
    split=by_last_comma,
    notes=(
        "No published value at this size: those of CIFAR-10 stand at preset paper. Networks learn "
        "the first five classes of the embedded Fashion-MNIST, averaged to 14 x 14 pixels: 1,500 "
        "images, and 500 more held out to choose settings by. Transfer: the other five classes, "
        "2,000 images to look among and 1,000 to classify; the linear probe is ridge regression.",
        "ResNets of four stages of one block, 8 channels in the first, whose stem halves the "
        "images: block 4 is one pixel, and block 5, its mean, is the same. ViT and Mixer: four "
        "layers of 64 entries on 2 x 2 patches; blocks 1 to 4 are their residual streams at the "
        "first token, block 5 what is classified. 300 updates in batches of 64 without "
        "augmentation; SGD of rate 0.05 without momentum and decay, Adam of rate 0.001 for ViT and "
        "Mixer. Both passes of SAM renew the running statistics.",
        "Ranks: directions that hold over 99 % of the energy of the features of n = 1,000 training "
        "images. Rank: every image less its mean over features, as in the released code; PCA rank: "
        "less the mean image. A unit is on where it exceeds a twentieth of the largest value; "
        "active ones, in rank per active unit, for over 5 % of the images.",
    ),
    reasons={
        **dict.fromkeys(
            ("rank_falls", "pca_rank_falls_too"),
            "With the squared loss it is lower in every seed, but by amounts that differ widely.",
        ),
        "rank_falls_at_other_depths": "In the last layer of the Mixer the rank is as low without "
        "SAM; before it SAM lowers it most.",
        "centering_matters_little": "With group normalization two seeds learn nothing at this "
        "radius: their mean image has nearly all energy, which principal components leave out.",
        "none_are_in_others": "One seed of the squared loss loses units at this radius.",
        "units_are_switched_off": "In so short a training nearly all units of the last blocks stay "
        "on, at every radius: the directions that they span get fewer, not the units.",
    },
    at={"paper": published.TABLE},
)
