"""Claims about measured cells: comparisons with their two numbers, a state, and seeds that agree.

A claim is a statement with a function `Results -> Verdict`. A verdict is a list of parts, one
comparison each, which is in one of four states: it `holds`; two rows are `level`, less than two
standard errors apart; a threshold is `missed`; the order is `reversed` by more than two standard
errors. What two standard errors are worth is said by `confidence`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from common.aggregates import NotMeasured, Results

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
