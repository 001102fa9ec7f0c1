"""Tables as data: cells, paper values, seeds, and claims that are judged on measured numbers.

The registry of a paper, `tables/__init__.py`, declares `TABLES = named({"3": digits})`.
`common.results.runner` runs what is missing and writes JSON; `common.results.pages` turns that JSON
into Markdown and terminal text. Claims (`common.verdicts`) are judged from the JSON alone, so no
run folder is needed to check a committed result.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from common.aggregates import Results, aggregate
from common.curves import Curve, check_curves
from common.verdicts import KINDS, PAPER, Claim, Outcome, claims_in, judge


class Published(NamedTuple):
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
        metric: Name in the run's result, as `common.metric_names` reads it: of the best checkpoint
            if the run has one, else of the last step; "last/NAME" and "best/NAME" say which.
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
    paper: Published | None = None
    run: str | None = None
    config: str | None = None
    variant: str = ""


def crossed(
    rows: Mapping[str, dict[str, Any]],
    columns: Mapping[str, str],
    *,
    run: str | None = None,
    variants: Mapping[str, str] = {},
) -> tuple[Cell, ...]:
    """Returns a cell for every row and column.

    Args:
        rows: Overrides of every row.
        columns: Metric of every column.
        run: Of all cells.
        variants: Of the rows that have one.
    """
    return tuple(
        Cell(row, column, overrides, metric, run=run, variant=variants.get(row, ""))
        for row, overrides in rows.items()
        for column, metric in columns.items()
    )


def in_one(column: str) -> tuple[str, str]:
    """Returns ("", column): all columns are one family, every one a setting."""
    return "", column


def by_last_comma(column: str) -> tuple[str, str]:
    """Returns ("relative L2", "heat") of "heat, relative L2", ("", "heat") of "heat"."""
    setting, comma, family = column.rpartition(", ")
    return (family, setting) if comma else ("", column)


class Table(NamedTuple):
    """A paper's table as data.

    Attributes:
        title: What is measured.
        source: Where the published table stands.
        config: Config file, relative to the repository.
        cells: All cells.
        name: As on the command line: "3"; the paper's registry gives it.
        seeds: Seeds of every cell.
        claims: What is stated about the numbers; `named` takes those of the table's module.
        headline: Names of the claims that the first sentence of the page is made of; default: the
            first one.
        leads: Its headline stands for the paper where a paper has one line.
        split: Column -> (metric family, setting): "heat, relative L2" -> ("relative L2", "heat").
            Every family is a table of its own on the page, and claims are listed by setting.
        unit: Unit of every number shown, such as "%".
        paper_spread: What the paper's ± is.
        notes: Remarks printed below the table.
        tolerance: Share of a published value by which a cell may be off in `lab table --check`;
            None where the experiments differ in size, so that only orders compare.
        drawn_from_cells: The figure needs no run folders, only the table's JSON.
        figures: "package.figures:function" with the signature
            `function(json_dict, run_dirs, out_path)`; `run_dirs[row, column][seed]` is a folder.
        reasons: Written reason by claim name, shown only where that claim fails.
        scale: What a metric is multiplied with to be in `unit`: 100 for fractions shown in percent.
        at: Another table in place of this one at a preset, such as fewer rows for a demo.
        repeat: Columns by row that `tests.benchmarks.repeat_cells` trains again, a minute each: do
            the committed numbers come out on another machine, with another JAX?
        published_size: What of a table is of the paper's own size, or a published object, in a few
            words: "the published weights, 60 images"; "" where sizes are ours.
        curves: Size curves through cells, fitted again whenever the table is judged.
        data_files: Files in $DATA_DIR that the cells read: without them nothing is run or written.
    """

    title: str
    source: str
    config: str
    cells: tuple[Cell, ...]
    name: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    claims: tuple[Claim, ...] = ()
    headline: tuple[str, ...] = ()
    leads: bool = False
    split: Callable[[str], tuple[str, str]] = in_one
    unit: str = ""
    paper_spread: str = ""
    notes: tuple[str, ...] = ()
    figures: str | None = None
    tolerance: float | None = None
    drawn_from_cells: bool = False
    reasons: Mapping[str, str] = {}
    scale: float = 1.0
    at: Mapping[str, "Table"] = {}
    repeat: Mapping[str, tuple[str, ...]] = {}
    published_size: str = ""
    curves: tuple[Curve, ...] = ()
    data_files: tuple[str, ...] = ()


def named(tables: Mapping[str, Table | ModuleType]) -> dict[str, Table]:
    """Returns the tables of a paper, in order, each with the name it is registered under.

    A module stands for its `TABLE`, with the claims it makes, drawn by `draw` of the module of the
    same name in figures/; so do the tables in its place at other presets.
    """
    found = {}
    for name, entry in tables.items():
        table = _of_module(entry) if isinstance(entry, ModuleType) else entry
        at = {preset: other._replace(name=name) for preset, other in table.at.items()}
        found[name] = table._replace(name=name, at=at)
    return found


def _of_module(module: ModuleType) -> Table:
    file = Path(module.__file__ or "")
    drawn = (file.parent.parent / "figures" / file.name).is_file()
    figures = module.__name__.replace(".tables.", ".figures.") + ":draw" if drawn else None

    def complete(table: Table) -> Table:
        at = {preset: complete(other) for preset, other in table.at.items()}
        claims = table.claims or claims_in(vars(module))
        return table._replace(claims=claims, figures=table.figures or figures, at=at)

    return complete(module.TABLE)


def results_from_json(data: Mapping[str, Any], table: Table | None = None) -> Results:
    """Returns the measured cells of a table's JSON, scaled to the unit of the table.

    With a `table` they are its cells, whatever else the JSON has: one that lacks there is not run.
    """
    cells = {}
    for cell in data["cells"]:
        values = {int(seed): value * data["scale"] for seed, value in cell["values"].items()}
        cells[cell["row"], cell["column"]] = aggregate(values, cell["row"], cell["column"])
    if table is not None:
        places = [(cell.row, cell.column) for cell in table.cells]
        cells = {place: cells.get(place) or aggregate({}, *place) for place in places}
    return Results(cells, data["seeds"])


def evaluate_claims(table: Table, data: Mapping[str, Any] | None) -> tuple[Outcome, ...]:
    """Returns every claim of `table` as judged on a table's JSON (None: nothing measured)."""
    results = None if data is None else results_from_json(data, table)
    return tuple(judge(claim, results, table.reasons) for claim in table.claims)


def check_table(table: Table) -> None:
    """Checks what a type cannot say about a table.

    Raises:
        ValueError: Naming the first mistake.
    """
    names = [claim.name for claim in table.claims]
    places = [(cell.row, cell.column) for cell in table.cells]
    unknown = sorted((set(table.reasons) | set(table.headline)) - set(names))
    mute = [claim.name for claim in table.claims if not claim.statement]
    repeated = [(row, column) for row, columns in table.repeat.items() for column in columns]
    unplaced = [claim.name for claim in table.claims if claim.kind == PAPER and not claim.source]
    curves = check_curves(table.curves, places)
    for wrong, message in (
        (not places, "has no cells"),
        (curves, curves),
        (not table.seeds, "has no seeds"),
        (_repeated(table.seeds), f"has a seed twice: {_repeated(table.seeds)}"),
        (_repeated(places), f"has a cell twice: {_repeated(places)}"),
        (_repeated(names), f"has a claim twice: {_repeated(names)}"),
        (mute, f"has claims without a statement: {mute}"),
        (unplaced, f"does not say where the paper states: {unplaced}"),
        (
            [claim.name for claim in table.claims if claim.kind not in KINDS],
            f"has claims of another kind than {', '.join(KINDS)}",
        ),
        (set(repeated) - set(places), f"repeats cells that it lacks: {repeated}"),
        (unknown, f"gives reasons for, or a headline of, unknown claims: {unknown}"),
    ):
        if wrong:
            raise ValueError(f"table {table.name!r} {message}")
    for smaller in table.at.values():
        check_table(smaller)


def _repeated(items: Sequence[Any]) -> list[Any]:
    return [item for position, item in enumerate(items) if item in items[:position]]
