"""What the tables of a task have in common in every paper: columns, cells, remarks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common.tables import Cell, Published

EDITING = "Editing images by the weights of SIRENs fitted to them: mean square error"
EDITING_ERROR = (
    "Mean square over pixels of the test images in the [-1, 1] scale, for the checkpoint with the "
    "best validation error. Do nothing: the untouched networks."
)
RANKING = "Kendall's tau of predicted and true test accuracies of CNNs"
RANKING_REMARKS = (
    "R^2, training tau (on the training networks) and change, permuted: with the most networks; "
    "the last is the mean change of a prediction when the hidden neurons of a test network are put "
    "in random order.",
    "Each run's checkpoint is the one with the best tau on the validation networks.",
)


def permuted(edit: str) -> str:
    """Returns the column of what permuting hidden neurons changes in an edit."""
    return f"{edit}, change by permuting"


def permuted_note(column: str) -> str:
    """Returns the remark on that column."""
    return (
        f"{column}: mean square difference of the pixels shown when the hidden neurons of the test "
        "networks are put in a random order first."
    )


def ranking_cells(
    row: str,
    overrides: Mapping[str, Any],
    sizes: Sequence[int],
    published: Published | None,
    config: str | None = None,
) -> list[Cell]:
    """Returns the cells of a predictor: tau for every size, the rest with the most networks.

    Args:
        row: Its row.
        overrides: Config fields that make it.
        sizes: Numbers of training networks, ascending.
        published: The paper's tau, beside that of the largest size.
        config: Config file, if not the table's.
    """
    made = [{**overrides, "data.train_runs": size} for size in sizes]
    cells = [
        Cell(row, f"tau, {size}", fields, "test_tau", config=config)
        for size, fields in zip(sizes, made, strict=True)
    ]
    cells[-1] = cells[-1]._replace(paper=published)
    rest = {"R^2": "test_r2", "training tau": "train_tau", "change, permuted": "permuted_change"}
    cells += [Cell(row, column, made[-1], rest[column], config=config) for column in rest]
    return cells


def by_size(sizes: Sequence[int]) -> Callable[[str], tuple[str, str]]:
    """Returns "tau, 250" -> ("tau", "250 networks"); other columns are of the most networks."""

    def split(column: str) -> tuple[str, str]:
        name, comma, size = column.partition(", ")
        if comma and size.isdecimal():
            return name, f"{size} networks"
        return f"with {sizes[-1]:,} networks", column

    return split
