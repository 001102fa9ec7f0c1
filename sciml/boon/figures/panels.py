"""Panels that more than one figure has, and what they show of trained networks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from common.figures import RunDirectories, Shown, bars, cells, first_run, heading, rows
from sciml.boon.rows import (
    BOON,
    BOON_INPUTS,
    BOON_MWT,
    BOON_RELEASED,
    BOON_VALUE,
    CLIPPED,
    ERROR,
    EXACT_RELEASED,
    FNO,
    INPUTS,
    LAST,
    MWT,
    RELEASED,
    TITLES,
    WRITE,
    WRITE_RELEASED,
    column,
)
from sciml.boundary import stencil

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {
    FNO: "#9a9a9a",
    INPUTS: "#6aa56e",
    LAST: "#d9b38c",
    WRITE: "#e08a3c",
    BOON: "#2f6db3",
    BOON_VALUE: "#7fb0e0",
    BOON_INPUTS: "#173a63",
    MWT: "#b8a8c8",
    BOON_MWT: "#6b4c9a",
    RELEASED: "#c9b037",
    WRITE_RELEASED: "#e3c7a8",
    EXACT_RELEASED: "#b58a3a",
    BOON_RELEASED: "#8c6d1f",
    CLIPPED: "#4a3a10",
}
STYLES = tuple(  # of lines that must be told apart, in gray too
    {"marker": marker, "linestyle": line}
    for marker, line in (("o", "-"), ("s", "-"), ("D", "--"), ("^", ":"), ("v", "-."))
)
FLOOR = 1e-9  # what is exactly 0 on a logarithmic axis


def errors(axis: "Axes", data: Mapping[str, Any], pdes: Sequence[str], *, in_line: int = 5) -> None:
    """Draws relative L2 of all rows on a logarithmic scale, grouped by equation.

    Args:
        axis: Where.
        data: The table's JSON.
        pdes: The equations.
        in_line: Names beside one another in the legend.
    """
    shown = cells(data)
    series = {
        row: [shown.get((row, column(pde, ERROR)), Shown()) for pde in pdes] for row in rows(data)
    }
    bars(axis, [TITLES[pde] for pde in pdes], series, COLORS)
    axis.legend(
        fontsize=8, ncols=in_line, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False
    )
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if high < 2 * low:  # else a difference of a percent would look like one of many times
        axis.set_ylim(low / 3, high * 3)
    axis.set_ylabel(ERROR)
    axis.set_title(heading(data), fontsize=10)


class Answer(NamedTuple):
    """What a trained network says of the test set.

    Attributes:
        test: The test set, as `sciml.boon.data.load` gives it.
        field: Predictions [samples, *grid].
    """

    test: Mapping[str, Any]
    field: np.ndarray


def answer(row: str, pde: str, run_directories: RunDirectories) -> Answer:
    """Returns predictions of the first seed of a row on its test set."""
    run = first_run(run_directories, row, column(pde, ERROR))
    test = jax.tree.map(np.asarray, run.data["test"])
    return Answer(test, np.asarray(run.predict(test)))


def boundary_errors(pde: str, answer: Answer) -> np.ndarray:
    """Returns |u - α| at x = 1, the slope's error there, or |u_0 - u_N|; [samples, ...time]."""
    field, ends = answer.field, answer.test["boundary"][0]
    if pde == "burgers_periodic":
        return np.abs(field[:, 0] - field[:, -1])
    high = ends.high if field.ndim > 2 else ends.high[..., -1]
    if pde not in ("heat", "wave"):
        return np.abs(field[:, -1] - high)
    weights = np.asarray(stencil(3)) * (field.shape[1] - 1)
    slope = -sum(weight * field[:, -1 - j] for j, weight in enumerate(weights))
    return np.abs(slope - high)
