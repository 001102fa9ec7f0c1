"""What `lab table` and `lab claims` do: called with plain values by `common.lab.cli`."""

import shutil
import sys
from collections.abc import Sequence

from common import papers
from common.errors import MissingData, NumericalError, UserError, nearest
from common.lab import listing
from common.lab.commands import failed, say
from common.verdicts import KINDS


def table(
    paper: str,
    name: str,
    *,
    preset: str,
    seeds: str | None,
    workdir: str,
    out: str | None,
    jobs: int,
    allow_changed_code: bool = False,
    rejudge: bool = False,
    check: bool = False,
) -> None:
    """Runs what a table lacks and prints it; fails if a cell has no number.

    Or judges what is committed again, or compares it with the published values.
    """
    from common.results.pages import render_text
    from common.results.runner import rejudge_table, run_table

    info = papers.find_paper(paper)
    if check:
        _check_table(info, name, preset)
        return
    if rejudge:
        measured = rejudge_table(info, name, preset=preset, out=out)
    else:
        measured = run_table(
            info,
            name,
            preset=preset,
            seeds=_seeds(seeds),
            workdir=workdir,
            out=out,
            jobs=jobs or None,
            allow_changed_code=allow_changed_code,
        )
    width = shutil.get_terminal_size((100, 24)).columns
    say(render_text(measured.data, width=width, color=sys.stdout.isatty()))
    files = (measured.json_path, measured.markdown_path, measured.figure_path)
    say("written: " + ", ".join(str(path) for path in files if path))
    if measured.num_problems:
        problems = [text for cell in measured.data["cells"] for text in cell["problems"].values()]
        count = f"{measured.num_problems} numbers of table {name}"
        raise failed(f"{count} are missing; see above", problems)


def claims(
    *,
    paper: str | None,
    preset: str,
    kind: str | None,
    failing: bool,
    details: bool,
    json: bool,
    run: bool,
    workdir: str,
    jobs: int,
) -> None:
    """Prints what every claim came to, after running what is missing if asked to."""
    if kind is not None and kind not in KINDS:
        raise UserError(
            f"--kind={kind!r}: no such kind of claim{nearest(kind, KINDS)}; allowed: "
            f"{', '.join(KINDS)}"
        )
    only = [papers.find_paper(paper)] if paper else None
    if run:
        for row in listing.table_rows(only):
            try:
                table(
                    row.paper.name,
                    row.table.name,
                    preset=preset,
                    seeds=None,
                    workdir=workdir,
                    out=None,
                    jobs=jobs,
                )
            except MissingData as missing:
                say(f"left as it is: {missing}")
    chosen = {"found": only, "kind": kind or "", "failing": failing}
    if json:
        say(listing.claims_json(preset, **chosen))
        return
    width = shutil.get_terminal_size((100, 24)).columns
    say(listing.claims_text(preset, **chosen, details=details, width=width))


def _check_table(info: papers.PaperInfo, name: str, preset: str) -> None:
    """Prints how the committed numbers of a table compare with the published ones.

    Raises:
        NumericalError: If they do not agree as far as the table says they should.
    """
    from common.results.check import check
    from common.results.runner import find_table
    from common.results.table_files import read_table

    find_table(info, name)
    (row,) = (row for row in listing.table_rows([info]) if row.table.name == name)
    if preset not in row.results:
        raise UserError(f"--check: table {name} has no results at preset {preset}")
    tolerance = row.table.at.get(preset, row.table).tolerance
    found = check(read_table(row.results[preset]), tolerance)
    say(found.text())
    if found.failed:
        raise NumericalError(f"table {name} of {info.name}: {found.failed}")


def _seeds(text: str | None) -> int | Sequence[int] | None:
    """Returns "5" as a number of seeds, "0,3" and "4," as the seeds themselves."""
    if text is None:
        return None
    try:
        seeds = [int(part) for part in text.split(",") if part]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or text == "0":
        raise UserError(f"--seeds={text!r}: expected how many seeds, such as 5, or a list: 0,3")
    return seeds if "," in text else seeds[0]
