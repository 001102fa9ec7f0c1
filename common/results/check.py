"""`lab table --check`: measured cells against the published values, cell by cell and in order."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.aggregates import Aggregate, measured, number, number_of
from common.tables import results_from_json
from common.verdicts import NotMeasured


class CheckedCell(NamedTuple):
    """A cell with a published value.

    Attributes:
        row: Row label.
        column: Column label.
        ours: What was measured.
        paper: The published value.
        spread: The published spread, if there is one.
        within: Whether the difference is at most the paper's spread.
        level: Whether it is at most two of our standard errors.
        close: Whether it is at most the tolerance of the table; None without a tolerance.
    """

    row: str
    column: str
    ours: Aggregate
    paper: float
    spread: float | None
    within: bool | None
    level: bool | None
    close: bool | None

    def text(self) -> str:
        """Returns the comparison in one line."""
        gap = self.ours.mean - self.paper
        share = f" ({gap / self.paper:+.0%})" if self.paper else ""
        spread = "" if self.spread is None else f" ± {number(self.spread)}"
        inside = [
            name
            for name, holds in (
                ("inside the paper's spread", self.within),
                ("inside two of our standard errors", self.level),
                ("inside the tolerance", self.close),
            )
            if holds
        ]
        return (
            f"{self.row}, {self.column}: paper {number(self.paper)}{spread}, ours "
            f"{measured(self.ours)}: off by {gap:+.3g}{share}, "
            + (" and ".join(inside) or "outside of both spreads")
        )


class Order(NamedTuple):
    """Two rows whose published values differ by more than their spreads."""

    column: str
    first: str
    second: str
    is_right: bool


class Check(NamedTuple):
    """What was compared; `failed` says why it does not pass, "" if it does."""

    cells: tuple[CheckedCell, ...]
    orders: tuple[Order, ...]
    failed: str

    def text(self) -> str:
        """Returns a line for every cell, the orders, and the result."""
        if not self.cells:
            return self.failed or "no published values"
        lines = [cell.text() for cell in self.cells]
        wrong = [o for o in self.orders if not o.is_right]
        right = len(self.orders) - len(wrong)
        lines.append(f"order of two rows, where the paper has one: {right} of {len(self.orders)}")
        lines += [f"  not as published: {o.column}: {o.first} above {o.second}" for o in wrong]
        return "\n".join([*lines, self.failed or "agrees"])


def check(data: Mapping[str, Any], tolerance: float | None = None) -> Check:
    """Returns how the measured cells of a table's JSON compare with the published values.

    Args:
        data: The JSON, with the published values.
        tolerance: `Table.tolerance`. With one every cell must be within the paper's spread, two of
            our standard errors, or that share of the published value. Without one the sizes of the
            experiments differ, so that only the order of the rows says something: it must be the
            published one.
    """
    results = results_from_json(data)
    cells, missing = [], ""
    for cell in data["cells"]:
        if cell["paper"] is None:
            continue
        try:
            ours = results[cell["row"], cell["column"]]
        except NotMeasured:
            missing = missing or f"{cell['row']}, {cell['column']}: no value"
            continue
        cells.append(_checked(ours, cell["paper"]["value"], cell["paper"]["spread"], tolerance))
    orders = _orders(cells)
    if missing:
        failed = missing
    elif tolerance is None:
        wrong = sum(not order.is_right for order in orders)
        failed = f"{wrong} of {len(orders)} orders are not as published" if wrong else ""
    else:
        outside = sum(not (cell.within or cell.level or cell.close) for cell in cells)
        failed = f"{outside} of {len(cells)} cells are off by more than {tolerance:.0%}"
        failed = failed if outside else ""
    return Check(tuple(cells), orders, failed)


def summary(data: Mapping[str, Any]) -> str:
    """Returns how far the published numbers of a table's JSON come out, "" if none was measured."""
    cells, orders, _ = check(data)
    if not cells:
        return ""
    same = sum(bool(cell.within or cell.level) for cell in cells)
    text = f"Of {len(cells)} published numbers {same} are met within either spread"
    if orders:
        right = sum(order.is_right for order in orders)
        text += f"; of {number_of(len(orders), 'pair')} of rows {right} are in the published order"
    return f"{text} (`lab table --check`)."


def _checked(
    ours: Aggregate, value: float, spread: float | None, tolerance: float | None
) -> CheckedCell:
    gap = abs(ours.mean - value)
    return CheckedCell(
        ours.row,
        ours.column,
        ours,
        value,
        spread,
        within=None if spread is None else gap <= spread,
        level=None if ours.stderr is None else gap <= 2 * ours.stderr,
        close=None if tolerance is None else gap <= tolerance * abs(value),
    )


def _orders(cells: Sequence[CheckedCell]) -> tuple[Order, ...]:
    found = []
    for a, b in itertools.combinations(cells, 2):
        gap = a.paper - b.paper
        if a.column != b.column or abs(gap) <= (a.spread or 0.0) + (b.spread or 0.0):
            continue
        high, low = (a, b) if gap > 0 else (b, a)
        found.append(Order(a.column, high.row, low.row, high.ours.mean > low.ours.mean))
    return tuple(found)
