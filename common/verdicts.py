"""Claims about measured cells: comparisons with their two numbers, a state, and seeds that agree.

A claim is a statement with a function `Results -> Verdict`. A verdict is a list of parts, one
comparison each, which is in one of four states: it `holds`; two rows are `level`, less than two
standard errors apart; a threshold is `missed`; the order is `reversed` by more than two standard
errors. What two standard errors are worth is said by `confidence`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from common.aggregates import (
    Aggregate,
    NotMeasured,
    Results,
    aggregate,
    by_seed,
    in_words,
    standard_error,
)

HOLDS, LEVEL, MISSED, REVERSED = "holds", "level", "missed", "reversed"
FAILS, NOT_RUN = "fails", "not run"
STATES = (HOLDS, LEVEL, MISSED, REVERSED)
PAPER, OURS, CHECK = "paper", "ours", "check"
KINDS = {
    PAPER: "the paper states it",
    OURS: "the paper does not state it",
    CHECK: "holds by construction, or shows that the comparison is fair",
}


def confidence(seeds: int) -> str:
    """Returns what two standard errors of a difference are worth with so many seeds, in words."""
    from scipy.stats import t as student_t

    if seeds < 2:
        return "With one seed there is no standard error: nothing holds or fails by it."
    paired, apart = (100 * (1 - 2 * student_t.sf(2, df)) for df in (seeds - 1, 2 * seeds - 2))
    return (
        f"Two standard errors of a difference of {seeds} seeds are its {paired:.0f} % interval "
        f"when the seeds are paired and its {apart:.0f} % interval when they are not (Student's t)."
    )


class Part(NamedTuple):
    """One comparison of a verdict, in the unit of the table.

    Attributes:
        row: What is judged.
        column: Where.
        relation: What is claimed of the two: "beats", "is not worse than"; "" of a fact.
        against: The row it is compared with, "row, column" if that is another column too, or the
            threshold: "< 0.1".
        state: One of `STATES`.
        value: Mean of what is judged, None for a fact without a number.
        reference: Mean of the other row, or the threshold.
        lower: Whether lower is better.
        margin: What the difference had to exceed: two standard errors, or 0.
        agree: Seeds that say the same by themselves, None where that is no question.
        seeds: Number of seeds.
        detail: The comparison in words.
    """

    row: str
    column: str
    relation: str
    against: str
    state: str
    value: float | None = None
    reference: float | None = None
    lower: bool = False
    margin: float = 0.0
    agree: int | None = None
    seeds: int = 0
    detail: str = ""


class Verdict(NamedTuple):
    """What a claim says about the numbers; true in a condition exactly if all parts hold."""

    parts: tuple[Part, ...]

    def __bool__(self) -> bool:
        return self.holds

    @property
    def holds(self) -> bool:
        """Returns whether every part holds."""
        return all(part.state == HOLDS for part in self.parts)

    @property
    def detail(self) -> str:
        """Returns all comparisons in words; those that do not hold are marked."""
        marks = {HOLDS: ""} | {state: f"[{state}] " for state in STATES[1:]}
        return "; ".join(marks[part.state] + part.detail for part in self.parts)


Judge = Callable[[Results], Verdict]


class Claim(NamedTuple):
    """A statement about a table and how it is judged.

    Attributes:
        name: Identifies it in its table.
        statement: One sentence.
        judge: Measured cells -> verdict.
        kind: "paper", "ours" or "check", see `KINDS`.
        source: Where the paper states it: "Section 4.1"; "" for the other kinds.
    """

    name: str
    statement: str
    judge: Judge
    kind: str = OURS
    source: str = ""

    def __call__(self, results: Results) -> Verdict:
        """Returns what it says about the numbers."""
        return self.judge(results)


class Outcome(NamedTuple):
    """A claim as judged: status holds, fails or not run. `reason` is "" unless it fails."""

    name: str
    statement: str
    kind: str
    source: str
    status: str
    parts: tuple[Part, ...]
    problem: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Returns it as a table's JSON holds it."""
        return {**self._asdict(), "parts": [part._asdict() for part in self.parts]}


def claim(kind: str = OURS, source: str = "") -> Callable[[Judge], Claim]:
    """Returns a decorator: a function with a docstring becomes a claim of that name and statement.

    Args:
        kind: "paper", "ours" or "check".
        source: Where the paper states it.
    """

    def made(judge: Judge) -> Claim:
        statement = (judge.__doc__ or "").strip().partition("\n")[0]
        return Claim(judge.__name__, statement, judge, kind, source)

    return made


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


def claims_in(namespace: Mapping[str, Any]) -> tuple[Claim, ...]:
    """Returns the claims that a module makes, in its order: `claims_in(globals())`."""
    return tuple(value for value in namespace.values() if isinstance(value, Claim))


def judge(claim: Claim, results: Results | None, reasons: Mapping[str, str]) -> Outcome:
    """Returns a claim as judged on measured cells (None: nothing measured)."""
    status, parts, problem = NOT_RUN, (), "no result is committed"
    if results is not None:
        try:
            verdict = claim(results)
        except NotMeasured as missing:
            problem = str(missing)
        except (ArithmeticError, ValueError) as error:  # of numbers that no run has given
            problem = f"cannot be judged on these numbers: {error}"
        else:
            if not isinstance(verdict, Verdict) or not verdict.parts:
                raise TypeError(f"claim {claim.name} returned {verdict!r}, expected a Verdict")
            status, parts, problem = HOLDS if verdict.holds else FAILS, verdict.parts, ""
    reason = reasons.get(claim.name, "") if status == FAILS else ""
    return Outcome(
        claim.name, claim.statement, claim.kind, claim.source, status, parts, problem, reason
    )


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
