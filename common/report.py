"""One self-contained HTML page of tables, figures, claims and runs: no network, no scripts."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from absl import logging

from common import papers
from common.errors import DataError, UserError
from common.report_runs import runs_html
from common.table_render import (
    MARKS,
    Grid,
    caption,
    deviation_lines,
    facts_line,
    grid,
    heading,
    problem_lines,
    provenance_items,
    result_stem,
    runs_grid,
)
from common.table_results import read_table
from common.table_runner import write_file
from common.tables import FAILS, HOLDS, NOT_RUN

PNG = b"\x89PNG\r\n\x1a\n"
CLASSES = {HOLDS: "holds", FAILS: "fails", NOT_RUN: "missing"}
STYLE = """
:root { color-scheme: light dark; --text: #1c2126; --soft: #5b6670; --page: #f6f7f8; --card: #fff;
  --line: #dfe3e6; --link: #1a5fb4; --holds: #1b7a3d; --fails: #b3261e; --missing: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7ea; --soft: #9aa5af; --page: #14171a;
  --card: #1d2125; --line: #343b41; --link: #8ab4f8; --holds: #6fcf8e; --fails: #ff8a80;
  --missing: #e5b567; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 0 0 .5rem; } h3 { font-size: 1rem; }
a { color: var(--link); } .soft { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem; margin: 1rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  overflow-wrap: normal; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--card); }
.plain td { white-space: normal; text-align: left; } .plain th { text-align: left; }
td.published { color: var(--soft); }
ul { padding-left: 1.1rem; } ul.claims { list-style: none; padding: 0; }
.claims li { margin: .5rem 0; padding-left: .7rem; border-left: 3px solid var(--soft); }
li.holds { border-color: var(--holds); } li.fails { border-color: var(--fails); }
li.missing { border-color: var(--missing); }
.holds b { color: var(--holds); } .fails b { color: var(--fails); }
.missing b { color: var(--missing); }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; background: #fff;
  border-radius: .3rem; }
summary { cursor: pointer; padding: .3rem 0; } code { font-size: .9em; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.curves svg { width: 100%; height: auto; } .curves p { margin: 0; font-size: .85rem; }
@media print { section { break-inside: avoid; } }
"""


def write_report(workdir: str | Path | None, results: str | Path | None, out: str | Path) -> Path:
    """Returns the path of the page written: everything measured, figures included in the file.

    Args:
        workdir: Folder of runs whose learning curves are shown; None or no such folder: none.
        results: Folder with the results of tables; None: those of all papers
            (`papers.results_folders`).
        out: The HTML file.

    A result that is damaged is left out, with a warning.

    Raises:
        UserError: If `results` is not a folder or there is nothing to show.
        DataError: If every result is damaged or the page cannot be written.
    """
    if results is not None and not Path(results).is_dir():
        raise UserError(f"--results={results}: is not a folder; `lab table` writes one")
    groups = [(Path(results),)] if results else map(papers.results_folders, papers.papers())
    folders, files = [], []
    for group in groups:  # of one paper: what was made here stands for what came along
        named = {path.name: path for folder in group for path in sorted(folder.glob("table*.json"))}
        folders += group
        files += named.values()
    curves = runs_html(Path(workdir)) if workdir else ""
    tables, damaged = [], []
    for path in files:
        try:
            tables.append((read_table(path), path.parent))
        except DataError as error:
            logging.warning("table left out: %s", error)
            damaged.append(error)
    if not tables and not curves:
        if damaged:
            raise damaged[0]
        looked = ", ".join(str(folder) for folder in folders)
        raise UserError(f"nothing to report: no table*.json in {looked}, no runs in {workdir}")
    page = render_report(tables, curves)
    write_file(Path(out), page.encode())
    return Path(out)


def render_report(tables: Sequence[tuple[Mapping[str, Any], Path]], curves: str = "") -> str:
    """Returns the page of tables, each with the folder its figure is in.

    Args:
        tables: (content of a table's JSON, folder) of every table.
        curves: HTML of the section about runs.
    """
    claims = [claim["status"] for data, _ in tables for claim in data["claims"]]
    counts = ", ".join(
        f'<span class="{CLASSES[status]}"><b>{claims.count(status)}</b></span> {status}'
        for status in (HOLDS, FAILS, NOT_RUN)
        if status in claims
    )
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    links = "".join(
        f'<li><a href="#{_anchor(data)}">{escape(heading(data))}</a> '
        f'<span class="soft">{escape(data["preset"])}</span></li>'
        for data, _ in tables
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Measured tables and claims</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Measured tables and claims</h1>\n"
        f'<p class="soft">Written {when}. Claims: {counts or "none"}.</p>\n<ul>{links}</ul>\n'
        + "\n".join(table_html(data, folder) for data, folder in tables)
        + f"{curves}\n</body>\n</html>\n"
    )


def table_html(data: Mapping[str, Any], folder: Path) -> str:
    """Returns the section of one table."""
    published = [name.endswith(", paper") for name in grid(data).header]
    parts = [
        f'<section id="{_anchor(data)}">\n<h2>{escape(heading(data))}</h2>',
        f'<p class="soft">{escape(caption(data, code=False))}</p>',
        _table(grid(data), published),
        _figure(data, folder),
        '<ul class="claims">' + "".join(map(_claim, data["claims"])) + "</ul>",
        _list("Problems", problem_lines(data), is_open=True),
        _list("Notes", data["notes"], is_open=True),
        _list("Deviations from the paper", deviation_lines(data, code=False)),
        _list("Data", [facts_line(facts) for facts in data["data"]]),
        _details("Runs", _table(runs_grid(data), plain=True)),
        _list("Provenance", [f"{key}: {text}" for key, text in provenance_items(data)]),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _table(cells: Grid, published: Sequence[bool] = (), *, plain: bool = False) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in cells.header)
    body = ""
    for row in cells.rows:
        body += "<tr>"
        for position, text in enumerate(row):
            mark = ' class="published"' if published and published[position] else ""
            body += f"<td{mark}>{escape(text)}</td>"
        body += "</tr>\n"
    kind = ' class="plain"' if plain else ""
    return (
        f'<div class="wide"><table{kind}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _claim(claim: Mapping[str, Any]) -> str:
    detail = f'<br><span class="soft">{escape(claim["detail"])}</span>' if claim["detail"] else ""
    reason = f"<br>Reason: {escape(claim['reason'])}" if claim["reason"] else ""
    status = claim["status"]
    return (
        f'<li class="{CLASSES[status]}"><b>{MARKS[status]}</b>: {escape(claim["statement"])}'
        f"{detail}{reason}</li>"
    )


def _figure(data: Mapping[str, Any], folder: Path) -> str:
    if not data["figure"]:
        return ""
    path = folder / Path(data["figure"]).name  # a file beside the JSON, whatever the JSON says
    try:
        image = path.read_bytes()
    except (OSError, ValueError):  # a name that no file can have
        image = b""
    if not image.startswith(PNG):
        return f"<p>The figure {escape(path.name)} is missing or not a PNG.</p>"
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    return f'<figure><img src="{source}" alt="{escape(heading(data))}"></figure>'


def _list(title: str, lines: Sequence[str], *, is_open: bool = False) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return _details(title, f"<ul>{items}</ul>", is_open=is_open) if lines else ""


def _details(title: str, content: str, *, is_open: bool = False) -> str:
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{escape(title)}</summary>{content}</details>"


def _anchor(data: Mapping[str, Any]) -> str:
    return escape(f"{data['paper']}-{result_stem(data)}".replace(" ", "-"))
