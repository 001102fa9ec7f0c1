"""Tables as data: cells, paper values, seeds, and claims that are evaluated on measured numbers.

A paper's `tables.py` declares `TABLES = {"3": TABLE_3}`. `common.table_runner` runs what is missing
and writes JSON; `common.table_render` turns that JSON into Markdown and terminal text. Claims are
evaluated from the JSON alone, so no run folder is needed to check a committed result.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from common.errors import LabError

HOLDS, FAILS, NOT_RUN = "holds", "fails", "not run"


class Paper(NamedTuple):
    """A published number: value and spread in the unit of the table, and where it stands."""

    value: float
    spread: float | None
    source: str


class Cell(NamedTuple):
    """One entry of a table.

    Attributes:
        row: Row label; rows appear in the order of their first cell.
        column: Column label.
        overrides: Config fields that make this cell, dotted: {"model.layer": "np"}. Cells with the
            same overrides share their runs.
        metric: Name in the run's result. Metrics of the best checkpoint are taken if the run has
            one, else the last step's; "last/NAME" and "best/NAME" say which.
        paper: The published number, or None if there is none.
        run: "package.module:function" for a cell that is not a training run: a function
            `config -> {metric: number}`, called in a process of its own.
        config: Config file of a row that another experiment makes, relative to the repository, at
            the preset of the table; it shares that experiment's runs. None: the table's own.
        variant: What follows the preset in the config file's argument: "pde=heat,kind=boon".
    """

    row: str
    column: str
    overrides: dict[str, Any]
    metric: str
    paper: Paper | None = None
    run: str | None = None
    config: str | None = None
    variant: str = ""


class Aggregate(NamedTuple):
    """One metric over seeds, in the unit of the table.

    `std` is the sample standard deviation (n - 1) and `stderr` = std / sqrt(n); both are None for
    fewer than two seeds.
    """

    values: dict[int, float]
    mean: float
    std: float | None
    n: int
    stderr: float | None
    label: str = ""


class Verdict(NamedTuple):
    """What a claim says about the numbers; true in a condition exactly if it holds."""

    holds: bool
    detail: str

    def __bool__(self) -> bool:
        return self.holds


Claim = Callable[["Results"], Verdict]


class Table(NamedTuple):
    """A paper's table as data.

    Attributes:
        name: As on the command line: "3".
        title: What is measured.
        source: Where the published table stands.
        config: Config file, relative to the repository.
        cells: All cells.
        seeds: Seeds of every cell.
        claims: Functions `Results -> Verdict`; the first docstring line is the statement.
        unit: Unit of every number shown, such as "%".
        paper_spread: What the paper's ± is.
        notes: Remarks printed below the table.
        figures: "package.figures:function" with the signature
            `function(json_dict, run_dirs, out_path)`; `run_dirs[row, column][seed]` is a folder.
        reasons: Written reason by claim name, shown only where that claim fails.
        scale: What a metric is multiplied with to be in `unit`: 100 for fractions shown in percent.
        at: Another table in place of this one at a preset, such as fewer rows for a demo.
    """

    name: str
    title: str
    source: str
    config: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    claims: tuple[Claim, ...] = ()
    unit: str = ""
    paper_spread: str = ""
    notes: tuple[str, ...] = ()
    figures: str | None = None
    reasons: Mapping[str, str] = {}
    scale: float = 1.0
    at: Mapping[str, "Table"] = {}


class ClaimOutcome(NamedTuple):
    """A claim with its status: holds, fails or not run. `reason` is "" unless it fails."""

    name: str
    statement: str
    status: str
    detail: str
    reason: str


class NotMeasured(LabError):
    """A claim asked for a cell, or for a number of seeds, that no run has given."""


class Results:
    """Measured cells: `results[row, column]` is an `Aggregate`.

    Asking for a cell with a missing seed raises `NotMeasured`: a claim is never judged on the seeds
    that happened to survive.
    """

    def __init__(self, aggregates: Mapping[tuple[str, str], Aggregate], seeds: Sequence[int]):
        self._aggregates = dict(aggregates)
        self.seeds = tuple(seeds)

    @property
    def rows(self) -> tuple[str, ...]:
        """Returns the row labels in table order."""
        return tuple(dict.fromkeys(row for row, _ in self._aggregates))

    @property
    def columns(self) -> tuple[str, ...]:
        """Returns the column labels in table order."""
        return tuple(dict.fromkeys(column for _, column in self._aggregates))

    def __getitem__(self, place: tuple[str, str]) -> Aggregate:
        if place not in self._aggregates:
            raise KeyError(f"the table has no cell {place!r}; cells: {sorted(self._aggregates)}")
        aggregate = self._aggregates[place]
        missing = [seed for seed in self.seeds if seed not in aggregate.values]
        if missing or not aggregate.values:
            seeds = ", ".join(map(str, missing)) or "any"
            raise NotMeasured(f"{', '.join(place)}: no value for seed {seeds}")
        return aggregate


def aggregate(values: Mapping[int, float], label: str = "") -> Aggregate:
    """Returns mean, sample standard deviation and standard error over seeds."""
    numbers = list(values.values())
    n = len(numbers)
    mean = statistics.fmean(numbers) if n else math.nan
    std = statistics.stdev(numbers) if n > 1 else None
    stderr = None if std is None else std / math.sqrt(n)
    return Aggregate(dict(values), mean, std, n, stderr, label)


def two_stderr_above(a: Aggregate, b: Aggregate) -> Verdict:
    """Returns whether mean(a) - mean(b) > 2 sqrt(stderr(a)^2 + stderr(b)^2): independent runs."""
    return _exceeds(a, b, a.mean - b.mean, 2 * math.hypot(_stderr(a), _stderr(b)), "2 SE")


def two_stderr_below(a: Aggregate, b: Aggregate) -> Verdict:
    """Returns whether `a` lies below `b` by more than two standard errors of the difference."""
    return two_stderr_above(b, a)


def paired_two_stderr_above(a: Aggregate, b: Aggregate) -> Verdict:
    """Returns whether the mean difference by seed exceeds twice its standard error.

    For cells whose runs share data and seeds: what the seed does to both cancels.
    """
    difference = aggregate(_by_seed(a, b))
    return _exceeds(a, b, difference.mean, 2 * _stderr(difference), "2 SE, paired by seed")


def paired_two_stderr_below(a: Aggregate, b: Aggregate) -> Verdict:
    """Returns whether `a` lies below `b` by more than two standard errors, paired by seed."""
    return paired_two_stderr_above(b, a)


def above(a: Aggregate, value: float) -> Verdict:
    """Returns whether the mean of `a` is greater than `value`."""
    return Verdict(a.mean > value, f"{_text(a)}, wanted > {value:g}")


def below(a: Aggregate, value: float) -> Verdict:
    """Returns whether the mean of `a` is less than `value`."""
    return Verdict(a.mean < value, f"{_text(a)}, wanted < {value:g}")


def near(a: Aggregate, value: float, tolerance: float) -> Verdict:
    """Returns whether the mean of `a` is at most `tolerance` away from `value`."""
    return Verdict(
        abs(a.mean - value) <= tolerance, f"{_text(a)}, wanted {value:g} ± {tolerance:g}"
    )


def unchanged(a: Aggregate, b: Aggregate, tolerance: float = 0.0) -> Verdict:
    """Returns whether `a` and `b` differ by at most `tolerance` for every single seed."""
    largest = max(abs(difference) for difference in _by_seed(a, b).values())
    detail = f"{_text(a)}, {_text(b)}: largest difference of a seed {largest:.4g}"
    return Verdict(largest <= tolerance, f"{detail}, allowed {tolerance:g}")


def all_of(*verdicts: Verdict) -> Verdict:
    """Returns a verdict that holds if all hold; failing parts are marked in its detail."""
    parts = [v.detail if v.holds else f"[fails] {v.detail}" for v in verdicts]
    return Verdict(all(v.holds for v in verdicts), "; ".join(parts))


def results_from_json(data: Mapping[str, Any], table: Table | None = None) -> Results:
    """Returns the measured cells of a table's JSON, scaled to the unit of the table.

    With a `table` they are its cells, whatever else the JSON has: one that lacks there is not run.
    """
    cells = {}
    for cell in data["cells"]:
        label = f"{cell['row']}, {cell['column']}"
        values = {int(seed): value * data["scale"] for seed, value in cell["values"].items()}
        cells[cell["row"], cell["column"]] = aggregate(values, label)
    if table is not None:
        places = [(cell.row, cell.column) for cell in table.cells]
        cells = {p: cells.get(p) or aggregate({}, ", ".join(p)) for p in places}
    return Results(cells, data["seeds"])


def evaluate_claims(table: Table, data: Mapping[str, Any] | None) -> tuple[ClaimOutcome, ...]:
    """Returns the status of every claim of `table` on a table's JSON (None: nothing measured)."""
    outcomes = []
    results = None if data is None else results_from_json(data, table)
    for claim in table.claims:
        status, detail = _judge(claim, results)
        reason = table.reasons.get(claim.__name__, "") if status == FAILS else ""
        outcomes.append(ClaimOutcome(claim.__name__, statement(claim), status, detail, reason))
    return tuple(outcomes)


def make_claim(name: str, statement: str, judge: Claim) -> Claim:
    """Returns a claim that is made in a loop: a function of that name and docstring."""

    def judged(results: Results) -> Verdict:
        return judge(results)

    judged.__name__, judged.__doc__ = name, statement
    return judged


def statement(claim: Claim) -> str:
    """Returns what a claim states: the first line of its docstring."""
    return (claim.__doc__ or "").strip().partition("\n")[0]


def check_table(table: Table) -> None:
    """Checks what a type cannot say about a table.

    Raises:
        ValueError: Naming the first mistake.
    """
    names = [claim.__name__ for claim in table.claims]
    places = [(cell.row, cell.column) for cell in table.cells]
    unknown = sorted(set(table.reasons) - set(names))
    mute = [claim.__name__ for claim in table.claims if not statement(claim)]
    for wrong, message in (
        (not places, "has no cells"),
        (not table.seeds, "has no seeds"),
        (_repeated(table.seeds), f"has a seed twice: {_repeated(table.seeds)}"),
        (_repeated(places), f"has a cell twice: {_repeated(places)}"),
        (_repeated(names), f"has a claim twice: {_repeated(names)}"),
        (mute, f"has claims without a docstring, which is their statement: {mute}"),
        (unknown, f"gives reasons for unknown claims: {unknown}"),
    ):
        if wrong:
            raise ValueError(f"table {table.name!r} {message}")
    for smaller in table.at.values():
        check_table(smaller)


def _judge(claim: Claim, results: Results | None) -> tuple[str, str]:
    if results is None:
        return NOT_RUN, "no result is committed"
    try:
        verdict = claim(results)
    except NotMeasured as missing:
        return NOT_RUN, str(missing)
    except (ArithmeticError, ValueError) as error:  # of numbers that no run has given
        return NOT_RUN, f"cannot be judged on these numbers: {error}"
    if not isinstance(verdict, Verdict):
        raise TypeError(f"claim {claim.__name__} returned {verdict!r}, expected a Verdict")
    return (HOLDS if verdict.holds else FAILS), verdict.detail


def _exceeds(a: Aggregate, b: Aggregate, difference: float, margin: float, name: str) -> Verdict:
    detail = f"{_text(a)} against {_text(b)}: difference {difference:.4g}, {name} {margin:.4g}"
    return Verdict(difference > margin, detail)


def _by_seed(a: Aggregate, b: Aggregate) -> dict[int, float]:
    if a.values.keys() != b.values.keys():
        raise NotMeasured(f"{a.label} has seeds {sorted(a.values)}, {b.label} {sorted(b.values)}")
    return {seed: a.values[seed] - b.values[seed] for seed in a.values}


def _stderr(a: Aggregate) -> float:
    if a.stderr is None:
        raise NotMeasured(f"{a.label or 'difference'}: a standard error needs two seeds, got {a.n}")
    return a.stderr


def _text(a: Aggregate) -> str:
    spread = "" if a.std is None else f" ± {a.std:.2g}"
    return f"{a.label} {a.mean:.4g}{spread} (n={a.n})".strip()


def _repeated(items: Sequence[Any]) -> list[Any]:
    return [item for position, item in enumerate(items) if item in items[:position]]
