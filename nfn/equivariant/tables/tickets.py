"""Table 5 as data: what networks reach under the masks of every row, and claims about it."""

from collections.abc import Iterator

from common.aggregates import Results
from common.comparisons import above, at_least_times, beats, every, not_worse
from common.tables import Cell, Published, Table
from common.verdicts import PAPER, Verdict, claim

ROWS = {  # row: prefix of its metrics; None: a trained model of this kind
    "Dense": "dense",
    "IMP": "imp",
    "Random": "random",
    "NFN_NP": None,
    "NFN_PT": None,
}

DRAWN = ("NFN_NP", "NFN_PT")

# Table 5: value and standard error over initializations.
PAPER_MNIST = {
    "Dense": (97.8, 0.0),
    "IMP": (96.2, 0.04),
    "Random": (89.6, 0.36),
    "NFN_NP": (94.8, 0.01),
    "NFN_PT": (95.0, 0.01),
}
PAPER_CIFAR = {
    "Dense": (63.1, 0.06),
    "IMP": (44.0, 0.06),
    "Random": (21.1, 0.26),
    "NFN_NP": (41.4, 0.08),
    "NFN_PT": (42.6, 0.07),
}
TEST = "test accuracy / %"
STDERR = "SE over initializations / %"
LIKELIEST = "test accuracy of likeliest mask / %"
OVERLAP = "overlap with IMP / %"
ELBO = "ELBO / nats per weight"


@claim(PAPER, "Table 5")
def dense_beats_imp(results: Results) -> Verdict:
    """Dense networks beat their own 95 % sparse tickets (IMP) by over two standard errors."""
    return beats(results["Dense", TEST], results["IMP", TEST])


@claim(PAPER, "Table 5")
def imp_beats_drawn_tickets(results: Results) -> Verdict:
    """IMP, which trains every network once, beats masks drawn by NFN_NP and NFN_PT."""
    return every(beats, results, "IMP", DRAWN, on=TEST)


@claim(PAPER, "Table 5")
def drawn_tickets_beat_random(results: Results) -> Verdict:
    """Masks drawn by NFN_NP and NFN_PT beat random masks by over two standard errors."""
    return every(beats, results, DRAWN, "Random", on=TEST)


@claim(PAPER, "Table 5")
def drawn_tickets_close_half_the_gap(results: Results) -> Verdict:
    """NFN_NP and NFN_PT each close over half of the gap between random masks and IMP."""
    low, high = results["Random", TEST].mean, results["IMP", TEST].mean
    return every(above, results, DRAWN, (low + high) / 2, on=TEST)


@claim(PAPER, "Table 5")
def interactions_do_not_help(results: Results) -> Verdict:
    """NFN_NP does not beat the pointwise NFN_PT by over two standard errors: as in the paper."""
    return not_worse(results["NFN_PT", TEST], results["NFN_NP", TEST])


@claim()
def models_explain_the_masks(results: Results) -> Verdict:
    """NFN_NP and NFN_PT have a higher ELBO than a model that keeps each weight with 5 %."""
    return every(at_least_times, results, DRAWN, "Random", 1, on=ELBO)


def _cells() -> Iterator[Cell]:
    for row, prefix in ROWS.items():
        value, stderr = PAPER_MNIST[row]
        mnist = Published(value, stderr, f"Table 5, MNIST (MLP), {row}")
        overrides, run = {}, "nfn.equivariant.tickets.experiment:baselines"
        if prefix is None:
            overrides, run = {"model.kind": row.removeprefix("NFN_").lower()}, None
        name = prefix or "drawn"
        yield Cell(row, TEST, overrides, f"{name}_test_accuracy", mnist, run)
        yield Cell(row, STDERR, overrides, f"{name}_stderr", None, run)
        yield Cell(row, OVERLAP, overrides, f"{name}_overlap", None, run)
        if prefix is None:
            yield Cell(row, LIKELIEST, overrides, "likeliest_test_accuracy")
            yield Cell(row, ELBO, overrides, "test_elbo")
        elif row == "Random":
            yield Cell(row, ELBO, overrides, "random_elbo", None, run)


TABLE = Table(
    title="Winning tickets drawn for fresh networks",
    source="Zhou et al. (2023), Table 5, MNIST (MLP)",
    config="nfn/equivariant/configs/tickets.py",
    cells=tuple(_cells()),
    paper_spread="standard error over initializations",
    notes=(
        "± of ours is over seeds: of the model, of the masks drawn and of the order of batches; "
        "the pairs of initial weights and tickets are the same for all seeds. The paper's ± is "
        "over initializations; ours of that kind has a column of its own (mean over seeds).",
        "All rows train the same test initializations by the same function on the training images "
        "and test on the test images; Dense without a mask, the others with 95 % of the kernel "
        "entries at 0. Biases are not pruned.",
        "Masks of NFN rows are drawn from p(M | U_0, Z), Z from its prior, with exactly the "
        "sparsity of the tickets; the likeliest mask keeps the highest logits instead.",
        "Random has for ELBO the log-likelihood of the tickets if every weight is kept with "
        "probability 5 %.",
        "The paper's numbers are of MNIST and 784-128-128-10 networks, ours of other images and "
        "smaller networks (see the deviations): orders compare, values do not.",
        "Published for CIFAR-10 (CNN), not run here: "
        + ", ".join(f"{row} {value} ± {se}" for row, (value, se) in PAPER_CIFAR.items())
        + ".",
    ),
    headline=("drawn_tickets_beat_random", "drawn_tickets_close_half_the_gap"),
)
