"""Size curves of a table's JSON as a table of text."""

from collections.abc import Mapping
from typing import Any

from common.aggregates import number
from common.curves import DOES_NOT_FIT
from common.results.grids import Grid

TITLE = "by size curves, at the published size"
HEADER = ("", "from", "to", "exponent", "curve fits", "there", "paper")


def curve_grid(data: Mapping[str, Any]) -> list[tuple[str, Grid]]:
    """Returns the family of the size curves of a table's JSON, none if it has no curves.

    A line for every size that grows alone, and one for all together where there are several.
    Intervals in brackets hold nine of ten draws of the bootstrap.
    """
    lines = [line for curve in data.get("curves", ()) for line in _lines(curve)]
    return [(TITLE, Grid(HEADER, tuple(lines)))] if lines else []


def _lines(curve: Mapping[str, Any]) -> list[tuple[str, ...]]:
    name, paper = curve["name"], _paper(curve["published"])
    if curve["problem"]:
        return [(name, "", "", "", f"not fitted: {curve['problem']}", "", paper)]
    single = len(curve["along"]) == 1
    lines: list[tuple[str, ...]] = []
    for along in curve["along"]:
        sizes = [cell["size"] for cell in along["cells"]]
        lines.append(
            (
                f"{name}, {along['name']}" if single else f"{name}, {along['name']} alone",
                f"{number(min(sizes))} to {number(max(sizes))}",
                number(along["at"]),
                _interval(along["exponent"], 2),
                _fits(along["misfit"]),
                _interval(along["alone"], 3),
                paper if single else "",
            )
        )
    if not single:
        lines.append((f"{name}, all together", "", "", "", "", _interval(curve["all"], 3), paper))
    return lines


def _interval(found: Mapping[str, float], digits: int) -> str:
    value, low, high = (f"{found[name]:.{digits}g}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _fits(misfit: float | None) -> str:
    if misfit is None:
        return "–"
    return f"{'no' if misfit < DOES_NOT_FIT else 'yes'} (p = {misfit:.2g})"


def _paper(published: Mapping[str, Any] | None) -> str:
    if published is None:
        return "–"
    spread = published["spread"]
    return number(published["value"]) + ("" if spread is None else f" ± {number(spread)}")
