"""Units that SAM switches off as data: ResNets with and without a ReLU behind every sum."""

from typing import Any

from common.aggregates import Results
from common.comparisons import all_of, at_least_times, beats
from common.tables import Table, by_last_comma, crossed
from common.verdicts import PAPER, Verdict, claim
from landscape.sam_rank.tables.images import (
    CONFIG,
    PCA,
    PER_UNIT,
    RANK,
    SHARES,
    TEST,
    TRAIN,
    at,
    on_for,
)

RHO, M = 0.4, 8
PRE, POST = "pre-activation", "post-activation"
PLAIN, GROUPS, WHOLE, STILL = "plain", "SAM in groups", "SAM", "groups alone"
FIELDS: dict[str, dict[str, Any]] = {
    PLAIN: {"gradient.rho": 0.0},
    STILL: {"gradient.rho": 0.001, "gradient.m": M},
    WHOLE: {"gradient.rho": RHO},
    GROUPS: {"gradient.rho": RHO, "gradient.m": M},
}
ROWS = {POST: (PLAIN, STILL, WHOLE, GROUPS), PRE: (PLAIN, GROUPS)}
NETWORKS = {POST: "postact", PRE: "preact"}
ON = at(5, on_for(5))


def row(network: str, kind: str) -> str:
    """Returns the row of a network that is trained in some way."""
    return f"{network}, {kind}"


def _columns(network: str) -> dict[str, str]:
    """Returns metrics by column; in a pre-activation network block 3 has no units."""
    found = {TRAIN: "train_loss", TEST: "test_error"}
    for quantity, metric in ((RANK, "rank"), (PCA, "pca")):
        found |= {at(block, quantity): f"{metric}_{block}" for block in (3, 5)}
    for block in (3, 5) if network == POST else (5,):
        found |= {at(block, on_for(share)): f"active_{block}_{share}" for share in SHARES}
        found[at(block, PER_UNIT)] = f"per_unit_{block}"
    return found


@claim(PAPER, "abstract")
def units_are_switched_off(results: Results) -> Verdict:
    """Behind the last block of the post-activation ResNet SAM leaves fewer units on."""
    sam, plain = row(POST, GROUPS), row(POST, PLAIN)
    columns = [at(5, on_for(share)) for share in (5, 10)]
    return all_of(*(beats(results[sam, x], results[plain, x], lower=True) for x in columns))


@claim(PAPER, "abstract")
def rank_falls_in_both(results: Results) -> Verdict:
    """SAM lowers the rank of both networks, at block 3 and behind the last one."""
    return all_of(
        *(
            beats(results[row(net, GROUPS), x], results[row(net, PLAIN), x], lower=True)
            for net in ROWS
            for x in (at(3, RANK), at(5, RANK))
        )
    )


@claim(PAPER, "abstract")
def not_in_the_other(results: Results) -> Verdict:
    """In the pre-activation ResNet 90 % of the units stay on, with the same step of SAM."""
    return at_least_times(results[row(PRE, GROUPS), ON], results[row(PRE, PLAIN), ON], 0.9)


@claim()
def units_are_a_part_of_it(results: Results) -> Verdict:
    """Behind the last block the rank falls by more than the units: each carries less of it."""
    column = at(5, PER_UNIT)
    return beats(results[row(POST, GROUPS), column], results[row(POST, PLAIN), column], lower=True)


@claim()
def it_is_the_ascent(results: Results) -> Verdict:
    """Groups whose radius is next to nothing switch fewer units off than groups that climb."""
    return beats(results[row(POST, GROUPS), ON], results[row(POST, STILL), ON], lower=True)


@claim()
def groups_switch_more_off(results: Results) -> Verdict:
    """Groups of 8 that climb by themselves switch more units off than the whole batch."""
    return beats(results[row(POST, GROUPS), ON], results[row(POST, WHOLE), ON], lower=True)


TABLE = Table(
    title="Units that SAM switches off in ResNets, and what that is of their rank",
    source="Andriushchenko et al. (2023), its networks on images; groups of rows are ours",
    config=CONFIG,
    cells=tuple(
        cell
        for network, kinds in ROWS.items()
        for cell in crossed(
            {row(network, kind): FIELDS[kind] for kind in kinds},
            _columns(network),
            variants={
                row(network, kind): f"network={NETWORKS[network]},recipe=sota,length=long"
                for kind in kinds
            },
        )
    ),
    headline=("units_are_switched_off", "not_in_the_other"),
    split=by_last_comma,
    notes=(
        "No published value: the paper's table of active units could not be read. The ResNets and "
        "images of table images, by the second recipe of the released code: momentum 0.9, weight "
        "decay 0.0005, a rate of 0.1 that falls to a tenth after half of 600 updates and again "
        "after nine tenths. rho = 0.4 where there is SAM.",
        "Groups: each 8 of the 64 rows of a batch climb by themselves and have batch statistics of "
        "their own; groups alone do so at a radius of 0.001. Settings were chosen on validation "
        "images of one seed.",
        "A unit is on where it exceeds a twentieth of the largest value; its rank per unit counts "
        "those that are on for over 5 % of 1,000 training images. Behind the last block: block 5.",
    ),
)
