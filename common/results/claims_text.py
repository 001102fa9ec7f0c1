"""Claims of a table's JSON in words: marks, counts, gains, the matrix of claims, one sentence."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.results.grids import Grid, wrapped
from common.verdicts import HOLDS, KINDS, LEVEL, MISSED, NOT_RUN, REVERSED, STATES

MARKS = {HOLDS: "✔", LEVEL: "≈", MISSED: "✘", REVERSED: "⇄", NOT_RUN: "–"}
MEANING = (
    "✔ holds, ≈ level (within two standard errors), ✘ misses a threshold, ⇄ reversed (by more than "
    "two standard errors; counted as ✘)."
)
LEGEND = (
    f"{MEANING} Beside it how many times better it is, or by how much; of several "
    "comparisons in a column the least favourable."
)
WITHOUT_ROWS = ("", "is")  # relations that compare with no other row
Data = Mapping[str, Any]


def counts(claims: Iterable[Data]) -> Counter[str]:
    """Returns how many comparisons of claims are in each state."""
    return Counter(part["state"] for claim in claims for part in claim["parts"])


def mark(claim: Data) -> str:
    """Returns the mark of a claim: that of its worst comparison."""
    found = {part["state"] for part in claim["parts"]}
    return MARKS[max(found, key=STATES.index)] if found else MARKS[NOT_RUN]


def count(claim: Data) -> str:
    """Returns how many comparisons of a claim hold: "3 of 4"."""
    holding = sum(part["state"] == HOLDS for part in claim["parts"])
    return f"{holding} of {len(claim['parts'])}"


def scores(claims: Sequence[Data]) -> str:
    """Returns the claims of each kind by their worst comparison: "paper: 21 ✔ 6 ≈ 2 ✘"."""
    texts = []
    for kind in KINDS:
        marks = Counter(mark(claim) for claim in claims if claim["kind"] == kind)
        marks["✘"] += marks.pop(MARKS[REVERSED], 0)
        shown = " ".join(f"{marks[m]} {m}" for m in ("✔", "≈", "✘", "–") if marks[m])
        texts += [f"{kind}: {shown}"] if shown else []
    return " · ".join(texts)


def gain(part: Data) -> str:
    """Returns how much better what is judged is: "4.1×", "+2.3", or "" where that says nothing.

    A ratio where lower is better and neither number is 0; else the difference.
    """
    value, reference = part["value"], part["reference"]
    if value is None or reference is None or part["relation"] in WITHOUT_ROWS:
        return ""
    if part["lower"]:
        if value > 0 and reference > 0:
            return f"{_two_digits(reference / value)}×"
        return ""
    return f"{value - reference:+.2g}" if value != reference else "0"


def reasons(data: Data) -> list[tuple[str, str]]:
    """Returns (statements, reason) of what does not hold; claims with one reason stand together."""
    found: dict[str, list[str]] = {}
    for claim in data["claims"]:
        if claim["reason"]:
            found.setdefault(claim["reason"], []).append(claim["statement"].rstrip("."))
    return [("; ".join(statements), reason) for reason, statements in found.items()]


def comparison(part: Data) -> str:
    """Returns one comparison in words, with its mark and the seeds that agree."""
    agree = "" if part["agree"] is None else f" [{part['agree']}/{part['seeds']} seeds]"
    return f"{MARKS[part['state']]} {part['detail']}{agree}"


def in_lines(
    claim: Data, width: int, *, comparisons: bool = False, reason: bool = True
) -> tuple[str, list[str]]:
    """Returns a claim for a terminal: mark, statement and count; and what stands below it."""
    why = claim["problem"] or count(claim)
    first = f"{mark(claim)} {claim['statement'].rstrip('.')} ({why})"
    more = [comparison(part) for part in claim["parts"]] if comparisons else []
    more += [f"Why not: {claim['reason']}"] if claim["reason"] and reason else []
    return wrapped(first, width, "  "), [wrapped(line, width, "      ") for line in more]


def matrix(data: Data) -> Grid:
    """Returns claims by settings: the mark and gain of the least favourable comparison of each."""
    settings = {cell["column"]: cell["setting"] for cell in data["cells"]}
    named = dict.fromkeys(settings.values())
    places = [[settings.get(p["column"], "") for p in c["parts"]] for c in data["claims"]]
    used = [name for name in named if any(name in place for place in places)]
    header = ("claim", *used, "holds")
    rows = []
    for claim, place in zip(data["claims"], places, strict=True):
        row = [f"{mark(claim)} {claim['statement'].rstrip('.')}"]
        for name in used:
            here = [p for p, at in zip(claim["parts"], place, strict=True) if at == name]
            row.append(_worst(here))
        rows.append((*row, count(claim) if claim["parts"] else NOT_RUN))
    return Grid(header, tuple(rows))


def sentences(data: Data) -> str:
    """Returns what the headline claims of a table came to, one sentence each."""
    named = data["headline"] or [claim["name"] for claim in data["claims"][:1]]
    places = {cell["column"]: (cell["family"], cell["setting"]) for cell in data["cells"]}
    claims = {claim["name"]: claim for claim in data["claims"]}
    return " ".join(_sentence(claims[name], places) for name in named)


def _sentence(claim: Data, places: Mapping[str, tuple[str, str]]) -> str:
    """Returns "A beats B in error on x (4.1×) and y (2.0×); level on z; worse on w (0.89×)."."""
    parts, statement = claim["parts"], claim["statement"].rstrip(".")
    if not parts:
        return f"Not measured: {statement}."
    compared = all(part["relation"] not in WITHOUT_ROWS for part in parts)
    pairs = {(p["row"], p["relation"], p["against"]) for p in parts}
    families = {places.get(p["column"], ("", ""))[0] for p in parts}
    if not compared or len(pairs) > 1 or len(families) > 1 or len(parts) == 1:
        number = f" ({count(claim)})" if len(parts) > 1 else ""
        holding = sum(part["state"] == HOLDS for part in parts)
        if holding == len(parts):
            return f"{statement}{number}."
        return f"{'Holds in part' if holding else 'Does not hold'}{number}: {statement}."
    ((row, relation, against),), (family,) = pairs, families
    where = f"{against} in {family}" if family else against
    words = {
        HOLDS: f"{relation} {where} on",
        LEVEL: f"is level with {where} on",
        MISSED: f"misses that against {where} on",
        REVERSED: f"is worse than {where} on",
    }
    later = {LEVEL: "level on", MISSED: "not on", REVERSED: "worse on"}
    said: list[str] = []
    for state in STATES:
        found = [
            f"{places.get(p['column'], ('', p['column']))[1]} {_in_brackets(gain(p))}".strip()
            for p in parts
            if p["state"] == state
        ]
        said += [f"{(later if said else words)[state]} {_listed(found)}"] if found else []
    return f"{row} {'; '.join(said)}."


def _worst(parts: Sequence[Data]) -> str:
    """Returns mark and gain of the least favourable of some comparisons, "" of none."""
    if not parts:
        return ""
    worst = max(parts, key=lambda part: (STATES.index(part["state"]), -_size(part)))
    return f"{MARKS[worst['state']]} {gain(worst)}".strip()


def _size(part: Data) -> float:
    """Returns by how much a comparison is won, to find the narrowest of several."""
    value, reference = part["value"], part["reference"]
    if value is None or reference is None:
        return 0.0
    if part["lower"]:
        return reference / value if value > 0 and reference > 0 else 0.0
    return value - reference


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _in_brackets(text: str) -> str:
    return f"({text})" if text else ""


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))
