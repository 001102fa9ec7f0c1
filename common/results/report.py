"""One self-contained HTML page of tables, figures, claims and runs: nothing from outside."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from absl import logging

from common import papers
from common.errors import DataError, UserError
from common.files.storage import regular_bytes, write_file
from common.results.claims_text import (
    LEGEND,
    MARKS,
    comparison,
    mark,
    matrix,
    reasons,
    scores,
    sentences,
)
from common.results.grids import Grid
from common.results.pages import (
    caption,
    data_lines,
    deviation_lines,
    families,
    heading,
    problem_lines,
    provenance_items,
    result_stem,
    runs_grid,
)
from common.results.report_runs import runs_html
from common.results.table_files import read_table
from common.verdicts import HOLDS, KINDS, LEVEL, MISSED, NOT_RUN, REVERSED, confidence

PNG = b"\x89PNG\r\n\x1a\n"
CLASSES = {
    MARKS[HOLDS]: "holds",
    MARKS[LEVEL]: "level",
    MARKS[MISSED]: "fails",
    MARKS[REVERSED]: "fails",
    MARKS[NOT_RUN]: "missing",
}
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
ul { padding-left: 1.1rem; } nav ul { columns: 22rem; list-style: none; padding: 0; }
nav li { break-inside: avoid; margin-bottom: .5rem; line-height: 1.35; }
nav span { display: block; font-size: .85em; }
.holds { color: var(--holds); } .fails { color: var(--fails); }
.level, .missing { color: var(--missing); } .claims td:first-child { min-width: 16rem;
  white-space: normal; color: var(--text); position: static; }
.plain td { text-align: left; } thead th { cursor: pointer; }
figure { margin: 1rem 0; overflow-x: auto; } figure img { max-width: 100%; height: auto;
  background: #fff; border-radius: .3rem; cursor: zoom-in; }
figure input { position: absolute; opacity: 0; } figure input:checked + img { max-width: none;
  cursor: zoom-out; }
summary { cursor: pointer; padding: .3rem 0; } code { font-size: .9em; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.curves svg { width: 100%; height: auto; } .curves p { margin: 0; font-size: .85rem; }
@media (max-width: 40rem) { .claims td:first-child { min-width: 9rem; } body { padding: .5rem; }
  section { padding: .6rem; } th, td { padding: .3rem .4rem; } }
@media print { section { break-inside: avoid; } }
"""
SCRIPT = """
document.querySelectorAll("thead th").forEach((head) => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const down = head.dataset.down = head.dataset.down === "1" ? "0" : "1";
  const key = (row) => row.cells[column].textContent.replace(/[^\\d.e+-]*/, "");
  const order = (a, b) => (parseFloat(key(a)) - parseFloat(key(b)))
    || row_text(a).localeCompare(row_text(b));
  const row_text = (row) => row.cells[column].textContent;
  [...body.rows].sort((a, b) => (down === "1" ? -1 : 1) * order(a, b))
    .forEach((row) => body.append(row));
}));
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
        named = {path.name: path for folder in group for path in sorted(folder.glob("*.json"))}
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
    claims = [claim for data, _ in tables for claim in data["claims"]]
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    worth = " ".join(confidence(n) for n in sorted({len(data["seeds"]) for data, _ in tables}))
    links = "".join(
        f'<li><a href="#{_anchor(data)}">{escape(heading(data).removeprefix("Table "))}</a> '
        f'<span class="soft">{escape(data["preset"])}: {escape(scores(data["claims"]))}</span></li>'
        for data, _ in tables
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Measured tables and claims</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Measured tables and claims</h1>\n"
        f'<p class="soft">Written {when}. Claims: {scores(claims) or "none"}.</p>\n'
        f"<p>{escape(LEGEND)} {escape(worth)} A click on a column sorts by it.</p>\n"
        f"<nav><ul>{links}</ul></nav>\n"
        + "\n".join(table_html(data, folder) for data, folder in tables)
        + f"{curves}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def table_html(data: Mapping[str, Any], folder: Path) -> str:
    """Returns the section of one table."""
    why_not = [f"{statements}: {reason}" for statements, reason in reasons(data)]
    details = [
        line
        for claim in data["claims"]
        for line in (f"{mark(claim)} {claim['statement']}", *map(comparison, claim["parts"]))
    ]
    parts = [
        f'<section id="{_anchor(data)}">\n<h2>{escape(heading(data))}</h2>',
        f"<p><b>{escape(sentences(data))}</b></p>" if data["claims"] else "",
        f'<p class="soft">{escape(caption(data, code=False))}</p>',
        *_claims(data),
        *(_numbers(family, cells) for family, cells in families(data)),
        _figure(data, folder),
        _list("Why not", why_not, is_open=True),
        _list("Problems", problem_lines(data), is_open=True),
        _list("Every comparison", details),
        _list("Notes", data["notes"]),
        _list("Deviations from the paper", deviation_lines(data, code=False)),
        _list("Data", data_lines(data)),
        _details("Runs", _table(runs_grid(data), plain=True)),
        _list("Provenance", [f"{key}: {text}" for key, text in provenance_items(data)]),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _claims(data: Mapping[str, Any]) -> list[str]:
    parts = []
    for kind, meaning in KINDS.items():
        own = {**data, "claims": [c for c in data["claims"] if c["kind"] == kind]}
        if own["claims"]:
            title = f"{meaning}: {scores(own['claims']).removeprefix(f'{kind}: ')}"
            parts.append(f"<h3>{escape(title)}</h3>\n{_table(matrix(own), claims=True)}")
    return parts


def _numbers(family: str, cells: Grid) -> str:
    published = [name.endswith(", paper") for name in cells.header]
    return f"<h3>{escape(family or 'numbers')}</h3>\n{_table(cells, published)}"


def _table(
    cells: Grid, published: Sequence[bool] = (), *, plain: bool = False, claims: bool = False
) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in cells.header)
    body = ""
    for row in cells.rows:
        body += "<tr>"
        for position, text in enumerate(row):
            name = "published" if published and published[position] else ""
            name = CLASSES.get(text[:1], "") if claims else name
            body += f"<td{f' class={chr(34)}{name}{chr(34)}' if name else ''}>{escape(text)}</td>"
        body += "</tr>\n"
    kind = ' class="plain"' if plain else ' class="claims"' if claims else ""
    return (
        f'<div class="wide"><table{kind}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _figure(data: Mapping[str, Any], folder: Path) -> str:
    if not data["figure"]:
        return ""
    path = folder / Path(data["figure"]).name  # a file beside the JSON, whatever the JSON says
    try:
        image = regular_bytes(path)
    except (OSError, ValueError):  # a name that no file can have
        image = b""
    if not image.startswith(PNG):
        return f"<p>The figure {escape(path.name)} is missing or not a PNG.</p>"
    source = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    image = f'<img src="{source}" alt="{escape(heading(data))}">'
    return f'<figure><label><input type="checkbox" aria-label="zoom">{image}</label></figure>'


def _list(title: str, lines: Sequence[str], *, is_open: bool = False) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return _details(title, f"<ul>{items}</ul>", is_open=is_open) if lines else ""


def _details(title: str, content: str, *, is_open: bool = False) -> str:
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{escape(title)}</summary>{content}</details>"


def _anchor(data: Mapping[str, Any]) -> str:
    return escape(f"{data['paper']}-{result_stem(data)}".replace(" ", "-"))
