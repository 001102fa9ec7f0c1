"""Tables of text: what a page, a terminal and an HTML report lay out in their own ways."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple


class Grid(NamedTuple):
    """A table as text: `header` and every one of `rows` have one entry for each column."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(cells: Grid, *, numbers: bool = True) -> str:
    """Returns a Markdown table; all columns but the first are aligned to the right if `numbers`."""
    rule = ("---", *("---:" if numbers else "---" for _ in cells.header[1:]))
    rows = (cells.header, *cells.rows)
    head, *body = ("| " + " | ".join(escape(t).replace("|", "\\|") for t in r) + " |" for r in rows)
    return "".join(f"{line}\n" for line in (head, f"| {' | '.join(rule)} |", *body))


def text(cells: Grid, width: int) -> str:
    """Returns a table for a terminal of `width` columns, in parts of as many columns as fit.

    Nothing is ever cut: a column that is wider than the terminal is a part of its own. Columns of
    words stand left, numbers right.
    """
    sizes = [max(len(row[i]) for row in (cells.header, *cells.rows)) for i in range(len(cells[0]))]
    words = [any(row[i][:1].isalpha() for row in cells.rows) for i in range(len(sizes))]

    def aligned(row: Sequence[str], i: int) -> str:
        return row[i].ljust(sizes[i]) if words[i] else row[i].rjust(sizes[i])

    parts: list[list[int]] = []
    for column in range(1, len(cells.header)):
        used = sizes[0] + sum(sizes[i] + 2 for i in parts[-1]) if parts else width
        if used + sizes[column] + 2 > width:
            parts.append([])
        parts[-1].append(column)
    blocks = []
    for part in parts or [[]]:
        line = "  ".join(["-" * sizes[0], *("-" * sizes[i] for i in part)])
        head, *body = (
            "  ".join([row[0].ljust(sizes[0]), *(aligned(row, i) for i in part)]).rstrip()
            for row in (cells.header, *cells.rows)
        )
        blocks.append("\n".join([head, line, *body]))
    return "\n\n".join(blocks)


def wrapped(line: str, width: int, indent: str = "") -> str:
    """Returns a text in lines of `width` columns, all but the first two more to the right."""
    more = indent + "  "
    return textwrap.fill(line, width, initial_indent=indent, subsequent_indent=more)


def bullets(lines: Sequence[str]) -> str:
    """Returns a Markdown list."""
    return "".join(f"- {' '.join(line.split())}\n" for line in lines)


def escape(text: str) -> str:
    """Returns text on one line in which no tag begins."""
    return " ".join(text.replace("<", "\\<").split())
