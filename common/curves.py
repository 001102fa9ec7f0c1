"""Size curves of a table: what its cells say about sizes that nobody here can run.

CURVES = (
    Curve("NFN_NP", best=100, published=Published(75.6, 1.07, "Table 3"), along=(
        Along("steps", {500: ("NFN_NP", "500 steps"), 1_000: ...}, at=200_000, centre=1_000),
        Along("channels", {...}, at=512, centre=24),
    )),
)
TABLE = Table(..., curves=CURVES)

A curve is fitted to committed cells whenever a table is judged (`common.power_laws`), so that its
numbers are in the table's JSON and on its page, and nobody types them. Nothing here loads NumPy
before a curve is fitted: every command reads the tables.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from common.aggregates import NotMeasured, Results
from common.verdicts import HOLDS, MISSED, Part, Verdict

if TYPE_CHECKING:
    from common.power_laws import Extrapolated, Interval

Place = tuple[str, str]  # row and column
LINE_POINTS = 24
SIZES = 3  # that a curve needs at least, for its three parameters
DOES_NOT_FIT = 0.05  # p-value below which a curve does not fit


class Along(NamedTuple):
    """Cells that differ in one size.

    Attributes:
        name: What is counted: "steps".
        cells: Row and column by size; three sizes at least, four to know whether the curve fits.
        at: The size asked for: the paper's.
        centre: The size that the cells of all other `Along` have.
    """

    name: str
    cells: Mapping[float, Place]
    at: float
    centre: float


class Curve(NamedTuple):
    """What becomes of one number when sizes grow.

    Attributes:
        name: As on the page: the row as a rule.
        best: What no size can surpass, in the unit of the table: 100 for accuracies in percent, 1
            for rank correlations, 0 for errors. The distance from it is what falls as a power law.
        published: The paper's number at the sizes asked for (a `Published`), None if it has none.
        along: One or more sizes.
    """

    name: str
    best: float
    published: Any
    along: tuple[Along, ...]


def fitted(curve: Curve, results: Results) -> "Extrapolated":
    """Returns the fits of a curve, of errors: distances from `curve.best`.

    Raises:
        NotMeasured: If a cell lacks a seed.
        ValueError: If a number is at `curve.best` or beyond, or a size has fewer than two seeds.
    """
    from common.power_laws import Axis, extrapolate

    axes, sign = [], _sign(curve, results)
    for along in curve.along:
        found = [results[place] for place in along.cells.values()]
        errors = tuple(tuple(sign * (v - curve.best) for v in a.values.values()) for a in found)
        axes.append(Axis(tuple(along.cells), errors, along.at, along.centre))
    return extrapolate(tuple(axes))


def value_at(curve: Curve, results: Results) -> "Interval":
    """Returns the number at the sizes asked for, in the unit of the table, in four digits.

    Raises:
        NotMeasured, ValueError: As `fitted`.
    """
    shown = _shown(curve, results, fitted(curve, results).error)
    return type(shown)(*map(_digits, shown))  # what follows from it is the same on every machine


def reaches(curve: Curve, results: Results) -> Verdict:
    """Returns whether the published number is in the interval at the published sizes.

    Raises:
        NotMeasured, ValueError: As `fitted`.
    """
    value, low, high = value_at(curve, results)
    published = curve.published.value
    state = HOLDS if low <= published <= high else MISSED
    detail = (
        f"{curve.name}: {value:.3g} ({low:.3g} to {high:.3g}) by the curve, published {published:g}"
    )
    against = f"the published {published:g}"
    part = Part(curve.name, "", "reaches", against, state, value, published, detail=detail)
    return Verdict((part,))


def is_narrow(curve: Curve, results: Results, width: float) -> Verdict:
    """Returns whether the interval at the sizes asked for is narrower than `width`.

    Raises:
        NotMeasured, ValueError: As `fitted`.
    """
    value, low, high = value_at(curve, results)
    state = HOLDS if high - low < width else MISSED
    detail = f"{curve.name}: {value:.3g} ({low:.3g} to {high:.3g}), wanted within {width:g}"
    part = Part(
        curve.name, "", "is known within", f"{width:g}", state, high - low, width, lower=True
    )
    return Verdict((part._replace(detail=detail),))


def fits(curve: Curve, results: Results) -> Verdict:
    """Returns whether the curve passes its means, along each size of which that can be said.

    Raises:
        NotMeasured, ValueError: As `fitted`; also if no size has more than three cells.
    """
    found = zip(curve.along, fitted(curve, results).axes, strict=True)
    known = [(along.name, fit.misfit) for along, fit in found if fit.misfit is not None]
    if not known:
        raise ValueError(f"{curve.name}: a curve passes any three sizes")
    return Verdict(
        tuple(
            Part(
                curve.name,
                "",
                "",
                "",
                HOLDS if misfit > DOES_NOT_FIT else MISSED,
                detail=f"{curve.name} by {name}: p = {misfit:.2g}, wanted > {DOES_NOT_FIT:g}",
            )
            for name, misfit in known
        )
    )


def curves_json(curves: Sequence[Curve], results: Results) -> list[dict[str, Any]]:
    """Returns the curves as a table's JSON holds them, numbers with four digits.

    `line` is the curve from the smallest size to the one asked for, or to the largest. A curve
    whose cells are not complete, or that cannot be fitted, has a `problem` instead of fits.
    """
    return [_curve_json(curve, results) for curve in curves]


def check_curves(curves: Sequence[Curve], places: Sequence[Place]) -> str:
    """Returns the first mistake in the curves of a table with these cells, "" if there is none."""
    for curve in curves:
        for along in curve.along:
            what = f"has a curve {curve.name!r} along {along.name!r} "
            unknown = [place for place in along.cells.values() if place not in places]
            if unknown:
                return what + f"of a cell that it lacks: {unknown[0]}"
            if len(along.cells) < SIZES:
                return what + f"of {len(along.cells)} sizes, expected at least {SIZES}"
            if min(*along.cells, along.at) <= 0:
                return what + "of a size that is not positive"
            if along.centre not in along.cells:
                return what + f"whose centre {along.centre:g} is none of its sizes"
    return ""


def _curve_json(curve: Curve, results: Results) -> dict[str, Any]:
    published = curve.published._asdict() if curve.published else None
    found = {"name": curve.name, "published": published, "all": None, "along": [], "problem": ""}
    try:
        found_fits = fitted(curve, results)
    except (NotMeasured, ValueError) as error:
        return {**found, "problem": str(error)}

    def shown(error: "Interval") -> dict[str, float]:
        return _rounded(_shown(curve, results, error))

    along = [
        {
            "name": one.name,
            "cells": [{"size": n, "row": row, "column": c} for n, (row, c) in one.cells.items()],
            "at": one.at,
            "exponent": _rounded(fit.exponent),
            "alone": shown(fit.at(one.at)),
            "misfit": None if fit.misfit is None else _digits(fit.misfit),
            "line": [{"size": _digits(x), **shown(fit.at(x))} for x in _line(one)],
        }
        for one, fit in zip(curve.along, found_fits.axes, strict=True)
    ]
    return {**found, "all": shown(found_fits.error), "along": along}


def _line(along: Along) -> list[float]:
    """Returns sizes from the smallest to the one asked for, or to the largest."""
    first, last = min(along.cells), max(*along.cells, along.at)
    steps = LINE_POINTS - 1
    return [first * (last / first) ** (k / steps) for k in range(steps + 1)]


def _shown(curve: Curve, results: Results, error: "Interval") -> "Interval":
    """Returns a distance from the best as a number of the table, its interval in order."""
    sign = _sign(curve, results)
    ends = sorted((curve.best + sign * error.low, curve.best + sign * error.high))
    return type(error)(curve.best + sign * error.value, *ends)


def _sign(curve: Curve, results: Results) -> int:
    """Returns 1 if numbers fall to the best, -1 if they rise to it."""
    first = results[next(iter(curve.along[0].cells.values()))]
    return 1 if first.mean > curve.best else -1


def _rounded(interval: "Interval") -> dict[str, float]:
    return {name: _digits(number) for name, number in interval._asdict().items()}


def _digits(number: float) -> float:
    """Returns a number with four digits: what is left is the same on every machine."""
    return float(f"{number:.4g}")
