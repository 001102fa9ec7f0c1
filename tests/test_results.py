"""Committed results: the Markdown is what its JSON renders to, the claims what the code says."""

import json
from functools import cache
from pathlib import Path

import pytest

from common.config import load_config
from common.files import json_files
from common.jobs.trainings import texts
from common.lab.listing import TableRow, table_rows
from common.papers import REPOSITORY, papers, tables
from common.results.cell import resolve
from common.results.collect import config_spec, judged
from common.results.pages import render
from common.results.table_files import read_table
from common.tables import Table, check_table

ROWS = table_rows()
read = cache(read_table)  # nobody changes what is read
RESULTS = [(row, preset) for row in ROWS for preset in row.results]
NAMES = [str(row.results[preset].relative_to(REPOSITORY)) for row, preset in RESULTS]
TABLES = [(paper.name, table) for paper in papers() for table in tables(paper).values()]


@pytest.mark.parametrize(("paper", "table"), TABLES, ids=lambda item: getattr(item, "name", item))
def test_tables_are_well_formed_and_their_config_exists(paper: str, table: Table) -> None:
    check_table(table)

    for config in {table.config, *(cell.config for cell in table.cells if cell.config)}:
        assert (REPOSITORY / config).is_file(), f"{paper}: {config}"
    trains = any(cell.run is None for cell in table.cells)
    reasons = ("could not be read", "No published value")
    says_why = any(reason in note for note in table.notes for reason in reasons)
    has_published = any(cell.paper for cell in table.cells)
    assert not trains or has_published or says_why, "published values belong here"


def test_every_paper_has_cells_that_other_machines_train_again() -> None:
    assert {name for name, table in TABLES if table.repeat} == {name for name, _ in TABLES}


@pytest.mark.parametrize(("row", "preset"), RESULTS, ids=NAMES)
def test_markdown_is_rendered_from_its_json(row: TableRow, preset: str) -> None:
    path = row.results[preset]

    assert path.with_suffix(".md").read_text() == render(read(path))


@pytest.mark.parametrize(("row", "preset"), RESULTS, ids=NAMES)
def test_judged_again_a_table_is_what_is_committed(row: TableRow, preset: str) -> None:
    data = read(row.results[preset])
    again = judged(data, row.table.at.get(preset, row.table))

    assert json_files.sealed(again) == data


@pytest.mark.parametrize(("row", "preset"), RESULTS, ids=NAMES)
def test_cells_are_those_of_the_table_today(row: TableRow, preset: str) -> None:
    data = read(row.results[preset])
    declared = [
        (cell.row, cell.column, cell.metric, cell.paper and json.loads(json.dumps(cell.paper)))
        for cell in row.table.at.get(preset, row.table).cells
    ]

    committed = [
        (cell["row"], cell["column"], cell["metric"], cell["paper"] and [*cell["paper"].values()])
        for cell in data["cells"]
    ]
    assert committed == declared
    assert not [cell["problems"] for cell in data["cells"] if cell["problems"]]


@pytest.mark.smoke
def test_a_cell_that_is_no_training_comes_out_again() -> None:
    (row,) = (r for r in ROWS if (r.paper.name, r.table.name) == ("nfn.equivariant", "1"))
    committed = {(c["row"], c["column"]): c for c in read(row.results["cpu"])["cells"]}
    cell = next(cell for cell in row.table.cells if cell.run)
    config = load_config(
        config_spec(cell.config or row.table.config, "cpu", cell.variant), texts(cell.overrides)
    )

    measured = resolve(cell.run or "")(config)

    values = committed[cell.row, cell.column]["values"].values()
    assert {measured[cell.metric]} == {*values}  # whole numbers: exactly


@pytest.mark.parametrize(("row", "preset"), RESULTS, ids=NAMES)
def test_a_named_figure_is_committed_and_no_path_of_a_machine_is(
    row: TableRow, preset: str
) -> None:
    path: Path = row.results[preset]
    data = read(path)

    assert data["figure"] is None or (path.parent / data["figure"]).is_file()
    for home in ("/home/", "/root/", "/tmp/", str(REPOSITORY)):
        assert home not in path.read_text()


def test_every_file_of_results_belongs_to_a_table() -> None:
    names = {f"{row.table.name}.{preset}" for row, preset in RESULTS}
    strays = [
        str(path.relative_to(REPOSITORY))
        for paper in papers()
        for path in (paper.folder / "results").glob("*")
        if path.stem not in names
    ]

    assert strays == []
