"""Two-layer networks as data: rank and active units against SAM's radius and the penalty."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from common.aggregates import Aggregate, Results
from common.comparisons import all_of, at_most_times, beats
from common.tables import Table, crossed
from common.verdicts import HOLDS, MISSED, PAPER, Verdict, claim

CONFIG = "landscape/sam_rank/configs/two_layer.py"
RADII = {
    "ReLU": (0.0, 0.1, 0.2, 0.4, 0.6),
    "abs": (0.0, 0.1, 0.2, 0.3, 0.4),
    "tanh": (0.0, 0.2, 0.4, 0.6, 0.8),
}
WEIGHTS = (0.1, 0.2, 0.3, 0.35, 0.38)
SAM = tuple(f"{name}, SAM" for name in RADII)
PENALTY = "ReLU, penalty"
TRAIN, TEST, LOG_TEST = "train loss", "test loss", "log10 of the test loss"
NORM, RANK, PCA_RANK = "norm", "rank", "PCA rank"
ACTIVE, DISTINCT = "active units", "distinct units"
COLUMNS = {
    TRAIN: "train_loss",
    TEST: "test_loss",
    LOG_TEST: "test_loss_log10",
    NORM: "norm",
    RANK: "rank",
    PCA_RANK: "pca_rank",
    ACTIVE: "active",
    DISTINCT: "distinct",
}
MOST = 7 / 8  # of the seeds


def radius_row(name: str, rho: float) -> str:
    """Returns the row of a network trained with SAM of this radius, plainly at 0."""
    return f"{name}, rho = {rho:g}"


def weight_row(weight: float) -> str:
    """Returns the row of the ReLU network trained with this penalty, plainly at 0."""
    return f"{PENALTY} {weight:g}" if weight else radius_row("ReLU", 0.0)


def series() -> dict[str, dict[float, str]]:
    """Returns rows by strength of what is compared: three networks under SAM, and the penalty."""
    found = {
        label: {rho: radius_row(name, rho) for rho in radii}
        for label, (name, radii) in zip(SAM, RADII.items(), strict=True)
    }
    return {**found, PENALTY: {weight: weight_row(weight) for weight in (0.0, *WEIGHTS)}}


OVERRIDES: dict[str, dict[str, Any]] = {
    **{
        radius_row(name, rho): {"gradient.rho": rho}
        for name, radii in RADII.items()
        for rho in radii
    },
    **{weight_row(weight): {"penalty.gradient_norm": weight} for weight in WEIGHTS},
}
VARIANTS = {row: f"activation={row.partition(',')[0].lower()}" for row in OVERRIDES}


def in_most_seeds(a: Aggregate, b: Aggregate) -> Verdict:
    """Returns whether `a` is below `b` in at least seven seeds of eight."""
    (part,) = at_most_times(a, b, 1.0).parts
    state = HOLDS if (part.agree or 0) >= MOST * part.seeds else MISSED
    return Verdict((part._replace(state=state),))


def _ends(results: Results, columns: Iterable[str], names: Iterable[str]) -> Verdict:
    """Returns whether the strongest row of every series is below the plain one in most seeds."""
    rows = [list(series()[name].values()) for name in names]
    return all_of(
        *(
            in_most_seeds(results[last, column], results[first, column])
            for column in columns
            for first, *_, last in rows
        )
    )


@claim(PAPER, "abstract")
def rank_falls(results: Results) -> Verdict:
    """The largest radius gives a lower rank than plain training in at least 7 of 8 seeds."""
    return _ends(results, (RANK,), SAM)


@claim(PAPER, "abstract")
def units_are_switched_off(results: Results) -> Verdict:
    """The largest radius leaves fewer active units in at least 7 of 8 seeds."""
    return _ends(results, (ACTIVE,), SAM)


@claim(PAPER, "its released notebook")
def penalty_does_so_too(results: Results) -> Verdict:
    """So does the largest penalty on the gradient's norm, in rank and in active units."""
    return _ends(results, (RANK, ACTIVE), (PENALTY,))


@claim()
def pca_rank_falls_too(results: Results) -> Verdict:
    """Principal components, of centered features, fall in number as the rank does."""
    return _ends(results, (PCA_RANK,), (*SAM, PENALTY))


@claim()
def rank_falls_step_by_step(results: Results) -> Verdict:
    """The mean rank falls from every radius, and from every penalty, to the next."""
    return all_of(
        *(
            at_most_times(results[after, RANK], results[before, RANK], 1.0)
            for rows in series().values()
            for before, after in pairwise(rows.values())
        )
    )


@claim()
def test_loss_falls(results: Results) -> Verdict:
    """The middle radius, the best of the authors' seed for ReLU, has a lower test loss than 0."""
    middle = {name: list(series()[name].values()) for name in SAM}
    return all_of(
        *(
            beats(results[rows[2], LOG_TEST], results[rows[0], LOG_TEST], lower=True)
            for rows in middle.values()
        )
    )


TABLE = Table(
    title="Two-layer networks: rank of features and active units under SAM and under a penalty",
    source="Andriushchenko et al. (2023), its two-layer networks",
    published_size="the paper's networks, data and steps",
    config=CONFIG,
    cells=crossed(OVERRIDES, COLUMNS, variants=VARIANTS),
    seeds=tuple(range(8)),
    headline=("rank_falls", "units_are_switched_off"),
    leads=True,
    notes=(
        "No published value: what the authors recorded at their one seed stands in table golden. "
        "Sizes, radii, penalties and learning rates are theirs; every seed has a teacher, points "
        "and a student of its own, the same in all rows of an activation.",
        "SAM climbs, or the penalty weighs, in the first half of 19,953 updates of one example. "
        "Rank: directions of the features of 20 training points that hold 99.99 % of their energy, "
        "not centered; PCA rank: less the mean feature. Active units exceed 0 (ReLU) or 0.05 in "
        "size (abs, tanh) at some training point; distinct ones have no correlation over 0.999 in "
        "size with another.",
    ),
    reasons={
        "rank_falls_step_by_step": "The smallest radius of abs switches hardly a unit off and "
        "halves the norm of the parameters; directions of little energy hold more of what is left.",
        "test_loss_falls": "With ReLU it falls for points and teacher of the authors' seed, and "
        "rises for most of ours.",
    },
    repeat={radius_row("ReLU", rho): (RANK,) for rho in (RADII["ReLU"][0], RADII["ReLU"][-1])},
)
