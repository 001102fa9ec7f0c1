"""A table's JSON as Markdown and as text for the terminal: pure functions of the JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.jobs import duration
from common.tables import FAILS, HOLDS, NOT_RUN, Aggregate, aggregate

MARKS = {HOLDS: "✔ holds", FAILS: "✘ FAILS", NOT_RUN: "– not run"}

FRAME = 3  # of a column in the terminal: a line and two spaces


class Grid(NamedTuple):
    """A table as text: `header` and every one of `rows` have one entry for each column."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def render(data: Mapping[str, Any]) -> str:
    """Returns the Markdown page of a table's JSON; equal JSON gives equal bytes."""
    parts = [
        f"# {heading(data)}\n",
        f"{caption(data)}\n",
        _markdown_table(grid(data)),
        *([f"![{data['title']}]({data['figure']})\n"] if data["figure"] else []),
        _section("Claims", [_escape(claim_line(claim)) for claim in data["claims"]]),
        _section("Problems", [_escape(line) for line in problem_lines(data)]),
        _section("Notes", [_escape(note) for note in data["notes"]]),
        _section("Deviations from the paper's configuration", deviation_lines(data)),
        _section("Data", [facts_line(facts, code=True) for facts in data["data"]]),
        "## Runs\n",
        _markdown_table(runs_grid(data), numbers=False),
        _section("Provenance", [f"{key}: {text}" for key, text in provenance_items(data)]),
        f"Written by the command above from `{result_stem(data)}.json`; not edited by hand.",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def render_text(data: Mapping[str, Any], *, width: int = 100, color: bool = False) -> str:
    """Returns the table, its claims and its deviations for a terminal of `width` columns.

    A table that is wider is printed in parts. No number is ever cut: a terminal narrower than a row
    label and a number gets longer lines.
    """
    from io import StringIO

    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    out = StringIO()
    cells = grid(data)
    parts = [_column_widths(cells, part, width) for part in _parts(cells, width)]
    widest = max(sum(widths.values()) + FRAME * len(widths) + 1 for widths in parts)
    console = Console(
        file=out,
        width=max(width, widest),
        force_terminal=color,
        color_system="standard" if color else None,
    )
    for number, widths in enumerate(parts):
        table = RichTable(title=None if number else Text(heading(data)), title_justify="left")
        for column, size in widths.items():
            side = "right" if column else "left"
            table.add_column(Text(cells.header[column]), width=size, justify=side, overflow="fold")
        for row in cells.rows:
            table.add_row(*(Text(row[column]) for column in widths))
        console.print(table)
    console.width = width
    console.print(Text(caption(data, code=False)))
    styles = {HOLDS: "green", FAILS: "bold red", NOT_RUN: "yellow"}
    differing = ", ".join(deviation_lines(data, code=False))
    for title, lines in (
        ("Claims", [(claim_line(c), styles[c["status"]]) for c in data["claims"]]),
        ("Problems", [(line, "red") for line in problem_lines(data)]),
        ("Notes", [(line, "") for line in data["notes"]]),
        ("Deviations from the paper", [(differing, "")] if differing else []),
        ("Data", [(facts_line(facts), "") for facts in data["data"]]),
    ):
        if lines:
            console.print(Text(f"\n{title}", style="bold"))
        for line, style in lines:
            indented = RichTable.grid(padding=(0, 1))
            indented.add_row(" ", Text(line, style=style))
            console.print(indented)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _parts(cells: Grid, width: int) -> list[list[int]]:
    """Returns the columns of the parts in which a table fits a width, row labels in each."""
    parts: list[list[int]] = [[0]]
    for column in range(1, len(cells.header)):
        taken = [_least(cells, c, width) + FRAME for c in [*parts[-1], column]]
        if len(parts[-1]) > 1 and sum(taken) + 1 > width:
            parts.append([0])
        parts[-1].append(column)
    return parts


def _column_widths(cells: Grid, columns: Sequence[int], width: int) -> dict[int, int]:
    """Returns the widths of columns: what each needs, and as much as it can use of the rest."""
    widths = {column: _least(cells, column, width) for column in columns}
    for column in columns:
        wanted = max(len(row[column]) for row in (cells.header, *cells.rows))
        free = width - 1 - sum(widths.values()) - FRAME * len(widths)
        widths[column] += max(0, min(free, wanted - widths[column]))
    return widths


def _least(cells: Grid, column: int, width: int) -> int:
    """Returns what a column needs: its numbers whole, headers by words, labels in some lines."""
    longest = max((len(row[column]) for row in cells.rows), default=1)
    words = max((len(word) for word in cells.header[column].split()), default=1)
    return max(longest, words) if column else min(longest, max(width // 3, 8))


def grid(data: Mapping[str, Any]) -> Grid:
    """Returns rows by columns, the paper's number beside ours wherever a column has one."""
    cells = {(cell["row"], cell["column"]): cell for cell in data["cells"]}
    rows = dict.fromkeys(row for row, _ in cells)
    columns = dict.fromkeys(column for _, column in cells)
    published = {column for (_, column), cell in cells.items() if cell["paper"]}
    header = [""]
    for column in columns:
        header += [f"{column}, paper"] if column in published else []
        header += [f"{column}, ours (n)"]
    lines = []
    for row in rows:
        line = [row]
        for column in columns:
            cell = cells.get((row, column))
            line += [paper_text(cell)] if column in published else []
            line += [ours_text(cell, data)]
        lines.append(tuple(line))
    return Grid(tuple(header), tuple(lines))


def runs_grid(data: Mapping[str, Any]) -> Grid:
    """Returns one line for each distinct configuration: what it is, its hash, seeds and time."""
    header = ("cells", "configuration", "hash", "seeds", "wall time of a seed")
    lines = []
    for run in data["runs"]:
        columns: dict[str, list[str]] = {}
        for row, column in run["cells"]:
            columns.setdefault(row, []).append(column)
        cells = "; ".join(f"{row}: {' / '.join(names)}" for row, names in columns.items())
        fields = " ".join(f"{key}={_value(value)}" for key, value in run["overrides"].items())
        function = [f"by {run['function']}"] if run["function"] else []
        times = sorted(run["wall_time_s"].values())
        time = " to ".join(dict.fromkeys(duration(t) for t in (*times[:1], *times[-1:])))
        place = [f"of {run['config']}"] if "config" in run else []
        variant = run.get("variant", "")
        named = " ".join(filter(None, (variant, fields))) or "as in the file"
        configuration = " ".join([named, *place, *function])
        lines.append((cells, configuration, run["config_hash"], " ".join(run["wall_time_s"]), time))
    return Grid(header, tuple(lines))


def heading(data: Mapping[str, Any]) -> str:
    """Returns "Table 3 of nfn.equivariant: title"."""
    return f"Table {data['table']} of {data['paper']}: {data['title']}"


def caption(data: Mapping[str, Any], *, code: bool = True) -> str:
    """Returns where the paper's numbers stand and what ± and n mean."""
    mark = "`" if code else ""
    unit = f" Unit: {data['unit']}." if data["unit"] else ""
    spread = f" The paper's ±: {data['paper_spread']}." if data["paper_spread"] else ""
    return (
        f"Source: {data['source']}. Preset {mark}{data['preset']}{mark}.{unit} Ours: mean ± "
        f"sample standard deviation over n seeds.{spread}"
    )


def paper_text(cell: Mapping[str, Any] | None) -> str:
    """Returns the published number as printed there, or "–" if there is none."""
    if cell is None:
        return ""
    if cell["paper"] is None:
        return "–"
    spread = cell["paper"]["spread"]
    return number(cell["paper"]["value"]) + ("" if spread is None else f" ± {number(spread)}")


def ours_text(cell: Mapping[str, Any] | None, data: Mapping[str, Any]) -> str:
    """Returns "mean ± std (n)", with "n of N" where seeds are missing."""
    if cell is None:
        return ""
    if not cell["values"]:
        return "failed" if cell["problems"] else "not run"
    scaled = {int(seed): value * data["scale"] for seed, value in cell["values"].items()}
    wanted = len(data["seeds"])
    count = str(len(scaled)) if len(scaled) == wanted else f"{len(scaled)} of {wanted}"
    return f"{measured(aggregate(scaled))} ({count})"


def measured(a: Aggregate) -> str:
    """Returns "mean ± std": two digits of the standard deviation decide the decimals."""
    if float(a.mean).is_integer() and not a.std:
        return number(a.mean) + ("" if a.std is None else " ± 0")
    size = abs(a.mean) or a.std or 1.0
    exponent = math.floor(math.log10(size))
    scale, suffix = (1.0, "") if -3 <= exponent < 6 else (10.0**-exponent, f"e{exponent:+03d}")
    mean, std = a.mean * scale, None if a.std is None else a.std * scale
    most = 5 - math.floor(math.log10(abs(mean) or std or 1.0))  # six digits of the mean say enough
    decimals = 1 - math.floor(math.log10(std)) if std else most - 2
    decimals = max(0, min(decimals, most))
    text = f"{mean:.{decimals}f}" + ("" if std is None else f" ± {std:.{decimals}f}")
    return f"({text}){suffix}" if suffix else text


def number(value: float) -> str:
    """Returns a number as a paper prints it: no trailing zeros, thousands separated."""
    return f"{value:,.10g}"


def claim_line(claim: Mapping[str, Any]) -> str:
    """Returns mark, statement, numbers and, for a failing claim, the reason found."""
    detail = f" ({claim['detail']})" if claim["detail"] else ""
    reason = f" Reason: {claim['reason']}" if claim["reason"] else ""
    return f"{MARKS[claim['status']]}: {claim['statement'].rstrip('.')}{detail}.{reason}"


def problem_lines(data: Mapping[str, Any]) -> list[str]:
    """Returns one line for each cell and seed that has no value although it was run."""
    return [
        f"{cell['row']}, {cell['column']}, seed {seed}: {text}"
        for cell in data["cells"]
        for seed, text in cell["problems"].items()
    ]


def deviation_lines(data: Mapping[str, Any], *, code: bool = True) -> list[str]:
    """Returns one line for each config field in which the preset differs from the paper."""
    mark = "`" if code else ""
    return [
        f"{mark}{d['field']}{mark} = {mark}{_value(d['ours'])}{mark}"
        f" (paper: {mark}{_value(d['paper'])}{mark})"
        for d in data["deviations"]
    ]


def facts_line(facts: Mapping[str, Any], *, code: bool = False) -> str:
    """Returns "key: value; key: value" of facts about the data."""
    mark = "`" if code else ""
    return "; ".join(f"{key}: {mark}{_value(value)}{mark}" for key, value in facts.items())


def provenance_items(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (name, text) of how the numbers were made, the command first."""
    items = []
    for key, value in data["provenance"].items():
        if key == "command":
            text = f"`{value}`"
        elif key.endswith("_s"):
            key, text = key.removesuffix("_s"), duration(value)
        elif isinstance(value, Mapping):
            text = ", ".join(f"{name} {_value(version)}" for name, version in value.items())
        elif isinstance(value, list):
            text = ", ".join(_value(item) for item in value)
        else:
            text = _value(value)
        items.append((key.replace("_", " "), text))
    return items


def result_stem(data: Mapping[str, Any]) -> str:
    """Returns the file name of a result without its ending: "table3.cpu"."""
    return f"table{data['table']}.{data['preset']}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _section(title: str, lines: Sequence[str]) -> str:
    body = "".join(f"- {' '.join(line.split())}\n" for line in lines)
    return f"## {title}\n\n{body}" if lines else ""


def _markdown_table(cells: Grid, *, numbers: bool = True) -> str:
    rule = ("---", *("---:" if numbers else "---" for _ in cells.header[1:]))
    rows = (cells.header, *cells.rows)
    head, *body = (
        "| " + " | ".join(_escape(t).replace("|", "\\|") for t in r) + " |" for r in rows
    )
    return "".join(f"{line}\n" for line in (head, f"| {' | '.join(rule)} |", *body))


def _escape(text: str) -> str:
    return " ".join(text.replace("<", "\\<").split())
