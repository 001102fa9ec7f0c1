"""What is in the tree and what has been measured: the rows behind `lab list` and `lab claims`.

Reads committed results and the papers' tables only: no run folder, no JAX.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from common import papers
from common.errors import DataError, UserError, nearest
from common.table_render import MARKS, claim_line
from common.table_results import read_table
from common.tables import FAILS, HOLDS, NOT_RUN, ClaimOutcome, Table, evaluate_claims

DAMAGED = "its result is damaged"


class TableRow(NamedTuple):
    """A table of a paper: `results` are its committed JSON files by preset."""

    paper: papers.PaperInfo
    table: Table
    results: dict[str, Path]

    def claims(self, preset: str) -> tuple[ClaimOutcome, ...]:
        """Returns the claims judged now, on the committed numbers of a preset.

        Raises:
            DataError: If the file with the numbers is damaged.
        """
        path = self.results.get(preset)
        table = self.table.at.get(preset, self.table)
        return evaluate_claims(table, read_table(path) if path else None)


def table_rows(found: Sequence[papers.PaperInfo] | None = None) -> tuple[TableRow, ...]:
    """Returns every table of every paper (or of those given) with its committed results."""
    rows = []
    for paper in papers.papers() if found is None else found:
        try:
            tables = papers.tables(paper)
        except UserError as error:
            logging.warning("tables left out: %s", error)
            continue
        for name, table in tables.items():
            folders = papers.results_folders(paper)  # what was made here stands for what came along
            files = [f for folder in folders for f in sorted(folder.glob(f"table{name}.*.json"))]
            results = {path.name.split(".")[-2]: path for path in files}
            rows.append(TableRow(paper, table, results))
    return tuple(rows)


def presets(config_file: Path) -> tuple[str, ...]:
    """Returns the presets that a config file's docstring names.

    The convention is a sentence "Presets: cpu (remarks), paper (remarks), pod (remarks)."
    """
    docstring = papers.docstring(config_file)
    text = docstring.partition("Presets:")[2].partition("\n\n")[0]
    while (shorter := re.sub(r"\([^()]*\)", "", text)) != text:
        text = shorter
    return tuple(re.findall(r"[a-z]\w*", text.partition(".")[0]))


def list_text(found: Sequence[papers.PaperInfo] | None = None) -> str:
    """Returns the papers with their experiments, tables, committed presets and claims."""
    known = papers.papers() if found is None else found
    rows = table_rows(known)
    lines = []
    for paper in known:
        lines.append(f"{paper.name}: {paper.title}")
        for name, path in paper.configs.items():
            lines.append(f"  experiment {name}: {_relative(path)} ({', '.join(presets(path))})")
        lines += [f"  {_table_line(row)}" for row in rows if row.paper.name == paper.name]
    return "\n".join(lines)


def list_markdown(found: Sequence[papers.PaperInfo] | None = None) -> str:
    """Returns the generated part of WORKSPACE.md: one line for each table of each paper."""
    known = papers.papers() if found is None else found
    rows = table_rows(known)
    lines = [
        "| paper | experiments (presets) | table | results | claims |",
        "|---|---|---|---|---|",
    ]
    for paper in known:
        configs = [
            f"[{name}]({_relative(path)}) ({', '.join(presets(path))})"
            for name, path in paper.configs.items()
        ]
        experiments = "<br>".join(configs) or "–"
        name = f"[{paper.name}]({_relative(paper.folder)}): {paper.title}"
        own = [row for row in rows if row.paper.name == paper.name]
        if not own:
            lines.append(f"| {name} | {experiments} | – | – | – |")
        for row in own:
            links = [
                f"[{preset}]({_relative(path.with_suffix('.md'))})"
                for preset, path in row.results.items()
            ]
            counts = "<br>".join(f"{p}: {_judged(row, p)}" for p in row.results)
            title = f"{row.table.name}: {row.table.title}"
            results = ", ".join(links) or "not run"
            lines.append(f"| {name} | {experiments} | {title} | {results} | {counts or '–'} |")
            name = experiments = ""  # said once
    return "\n".join(lines) + "\n"


def claims_text(preset: str = "cpu", found: Sequence[papers.PaperInfo] | None = None) -> str:
    """Returns every claim of every paper with its status and numbers at a preset.

    Of a result that is damaged a warning says so; its claims do not count.

    Raises:
        UserError: If no paper has such a preset.
    """
    rows = table_rows(found)
    _check_preset(preset, rows)
    lines, outcomes = [], []
    for row in rows:
        lines.append(f"{row.paper.name}, table {row.table.name} ({preset}): {row.table.title}")
        try:
            claims = row.claims(preset)
        except DataError as error:
            logging.warning("claims left out: %s", error)
            lines.append(f"  {DAMAGED}")
            continue
        outcomes += claims
        lines += [f"  {claim_line(claim._asdict())}" for claim in claims]
    return "\n".join([*lines, _counts(outcomes)])


def _check_preset(preset: str, rows: Sequence[TableRow]) -> None:
    configs = dict.fromkeys(path for row in rows for path in row.paper.configs.values())
    known = dict.fromkeys(name for path in configs for name in presets(path))
    known |= dict.fromkeys(name for row in rows for name in [*row.results, *row.table.at])
    if rows and preset not in known:
        raise UserError(
            f"--preset={preset!r}: no paper has it{nearest(preset, known)}; "
            f"allowed: {', '.join(known)}"
        )


def _judged(row: TableRow, preset: str) -> str:
    """Returns how many claims hold and fail; of a damaged result that, and a warning."""
    try:
        return _counts(row.claims(preset))
    except DataError as error:
        logging.warning("claims left out: %s", error)
        return DAMAGED


def _table_line(row: TableRow) -> str:
    presets = [f"{preset}: {_judged(row, preset)}" for preset in row.results]
    return f"table {row.table.name}: {row.table.title} [{'; '.join(presets) or 'not run'}]"


def _counts(claims: Sequence[ClaimOutcome]) -> str:
    counts = {s: sum(claim.status == s for claim in claims) for s in (HOLDS, FAILS, NOT_RUN)}
    texts = [f"{MARKS[status].split()[0]} {n} {status}" for status, n in counts.items() if n]
    return ", ".join(texts) or "no claims"


def _relative(path: Path) -> str:
    inside = path.is_relative_to(papers.REPOSITORY)
    return str(path.relative_to(papers.REPOSITORY if inside else Path.cwd()))
