"""Table 19 as data: how well predictors rank MLPs by their accuracy, and claims about it."""

from collections.abc import Iterator

from common.aggregates import Results
from common.comparisons import above, all_of, beats, every, not_worse
from common.tables import Cell, Published, Table
from common.verdicts import CHECK, PAPER, Verdict, claim
from nfn.equivariant.tables.generalization import ROWS

DEPTHS = (3, 5)  # layers
TAUS = tuple(f"tau, {layers} layers" for layers in DEPTHS)

# Table 19, MNIST: value and standard error of 5 runs, by number of layers.
PUBLISHED: dict[str, dict[tuple[str, int], tuple[float, float]]] = {
    "NFN_HNP": {
        ("tau", 3): (0.876, 0.003),
        ("tau", 5): (0.871, 0.001),
        ("r2", 3): (0.957, 0.003),
        ("r2", 5): (0.956, 0.002),
    },
    "NFN_NP": {
        ("tau", 3): (0.859, 0.002),
        ("tau", 5): (0.855, 0.001),
        ("r2", 3): (0.9424, 0.003),
        ("r2", 5): (0.947, 0.001),
    },
    "STATNN": {
        ("tau", 3): (0.854, 0.002),
        ("tau", 5): (0.860, 0.001),
        ("r2", 3): (0.937, 0.002),
        ("r2", 5): (0.950, 0.001),
    },
}


@claim(PAPER, "Table 19")
def mlp_hnp_is_as_good_as_np(results: Results) -> Verdict:
    """NFN_HNP is not worse than NFN_NP in tau by more than two standard errors, either depth."""
    return every(not_worse, results, "NFN_HNP", "NFN_NP", on=TAUS)


@claim(PAPER, "Table 19")
def mlp_hnp_beats_statnn(results: Results) -> Verdict:
    """NFN_HNP beats STATNN in tau by more than two standard errors at both depths."""
    return every(beats, results, "NFN_HNP", "STATNN", on=TAUS)


@claim(CHECK)
def mlp_all_rank_well(results: Results) -> Verdict:
    """Every predictor has tau > 0.6 at both depths."""
    return all_of(*(every(above, results, row, 0.6, on=TAUS) for row in ROWS))


def _cells() -> Iterator[Cell]:
    for row, kind in ROWS.items():
        # The hidden width is that of the preset: only the depth changes.
        made = {n: {"model.kind": kind, "data.hidden_layers": n - 1} for n in DEPTHS}
        for metric, label in (("tau", "tau"), ("r2", "R^2")):
            for layers in DEPTHS:
                value, stderr = PUBLISHED[row][metric, layers]
                paper = Published(value, stderr, f"Table 19, {label}, {layers}-layer, {row}")
                column = f"{label}, {layers} layers"
                yield Cell(row, column, made[layers], f"test_{metric}", paper)
        for layers in DEPTHS:
            yield Cell(row, f"training tau, {layers} layers", made[layers], "train_tau")


def _by_depth(column: str) -> tuple[str, str]:
    """Returns ("tau", "3 layers") of "tau, 3 layers"."""
    name, _, layers = column.partition(", ")
    return name, layers


TABLE = Table(
    title="Kendall's tau and R^2 of predicted and true test accuracies of MLPs",
    source="Zhou et al. (2023), Table 19, MNIST",
    config="nfn/equivariant/configs/mlp_generalization.py",
    cells=tuple(_cells()),
    reasons={
        "mlp_hnp_is_as_good_as_np": "The two differ by less than a hundredth. NFN_HNP loses much "
        "from training to test networks, NFN_NP nothing: HNP lacks networks (the paper takes ten "
        "snapshots of every training, this preset five), NP lacks steps.",
        "mlp_hnp_beats_statnn": "Within a hundredth, the statistics stay ahead: NFN_HNP ranks its "
        "training networks best and loses most on others, so it lacks networks (half of the "
        "paper's) and they are narrow, with 16 hidden units a layer instead of 128.",
    },
    headline=("mlp_hnp_beats_statnn",),
    split=_by_depth,
    paper_spread="standard error of 5 runs",
    notes=(
        "MLPs of 3 and 5 layers on images averaged to 7x7 pixels; the paper's read 28x28 and have "
        "128 hidden units. Several snapshots of each training are networks of their own; "
        "trainings, not snapshots, are split into training, validation and test. training tau: "
        "on the networks a predictor was trained with.",
    ),
)
