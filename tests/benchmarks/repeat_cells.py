"""Committed table cells of every paper (`Table.repeat`), trained again with what is here.

    python -m tests.benchmarks.repeat_cells --out=results/repeat_cells.json --workdir=runs
    python -m tests.benchmarks.repeat_cells --out=results/repeat_cells.json --papers=sciml.boon
    python -m tests.benchmarks.repeat_cells --out=results/repeat_cells.json --markdown

With --papers the cells of all others stay as they were measured, on the machine that they name.
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
from common.errors import UserError
from common.files.json_files import read_json
from common.jobs.trainings import LAB
from common.provenance.environment import environment
from common.results.runner import Request, measure
from common.tables import Table
from tests.measurements import OUT, record

WORKDIR = flags.DEFINE_string("workdir", "runs", "Where the runs are")
JOBS = flags.DEFINE_integer("jobs", 2, "Trainings at a time")
PAPERS = flags.DEFINE_list("papers", None, "Papers whose cells are trained; default: all")

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


def machine(facts: Mapping[str, Any]) -> str:
    """Returns on what cells were trained, from `environment`."""
    return f"{facts['cpu']}, jax {facts['packages']['jax']}"


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the table of a measurement: committed and repeated mean ± standard deviation."""
    lines = [
        "Mean ± standard deviation over seeds. Agrees: within two standard errors of the "
        f"difference, or {SMALL:.0%}.",
        "",
        "| paper | table | row | column | committed | repeated | agrees | on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in result["cells"]:
        on = cell["machine"]
        then, now = (
            aggregate({int(seed): value for seed, value in cell[key].items()})
            for key in ("then", "now")
        )
        numbers = (f"{x.mean:.4g} ± {x.std or 0.0:.2g} ({x.n})" for x in (then, now))
        place = (cell[key] for key in ("paper", "table", "row", "column"))
        said = "yes" if agrees(then, now) else "no"
        lines.append(f"| {' | '.join([*place, *numbers, said, on])} |")
    return "\n".join(lines)


def repeat_all() -> dict[str, Any]:
    """Trains cells again, of the papers asked for; returns both values of each, and of all others.

    Raises:
        UserError: If a paper is unknown.
    """
    names = [paper.name for paper in papers.papers()]
    chosen = PAPERS.value or names
    if unknown := sorted(set(chosen) - set(names)):
        raise UserError(f"--papers={unknown[0]}: expected some of {', '.join(names)}")
    here = machine(environment([]))
    kept = [cell for cell in _earlier(Path(OUT.value)) if cell["paper"] not in chosen]
    trained = [
        {**cell, "machine": here}
        for paper in papers.papers()
        if paper.name in chosen
        for table in papers.tables(paper).values()
        for row, columns in table.repeat.items()
        for cell in repeat(paper, table, row, columns)
    ]
    cells = sorted(kept + trained, key=lambda cell: names.index(cell["paper"]))
    return {"preset": PRESET, "cells": cells}


def _earlier(path: Path) -> list[dict[str, Any]]:
    """Returns the cells of an earlier measurement, each with its machine."""
    if not path.is_file():
        return []
    earlier = read_json(path)
    return [{"machine": machine(earlier["environment"]), **cell} for cell in earlier["cells"]]


def main(_: list[str]) -> None:
    """Trains all cells again and writes both values, or prints the table."""
    record("repeat_cells", repeat_all, markdown)


if __name__ == "__main__":
    app.run(main)
