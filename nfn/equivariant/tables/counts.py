"""Table 1 as data: rows are weight spaces, columns layers; and claims about them."""

from common.aggregates import Results
from common.comparisons import all_of, fact, near
from common.tables import Cell, Table
from common.verdicts import PAPER, Verdict, claim

# Weight spaces, all neurons permutable; plain MLPs first. `nfn.equivariant.counts.SPACES` has them.
ROWS = (
    "MLP 2-3-2",
    "MLP 2-3-3-2",
    "MLP 2-2-3-2-2",
    "MLP 784-128-128-10",
    "SIREN 2-32-32-1",
    "SIREN 2-32-32-3",
    "CNN 1-16-16-16-10",
    "RNN 8-16-4",
    "residual MLP 8-16-4, 2 blocks",
)
COLUMNS = ("NP", "NP, predicted", "HNP", "HNP, predicted", "any linear map")


@claim(PAPER, "Proposition 1")
def stored_parameters_are_the_dimension(results: Results) -> Verdict:
    """Every layer stores as many parameters as the space of equivariant maps has dimensions."""
    pairs = [
        (row, group, results[row, f"{group}, predicted"].mean)
        for row in ROWS
        for group in ("NP", "HNP")
    ]
    return all_of(*(near(results[row, group], predicted, 0.0) for row, group, predicted in pairs))


@claim(PAPER, "Table 1")
def np_is_quadratic_in_depth(results: Results) -> Verdict:
    """NP layers of MLPs with L layers have 4L² + 10L - 4 parameters and 2L biases, at any width."""
    verdicts = []
    for row in ROWS[:4]:
        depth = row.count("-")
        expected = 4 * depth**2 + 10 * depth - 4 + 2 * depth
        verdicts.append(near(results[row, "NP"], expected, 0.0))
    return all_of(*verdicts)


@claim(PAPER, "Table 1")
def hnp_grows_with_inputs(results: Results) -> Verdict:
    """HNP layers have more parameters than NP layers, the more so the more inputs and outputs."""
    ratios = {
        row: results[row, "HNP"].mean / results[row, "NP"].mean
        for row in ("SIREN 2-32-32-1", "SIREN 2-32-32-3", "MLP 784-128-128-10")
    }
    rising = sorted(ratios.values()) == list(ratios.values()) and min(ratios.values()) > 1
    detail = "; ".join(f"{row}: HNP / NP {r:.4g}" for row, r in ratios.items())
    return fact(rising, detail, column="HNP")


TABLE = Table(
    title="Parameters of one layer per pair of input and output channel",
    source="Zhou et al. (2023), Table 1",
    published_size="numbers of parameters, at any width",
    config="nfn/equivariant/configs/inr_classification.py",
    cells=tuple(
        Cell(
            row,
            column,
            {},
            f"{row}: {column}",
            run="nfn.equivariant.counts:layer_parameters",
        )
        for row in ROWS
        for column in COLUMNS
    ),
    seeds=(0,),
    unit="parameters",
    notes=(
        "The paper gives orders of growth: O(L²) for NP, O((L + n_0 + n_L)²) for HNP, dim(U)² for "
        "any linear map; these are the numbers. They depend on no seed and on no config field.",
        "tests/nfn/test_span.py checks the predicted dimensions of small spaces by brute force.",
    ),
    headline=("stored_parameters_are_the_dimension",),
    drawn_from_cells=True,
)
