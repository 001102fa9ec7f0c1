"""Comparisons that claims are made of: two rows, a row and a number, or many rows and columns.

Each returns a `Verdict` of parts that hold, are level, miss a threshold, or are reversed, in the
words of `common.verdicts`.
"""

import math
from collections.abc import Callable, Sequence

from common.aggregates import Aggregate, Results, aggregate, by_seed, in_words, standard_error
from common.verdicts import HOLDS, LEVEL, MISSED, REVERSED, Part, Verdict


def beats(a: Aggregate, b: Aggregate, *, lower: bool = False, paired: bool = True) -> Verdict:
    """Returns whether `a` is better than `b` by more than two standard errors of the difference.

    Args:
        a: What is judged.
        b: What it is compared with.
        lower: Lower is better.
        paired: The runs share data and seeds, so that what the seed does to both cancels: the
            standard error is that of the differences by seed. Else sqrt(stderr(a)^2 + stderr(b)^2).
    """
    part, gain = _compared(a, b, lower=lower, paired=paired)
    state = HOLDS if gain > part.margin else REVERSED if gain < -part.margin else LEVEL
    return Verdict((part._replace(state=state, relation="beats"),))


def not_worse(a: Aggregate, b: Aggregate, *, lower: bool = False, paired: bool = True) -> Verdict:
    """Returns whether `b` does not beat `a`; the arguments of `beats`."""
    part, gain = _compared(a, b, lower=lower, paired=paired)
    state = REVERSED if gain < -part.margin else HOLDS
    return Verdict((part._replace(state=state, relation="is not worse than"),))


def at_most_times(a: Aggregate, b: Aggregate, factor: float) -> Verdict:
    """Returns whether the mean of `a` is below `factor` times that of `b`; lower is better."""
    return _against_mean(a, b, factor, lower=True)


def at_least_times(a: Aggregate, b: Aggregate, factor: float) -> Verdict:
    """Returns whether the mean of `a` is above `factor` times that of `b`; higher is better."""
    return _against_mean(a, b, factor, lower=False)


def above(a: Aggregate, value: float) -> Verdict:
    """Returns whether the mean of `a` is greater than `value`."""
    return _threshold(a, a.mean > value, ">", value, lambda x: x > value)


def below(a: Aggregate, value: float) -> Verdict:
    """Returns whether the mean of `a` is less than `value`."""
    return _threshold(a, a.mean < value, "<", value, lambda x: x < value)


def near(a: Aggregate, value: float, tolerance: float) -> Verdict:
    """Returns whether the mean of `a` is at most `tolerance` away from `value`."""
    wanted = f"{value:g}" + (f" ± {tolerance:g}" if tolerance else "")
    part = Part(
        a.row,
        a.column,
        "is",
        wanted,
        HOLDS if abs(a.mean - value) <= tolerance else MISSED,
        a.mean,
        value,
        lower=True,
        agree=sum(abs(x - value) <= tolerance for x in a.values.values()),
        seeds=a.n,
        detail=f"{in_words(a)}, wanted {wanted}",
    )
    return Verdict((part,))


def fact(holds: bool, detail: str, *, row: str = "", column: str = "") -> Verdict:
    """Returns the verdict of what is no comparison of two numbers, in words."""
    return Verdict((Part(row, column, "", "", HOLDS if holds else MISSED, detail=detail),))


def all_of(*verdicts: Verdict) -> Verdict:
    """Returns the verdict of all parts together."""
    return Verdict(tuple(part for verdict in verdicts for part in verdict.parts))


def every(
    compare: Callable[..., Verdict],
    results: Results,
    rows: str | Sequence[str],
    against: str | float | Sequence[str],
    *more: float,
    on: str | Sequence[str],
    **options: bool,
) -> Verdict:
    """Returns the verdict of every row compared with every other one, column by column.

        every(beats, results, ("NP", "HNP"), "MLP", on=("dilate", "contrast"), lower=True)
        every(above, results, ROWS, 99.9, on="same answer")

    Args:
        compare: One of the comparisons above.
        results: Measured cells.
        rows: What is judged: one row or several.
        against: The rows they are compared with, or a threshold.
        *more: Further arguments of `compare`, such as a factor.
        on: The columns: one or several.
        **options: Further named arguments of `compare`.
    """
    rows, columns = ((names,) if isinstance(names, str) else names for names in (rows, on))
    others = (against,) if isinstance(against, str | float | int) else against
    return all_of(
        *(
            compare(results[row, column], _reference(results, other, column), *more, **options)
            for column in columns
            for row in rows
            for other in others
        )
    )


def _reference(results: Results, other: str | float, column: str) -> Aggregate | float:
    return results[other, column] if isinstance(other, str) else other


def _compared(a: Aggregate, b: Aggregate, *, lower: bool, paired: bool) -> tuple[Part, float]:
    """Returns a part with two standard errors of the difference, and the gain of `a`."""
    difference = aggregate(by_seed(a, b)) if paired else None
    margin = 2 * (
        standard_error(difference)
        if difference
        else math.hypot(standard_error(a), standard_error(b))
    )
    name = "2 SE, paired by seed" if paired else "2 SE"
    sign = -1 if lower else 1
    agree = None
    if a.values.keys() == b.values.keys():
        agree = sum(sign * d > 0 for d in by_seed(a, b).values())
    part = Part(
        a.row,
        a.column,
        "",
        _other(a, b),
        LEVEL,
        a.mean,
        b.mean,
        lower,
        margin,
        agree,
        a.n,
        f"{in_words(a)} against {in_words(b)}: difference {a.mean - b.mean:.4g}, {name} "
        f"{margin:.4g}",
    )
    return part, sign * (a.mean - b.mean)


def _against_mean(a: Aggregate, b: Aggregate, factor: float, *, lower: bool) -> Verdict:
    sign = -1 if lower else 1
    times = "" if factor == 1 else f"{factor:g} times "
    word = "below" if lower else "above"
    agree = None
    if a.values.keys() == b.values.keys():
        agree = sum(sign * (x - factor * b.values[seed]) > 0 for seed, x in a.values.items())
    part = Part(
        a.row,
        a.column,
        f"is {word} {times}".strip(),
        _other(a, b),
        HOLDS if sign * (a.mean - factor * b.mean) > 0 else MISSED,
        a.mean,
        b.mean,
        lower,
        agree=agree,
        seeds=a.n,
        detail=f"{in_words(a)}, wanted {word} {times}{in_words(b)}",
    )
    return Verdict((part,))


def _threshold(
    a: Aggregate, holds: bool, sign: str, value: float, check: Callable[[float], bool]
) -> Verdict:
    part = Part(
        a.row,
        a.column,
        "is",
        f"{sign} {value:.4g}",
        HOLDS if holds else MISSED,
        a.mean,
        value,
        sign == "<",
        agree=sum(map(check, a.values.values())),
        seeds=a.n,
        detail=f"{in_words(a)}, wanted {sign} {value:g}",
    )
    return Verdict((part,))


def _other(a: Aggregate, b: Aggregate) -> str:
    return b.row if b.column == a.column else b.column if b.row == a.row else b.label
