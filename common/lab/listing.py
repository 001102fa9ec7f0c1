"""What is in the tree and what has been measured: the rows behind `lab list` and `lab claims`.

Reads committed results and the papers' tables only: no run folder, no JAX.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from common import papers
from common.config import offers
from common.errors import DataError, UserError, nearest
from common.results import grids
from common.results.claims_text import MEANING, counts, in_lines, scores, sentences
from common.results.table_files import read_table
from common.tables import Table, evaluate_claims
from common.verdicts import HOLDS, STATES

DAMAGED = "its result is damaged"


class TableRow(NamedTuple):
    """A table of a paper: `results` are its committed JSON files by preset."""

    paper: papers.PaperInfo
    table: Table
    results: dict[str, Path]

    def claims(self, preset: str) -> list[dict[str, Any]]:
        """Returns the claims judged now on the committed numbers of a preset, as JSON holds them.

        Raises:
            DataError: If the file with the numbers is damaged.
        """
        path = self.results.get(preset)
        table = self.table.at.get(preset, self.table)
        outcomes = evaluate_claims(table, read_table(path) if path else None)
        return [outcome.to_json() for outcome in outcomes]


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
            files = [f for folder in folders for f in sorted(folder.glob(f"{name}.*.json"))]
            results = {path.name.split(".")[-2]: path for path in files}
            rows.append(TableRow(paper, table, results))
    return tuple(rows)


def presets(config_file: Path) -> tuple[str, ...]:
    """Returns the presets that a config file offers; of a broken file none, with a warning."""
    some = _offers(config_file).get("preset")
    return some if isinstance(some, tuple) else ()


def list_text(found: Sequence[papers.PaperInfo] | None = None, *, details: bool = False) -> str:
    """Returns the papers with their experiments, tables, and what those came to.

    Args:
        found: The papers; default: all.
        details: Also what follows the config file of an experiment: "kind=np,hnp".
    """
    lines = []
    for paper, own in _judged(found):
        lines.append(f"{paper.name}: {paper.title}")
        lines += [f"  {score}" for score in (_score(own),) if score]
        for name, path in paper.configs.items():
            lines.append(f"  experiment {name}: {_relative(path)} ({', '.join(presets(path))})")
            offered = _offers(path).items() if details else ()
            lines += [f"    {key}={_options(some)}" for key, some in offered if key != "preset"]
        for row in own:
            states = "; ".join(row.states) or "not run"
            lines.append(f"  table {row.row.table.name}: {row.row.table.title} [{states}]")
    return "\n".join(lines)


def list_markdown(found: Sequence[papers.PaperInfo] | None = None) -> str:
    """Returns the generated part of WORKSPACE.md: papers, then one line for each table."""
    lines = ["| paper | experiments (presets) | claims | what it came to |", "|---|---|---|---|"]
    below = ["", "| table | results | claims | at the published size |", "|---|---|---|---|"]
    for paper, own in _judged(found):
        configs = [
            f"[{name}]({_relative(path)}) ({', '.join(presets(path))})"
            for name, path in paper.configs.items()
        ]
        name = f"[{paper.name}]({_relative(paper.folder)}): {paper.title}"
        experiments, headline = "<br>".join(configs) or "–", _headline(own) or "–"
        lines.append(f"| {name} | {experiments} | {_score(own) or '–'} | {headline} |")
        for judged in own:
            row = judged.row
            links = [f"[{preset}]({_page(row, preset)})" for preset in row.results]
            title = f"{paper.name} {row.table.name}: {row.table.title}"
            states = "<br>".join(judged.states) or "–"
            size = "<br>".join(_published_size(row).values()) or "–"
            below.append(f"| {title} | {', '.join(links) or 'not run'} | {states} | {size} |")
    return "\n".join([*lines, *below]) + "\n"


def scores_markdown(found: Sequence[papers.PaperInfo] | None = None) -> str:
    """Returns the generated part of README.md: what came out of every paper, one line each."""
    lines = [
        "| paper | claims | what it came to, at preset cpu | at the published size |",
        "|---|---|---|---|",
    ]
    for paper, own in _judged(found):
        name = f"[{paper.name}]({_relative(paper.folder)}/README.md)"
        sizes = [
            f"[{row.table.name}]({_page(row, preset)}): {size}; {scores(claims.get(preset) or ())}"
            for row, claims in own
            for preset, size in _published_size(row).items()
        ]
        cells = (_score(own), _headline(own), "<br>".join(sizes))
        lines.append(f"| {name} | {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(lines) + "\n"


def claims_text(
    preset: str = "cpu",
    found: Sequence[papers.PaperInfo] | None = None,
    *,
    kind: str = "",
    failing: bool = False,
    details: bool = False,
    width: int = 100,
) -> str:
    """Returns a line for every claim: its mark, statement and how many comparisons hold.

    Args:
        preset: Preset of the results.
        found: The papers; default: all.
        kind: Only claims of this kind.
        failing: Only claims that do not hold.
        details: Also every comparison, and why a claim fails.
        width: Columns of the terminal.
    """
    wrapped = lambda line, indent="": grids.wrapped(line, width, indent)
    lines, shown = [], []
    for row, chosen in _chosen(preset, found, kind=kind, failing=failing):
        title = f"{row.paper.name}, table {row.table.name} ({preset}): {row.table.title}"
        lines.append(wrapped(title))
        if chosen is None:
            lines.append(f"  {DAMAGED}")
            continue
        shown += chosen
        for claim in chosen:
            first, more = in_lines(claim, width, comparisons=details, reason=details)
            lines += [first, *more]
    total = counts(shown)
    parts = ", ".join(f"{total[state]} {state}" for state in STATES if total[state])
    summary = [scores(shown)] + ([f"{sum(total.values())} comparisons: {parts}"] if parts else [])
    return "\n".join([*lines, *(wrapped(line) for line in [*summary, MEANING])])


def claims_json(
    preset: str = "cpu",
    found: Sequence[papers.PaperInfo] | None = None,
    *,
    kind: str = "",
    failing: bool = False,
) -> str:
    """Returns the claims as JSON, a list of tables; the arguments of `claims_text`."""
    tables = [
        {"paper": row.paper.name, "table": row.table.name, "preset": preset, "claims": chosen}
        for row, chosen in _chosen(preset, found, kind=kind, failing=failing)
        if chosen is not None
    ]
    return json.dumps(tables, indent=1, ensure_ascii=False)


def _chosen(
    preset: str, found: Sequence[papers.PaperInfo] | None, *, kind: str, failing: bool
) -> Iterator[tuple[TableRow, list[dict[str, Any]] | None]]:
    """Yields tables with their claims of a kind, None where the result is damaged.

    Raises:
        UserError: If no paper has such a preset.
    """
    rows = table_rows(found)
    _check_preset(preset, rows)
    for row in rows:
        claims = _claims(row, preset)
        if claims is None:
            yield row, None
            continue
        chosen = [
            claim
            for claim in claims
            if (not kind or claim["kind"] == kind) and not (failing and claim["status"] == HOLDS)
        ]
        if chosen:
            yield row, chosen


def _claims(row: TableRow, preset: str) -> list[dict[str, Any]] | None:
    """Returns the claims of a table; None and a warning if its result is damaged."""
    try:
        return row.claims(preset)
    except DataError as error:
        logging.warning("claims left out: %s", error)
        return None


class _Judged(NamedTuple):
    """A table with its claims by preset, None where the result is damaged."""

    row: TableRow
    claims: dict[str, list[dict[str, Any]] | None]

    @property
    def states(self) -> list[str]:
        return [
            f"{preset}: {DAMAGED if claims is None else scores(claims)}"
            for preset, claims in self.claims.items()
        ]


def _judged(
    found: Sequence[papers.PaperInfo] | None,
) -> list[tuple[papers.PaperInfo, list[_Judged]]]:
    """Returns papers (default: all) with their tables, each read and judged once."""
    known = papers.papers() if found is None else found
    return [
        (
            paper,
            [
                _Judged(row, {p: _claims(row, p) for p in row.results})
                for row in table_rows([paper])
            ],
        )
        for paper in known
    ]


def _check_preset(preset: str, rows: Sequence[TableRow]) -> None:
    configs = dict.fromkeys(path for row in rows for path in row.paper.configs.values())
    known = dict.fromkeys(name for path in configs for name in presets(path))
    known |= dict.fromkeys(name for row in rows for name in [*row.results, *row.table.at])
    if rows and preset not in known:
        raise UserError(
            f"--preset={preset!r}: no paper has it{nearest(preset, known)}; "
            f"allowed: {', '.join(known)}"
        )


def _score(rows: Sequence[_Judged]) -> str:
    """Returns the claims of a paper's tables at preset cpu, counted."""
    return scores([claim for row in rows for claim in row.claims.get("cpu") or ()])


def _headline(rows: Sequence[_Judged]) -> str:
    """Returns what the table that leads came to, else the first with a headline, or any claim."""

    def rank(judged: _Judged) -> tuple[bool, bool]:
        return not judged.row.table.leads, not judged.row.table.headline

    for row, claims in sorted(rows, key=rank):
        if claims.get("cpu"):
            headline = list(row.table.headline)
            data = {**read_table(row.results["cpu"]), "claims": claims["cpu"]}
            return sentences({**data, "headline": headline})
    return ""


def _page(row: TableRow, preset: str) -> str:
    """Returns the file of a table's page."""
    return _relative(row.results[preset].with_suffix(".md"))


def _published_size(row: TableRow) -> dict[str, str]:
    """Returns, by preset that has results, what of a table is of the published size, if any is."""
    tables = {preset: row.table.at.get(preset, row.table) for preset in row.results}
    return {
        preset: table.published_size for preset, table in tables.items() if table.published_size
    }


def _offers(config_file: Path) -> dict[str, Any]:
    try:
        return offers(config_file)
    except UserError as error:
        logging.warning("choices left out: %s", error)
        return {}


def _options(some: Any) -> str:
    return "|".join(some) if isinstance(some, tuple) else f"{type(some).__name__.upper()} ({some})"


def _relative(path: Path) -> str:
    inside = path.is_relative_to(papers.REPOSITORY)
    return str(path.relative_to(papers.REPOSITORY if inside else Path.cwd()))
