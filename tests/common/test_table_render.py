"""Tables in the terminal: whatever its width, no number is cut and each stands in its column."""

import pytest

from common.papers import REPOSITORY
from common.table_render import grid, render_text
from common.table_results import read_table

WIDE = "sciml/probconserv/results/tablepme.cpu.json"  # 22 columns, no cell empty


def printed(text: str) -> list[list[str]]:
    """Returns the entries of a printed table by row, its parts joined."""
    rows: list[list[str]] = []
    for part in text.split("┏")[1:]:
        lines = [line.strip("│").split("│") for line in part.splitlines() if line[:1] == "│"]
        entries = [[entry.strip() for entry in line] for line in lines]
        entries = [line for line in entries if any(line[1:])]  # else a label's second line
        rows = [old + new[1:] for old, new in zip(rows, entries, strict=True)] if rows else entries
    return rows


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 1000])
def test_a_table_is_printed_in_parts_and_no_number_is_cut(width: int) -> None:
    data = read_table(REPOSITORY / WIDE)
    text = render_text(data, width=width)
    cells = grid(data)

    assert [row[1:] for row in printed(text)] == [list(row[1:]) for row in cells.rows]
    assert "…" not in text
    lines = text.partition("\nClaims")[0].splitlines()
    assert max(map(len, lines)) <= max(width, 50)  # a label and the longest number take 50
    assert text.count("┏") == 1 if width == 1000 else text.count("┏") > 1
    for name in cells.header[1:]:
        assert all(word in text for word in name.split())
