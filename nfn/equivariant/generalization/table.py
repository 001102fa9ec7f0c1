"""Tables 2 and 19: how well predictors rank networks by their accuracy."""

from typing import Any

from common.aggregates import Aggregate, Results, aggregate, by_seed
from common.tables import Cell, Paper, Table
from common.verdicts import (
    CHECK,
    PAPER,
    Verdict,
    above,
    all_of,
    at_least_times,
    beats,
    below,
    claim,
    not_worse,
)

ROWS = {"NFN_HNP": "hnp", "NFN_NP": "np", "STATNN": "statnn"}
SIZES = (250, 500, 1_000, 2_400)  # training networks; the learning curve
LARGEST = f"tau, {SIZES[-1]}"

# Table 2, CIFAR-10-GS: value and largest deviation of 2 runs; 12 000 training networks.
PAPER_TAU = {"NFN_HNP": (0.934, 0.001), "NFN_NP": (0.922, 0.001), "STATNN": (0.915, 0.002)}

# Table 19, MNIST: value and standard error of 5 runs, by number of layers.
PAPER_MLP: dict[str, dict[tuple[str, int], tuple[float, float]]] = {
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


@claim(PAPER, "Table 2")
def hnp_is_as_good_as_np(results: Results) -> Verdict:
    """At the largest size NFN_HNP is not worse than NFN_NP by more than two standard errors."""
    return not_worse(results["NFN_HNP", LARGEST], results["NFN_NP", LARGEST])


@claim(PAPER, "Table 2")
def hnp_beats_statnn(results: Results) -> Verdict:
    """At the largest size NFN_HNP beats STATNN by more than two standard errors."""
    return beats(results["NFN_HNP", LARGEST], results["STATNN", LARGEST])


@claim()
def weights_gain_more_from_data(results: Results) -> Verdict:
    """From the smallest to the largest size tau of NFN_HNP and NFN_NP grows more than STATNN's."""
    smallest = f"tau, {SIZES[0]}"

    def gain(row: str) -> Aggregate:
        differences = by_seed(results[row, LARGEST], results[row, smallest])
        return aggregate(differences, row, f"growth to {LARGEST}")

    rows = ("NFN_HNP", "NFN_NP")
    return all_of(*(at_least_times(gain(row), gain("STATNN"), 1) for row in rows))


@claim(CHECK)
def all_rank_well(results: Results) -> Verdict:
    """At the largest size every predictor has tau > 0.6."""
    return all_of(*(above(results[row, LARGEST], 0.6) for row in ROWS))


@claim(CHECK)
def permuting_changes_no_prediction(results: Results) -> Verdict:
    """Permuting the hidden neurons of test networks changes a prediction by less than 1e-4."""
    return all_of(*(below(results[row, "change, permuted"], 1e-4) for row in ROWS))


@claim(PAPER, "Table 19")
def mlp_hnp_is_as_good_as_np(results: Results) -> Verdict:
    """NFN_HNP is not worse than NFN_NP in tau by more than two standard errors, either depth."""
    verdicts = []
    for layers in (3, 5):
        column = f"tau, {layers} layers"
        verdicts.append(not_worse(results["NFN_HNP", column], results["NFN_NP", column]))
    return all_of(*verdicts)


@claim(PAPER, "Table 19")
def mlp_hnp_beats_statnn(results: Results) -> Verdict:
    """NFN_HNP beats STATNN in tau by more than two standard errors at both depths."""
    columns = [f"tau, {layers} layers" for layers in (3, 5)]
    return all_of(
        *(beats(results["NFN_HNP", column], results["STATNN", column]) for column in columns)
    )


@claim(CHECK)
def mlp_all_rank_well(results: Results) -> Verdict:
    """Every predictor has tau > 0.6 at both depths."""
    columns = [f"tau, {layers} layers" for layers in (3, 5)]
    return all_of(*(above(results[row, column], 0.6) for row in ROWS for column in columns))


def _cells_2() -> tuple[Cell, ...]:
    cells = []
    for row, kind in ROWS.items():
        changes: dict[str, Any] = {"model.kind": kind}
        if kind == "hnp":  # released code
            changes["data.normalize"] = False
        for size in SIZES:
            overrides = {**changes, "data.train_runs": size}
            paper = None
            if size == SIZES[-1]:
                paper = Paper(*PAPER_TAU[row], f"Table 2, CIFAR-10-GS (12 000 networks), {row}")
            cells.append(Cell(row, f"tau, {size}", overrides, "test_tau", paper))
        cells.append(Cell(row, "R^2", overrides, "test_r2"))
        cells.append(Cell(row, "training tau", overrides, "train_tau"))
        cells.append(Cell(row, "change, permuted", overrides, "permuted_change"))
    return tuple(cells)


def _cells_19() -> tuple[Cell, ...]:
    cells = []
    for row, kind in ROWS.items():
        for metric, label in (("tau", "tau"), ("r2", "R^2")):
            for layers in (3, 5):
                # The hidden width is that of the preset: only the depth changes.
                overrides = {"model.kind": kind, "data.hidden_layers": layers - 1}
                value, stderr = PAPER_MLP[row][metric, layers]
                paper = Paper(value, stderr, f"Table 19, {label}, {layers}-layer, {row}")
                column = f"{label}, {layers} layers"
                cells.append(Cell(row, column, overrides, f"test_{metric}", paper))
        for layers in (3, 5):
            overrides = {"model.kind": kind, "data.hidden_layers": layers - 1}
            cells.append(Cell(row, f"training tau, {layers} layers", overrides, "train_tau"))
    return tuple(cells)


def _by_size(column: str) -> tuple[str, str]:
    """Returns ("tau", "2400 networks") of "tau, 2400", else what the most networks give."""
    name, comma, size = column.partition(", ")
    if comma and size.isdecimal():
        return name, f"{size} networks"
    return f"with {SIZES[-1]:,} networks", column


def _by_depth(column: str) -> tuple[str, str]:
    """Returns ("tau", "3 layers") of "tau, 3 layers"."""
    name, _, layers = column.partition(", ")
    return name, layers


TABLE_2 = Table(
    name="2",
    title="Kendall's tau of predicted and true test accuracies of CNNs",
    source="Zhou et al. (2023), Table 2, CIFAR-10-GS",
    config="nfn/equivariant/configs/generalization.py",
    cells=_cells_2(),
    seeds=(0, 1, 2),
    claims=(
        hnp_is_as_good_as_np,
        hnp_beats_statnn,
        weights_gain_more_from_data,
        all_rank_well,
        permuting_changes_no_prediction,
    ),
    reasons={
        "weights_gain_more_from_data": "In the steps of this preset, the same for all sizes, "
        "NFN_NP fits the largest training set poorly (training "
        "tau), so that more networks cannot help it much.",
    },
    headline=("hnp_beats_statnn", "hnp_is_as_good_as_np"),
    split=_by_size,
    paper_spread="largest deviation of 2 runs",
    notes=(
        "tau, n: with n training networks, drawn by the seed; validation and test networks are "
        "the same for all runs. Paper: its CNNs are 1-16-16-16-10 on gray CIFAR-10, 12 000 of them "
        "for training; ours are described under the table.",
        "R^2, training tau (on the training networks) and change, permuted: with the most "
        "networks; the last is the mean change of a prediction when the hidden neurons of a test "
        "network are put in random order.",
        "Each run's checkpoint is the one with the best tau on the validation networks.",
    ),
    figures="nfn.equivariant.figures.generalization:draw",
)

TABLE_19 = Table(
    name="19",
    title="Kendall's tau and R^2 of predicted and true test accuracies of MLPs",
    source="Zhou et al. (2023), Table 19, MNIST",
    config="nfn/equivariant/configs/mlp_generalization.py",
    cells=_cells_19(),
    seeds=(0, 1, 2),
    claims=(mlp_hnp_is_as_good_as_np, mlp_hnp_beats_statnn, mlp_all_rank_well),
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
    figures="nfn.equivariant.figures.mlp_generalization:draw",
)
