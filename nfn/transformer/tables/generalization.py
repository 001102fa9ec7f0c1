"""Table "generalization" as data: cells, published values with their place, and claims."""

from collections.abc import Iterator
from typing import Any

from common.aggregates import Results
from common.comparisons import above, all_of, beats, below
from common.tables import Cell, Published, Table
from common.verdicts import CHECK, PAPER, Verdict, claim
from nfn.tasks import tables

NFN_CONFIG = "nfn/equivariant/configs/generalization.py"
NFT = "NFT"
NFN_ROWS = {"NFN_HNP": "hnp", "NFN_NP": "np", "STATNN": "statnn"}
SIZES = (250, 1_000, 2_400)  # training networks
LARGEST = f"tau, {SIZES[-1]}"

# Table 2 of arXiv 2607.02166, CIFAR-10-GS, which reports the numbers of other papers again.
SECONDARY = "arXiv 2607.02166, Table 2 (secondary), CIFAR-10-GS"
PAPER_TAU = {"NFN_HNP": (0.934, 0.001), "NFN_NP": (0.922, 0.001), NFT: (0.926, 0.001)}


@claim(PAPER, "abstract")
def attention_is_as_good_as_np(results: Results) -> Verdict:
    """At the largest size tau of NFT is at most 0.01 below that of NFN_NP."""
    return above(results[NFT, LARGEST], results["NFN_NP", LARGEST].mean - 0.01)


@claim(PAPER, "arXiv 2607.02166, Table 2")
def order_of_the_paper(results: Results) -> Verdict:
    """At the largest size NFN_HNP beats NFT, and NFT NFN_NP, each by over two standard errors."""
    return all_of(
        beats(results["NFN_HNP", LARGEST], results[NFT, LARGEST]),
        beats(results[NFT, LARGEST], results["NFN_NP", LARGEST]),
    )


@claim()
def more_networks_help(results: Results) -> Verdict:
    """From the smallest to the largest size tau of NFT grows by over two standard errors."""
    return beats(results[NFT, LARGEST], results[NFT, f"tau, {SIZES[0]}"])


@claim(CHECK)
def permuting_changes_no_prediction(results: Results) -> Verdict:
    """Permuting the hidden neurons of test networks changes a prediction of NFT by under 1e-4."""
    return below(results[NFT, "change, permuted"], 1e-4)


def _cells() -> Iterator[Cell]:
    for row in (*NFN_ROWS, NFT):
        config = NFN_CONFIG if row in NFN_ROWS else None
        overrides: dict[str, Any] = {"model.kind": NFN_ROWS[row]} if row in NFN_ROWS else {}
        if row == "NFN_HNP":  # as in Table 2 of nfn.equivariant
            overrides["data.normalize"] = False
        paper = Published(*PAPER_TAU[row], f"{SECONDARY}, {row}") if row in PAPER_TAU else None
        yield from tables.ranking_cells(row, overrides, SIZES, paper, config)


TABLE = Table(
    title=tables.RANKING,
    source="Zhou et al. (2023), Neural Functional Transformers, as reported by arXiv 2607.02166, "
    "Table 2, CIFAR-10-GS",
    config="nfn/transformer/configs/generalization.py",
    cells=tuple(_cells()),
    reasons={
        "order_of_the_paper": "NFN_HNP and NFT differ by less here than seeds of each do; three "
        "seeds are too few to tell them apart.",
    },
    headline=("attention_is_as_good_as_np", "order_of_the_paper"),
    split=tables.by_size(SIZES),
    paper_spread="as printed there; number of runs not known",
    notes=(
        "The published values are from a secondary source, Table 2 of arXiv 2607.02166: the text "
        "of the paper could not be read. Their CNNs are 1-16-16-16-10 on gray CIFAR-10, 12 000 of "
        "them for training; ours are described under the table.",
        "tau, n: with n training networks, drawn by the seed; validation and test networks are the "
        "same for all runs. NFN and STATNN: the runs of Table 2 of nfn.equivariant, on the same "
        "networks.",
        *tables.RANKING_REMARKS,
    ),
)
