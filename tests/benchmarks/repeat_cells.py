"""Committed table cells of every paper (`Table.repeat`), trained again with what is here.

    python -m tests.benchmarks.repeat_cells --out=results/repeat_cells.json --workdir=runs
    python -m tests.benchmarks.repeat_cells --out=results/repeat_cells.json --markdown

After a new JAX or on another machine: do the committed numbers come out again? Bits do not, but
the means of the seeds must agree within two standard errors of their difference, or 1 % of the
value where the seeds differ by less than that.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from common import papers
from common.aggregates import Aggregate, aggregate
from common.files.json_files import read_json
from common.jobs.trainings import LAB
from common.results.runner import Request, measure
from common.tables import Table
from tests.measurements import record

WORKDIR = flags.DEFINE_string("workdir", "runs", "Where the runs are")
JOBS = flags.DEFINE_integer("jobs", 2, "Trainings at a time")

PRESET = "cpu"
SMALL = 0.01


def repeat(
    info: papers.PaperInfo, table: Table, row: str, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Trains one row of a table again; returns {paper, table, row, column, then, now} of it."""
    chosen = tuple(cell for cell in table.cells if cell.row == row and cell.column in columns)
    some = table._replace(cells=chosen, claims=(), figures=None, reasons={})
    request = Request(info, some, PRESET, table.seeds, Path(WORKDIR.value), LAB)
    data, _ = measure(request, JOBS.value)
    committed = read_json(info.folder / "results" / f"{table.name}.{PRESET}.json")
    then = {(cell["row"], cell["column"]): cell["values"] for cell in committed["cells"]}
    return [
        {
            "paper": info.name,
            "table": table.name,
            "row": row,
            "column": cell["column"],
            "then": then[row, cell["column"]],
            "now": cell["values"],
        }
        for cell in data["cells"]
    ]


def agrees(then: Aggregate, now: Aggregate) -> bool:
    """Returns whether two means are those of the same thing, as far as the seeds tell."""
    error = math.hypot(then.stderr or 0.0, now.stderr or 0.0)
    return abs(now.mean - then.mean) <= max(2 * error, SMALL * abs(then.mean))


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement: committed and repeated mean ± standard deviation."""
    facts = result["environment"]
    lines = [
        f"{facts['cpu']}, jax {facts['packages']['jax']}: mean ± standard deviation over seeds. "
        f"Agrees: within two standard errors of the difference, or {SMALL:.0%}.",
        "",
        "| paper | table | row | column | committed | repeated | agrees |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in result["cells"]:
        then, now = (
            aggregate({int(seed): value for seed, value in cell[key].items()})
            for key in ("then", "now")
        )
        numbers = (f"{x.mean:.4g} ± {x.std or 0.0:.2g} ({x.n})" for x in (then, now))
        place = (cell[key] for key in ("paper", "table", "row", "column"))
        lines.append(f"| {' | '.join([*place, *numbers, 'yes' if agrees(then, now) else 'no'])} |")
    return "\n".join(lines)


def repeat_all() -> dict[str, Any]:
    """Trains all cells again; returns both values of each."""
    cells = [
        cell
        for paper in papers.papers()
        for table in papers.tables(paper).values()
        for row, columns in table.repeat.items()
        for cell in repeat(paper, table, row, columns)
    ]
    return {"preset": PRESET, "cells": cells}


def main(_: list[str]) -> None:
    """Trains all cells again and writes both values, or prints the table."""
    record("repeat_cells", repeat_all, markdown)


if __name__ == "__main__":
    app.run(main)
