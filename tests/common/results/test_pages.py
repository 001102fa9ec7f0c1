"""Tables in the terminal: whatever its width, no number is cut and each stands in its column."""

import re

import pytest

from common.papers import REPOSITORY
from common.results import grids
from common.results.pages import families, render_text
from common.results.table_files import read_table

WIDE = "sciml/probconserv/results/pme.cpu.json"  # no cell empty, the paper's beside ours


def printed(text: str) -> list[list[str]]:
    """Returns the entries of a printed table by row, its parts joined."""
    rows: list[list[str]] = []
    for part in text.split("\n\n"):
        lines = part.splitlines()
        ends = [rule.end() for rule in re.finditer("-+", lines[1])]
        starts = [0, *(end + 2 for end in ends[:-1])]
        cut = [slice(*pair) for pair in zip(starts, ends, strict=True)]
        entries = [[line[place].strip() for place in cut] for line in (lines[0], *lines[2:])]
        rows = [old + new[1:] for old, new in zip(rows, entries, strict=True)] if rows else entries
    return rows


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 1000])
def test_a_table_is_printed_in_parts_and_no_number_is_cut(width: int) -> None:
    data = read_table(REPOSITORY / WIDE)
    tables = [cells for _, cells in families(data)]
    text = render_text(data, width=width)

    assert len(tables) == 4
    for cells in tables:
        shown = grids.text(cells, width)
        assert printed(shown) == [list(row) for row in (cells.header, *cells.rows)]
        assert shown in text
        whole = max(map(len, grids.text(cells, 1000).splitlines()))
        assert ("\n\n" in shown) == (width < whole)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= max(width, 50)  # a label and a number take 50
