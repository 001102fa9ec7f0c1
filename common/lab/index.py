"""Where things are: modules with their promise, equations with the function that computes them.

Both are read from docstrings: the first line of a module, and what a function names as its
`Source:`. No module is imported.
"""

import ast
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common.papers import REPOSITORY, TOPICS, PaperInfo, docstring, papers
from common.provenance import source

# Where a sentence ends, or goes on to say more: not at the dot of "et al." or "Eq.".
_END = re.compile(r"(?<!\bal)(?<!\bEq)(?<!\bApp)(?<!\bSec)(?<!\bFig)(?<!\bCh)[.:;](?=\s|$)|\n\n|\Z")


class Place(NamedTuple):
    """A function (or class, or "" for the whole module) that names the source of what it does."""

    source: str
    path: Path
    name: str
    promise: str


def parts_markdown() -> str:
    """Returns the parts of WORKSPACE.md: every module of common/ and of the topics' libraries."""
    folders = [REPOSITORY / "common", *_rooms(REPOSITORY / "common")]
    papers_here = {paper.folder for paper in papers()}
    for topic in TOPICS:
        library = [f for f in _rooms(REPOSITORY / topic) if f not in papers_here]
        folders += [REPOSITORY / topic, *library]
    tables = [_folder_table(folder) for folder in folders if folder.is_dir()]
    return "\n".join(filter(None, tables))


def equations_markdown(found: Sequence[PaperInfo]) -> str:
    """Returns for each paper its equations and algorithms, and where they are computed."""
    tables = []
    for paper in found:
        lines = [
            "| equation, algorithm or recipe | file: function | what it gives |",
            "|---|---|---|",
        ]
        for place in places(paper):
            path = os.path.relpath(place.path, paper.folder)
            where = f"[{place.path.relative_to(REPOSITORY)}]({path})"
            name = f": `{place.name}`" if place.name else ""
            lines.append(f"| {_cell(place.source)} | {where}{name} | {_cell(place.promise)} |")
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def places(paper: PaperInfo) -> list[Place]:
    """Returns all that names its source in the code of a paper: what its modules import.

    Those with its experiments, and with cells that are no training runs. In the order of the
    sources' words, so that one paper's equations stand together.
    """
    topic = paper.name.partition(".")[0]
    files = source.imported(sorted(paper.folder.glob("*.py")), (topic,))
    found = [place for path in files for place in _sources(path)]
    return sorted(found, key=lambda place: (_natural(place.source), str(place.path), place.name))


def _sources(path: Path) -> Iterator[Place]:
    tree = ast.parse(path.read_bytes())
    kinds = ast.FunctionDef | ast.ClassDef
    for node in (tree, *(n for n in ast.walk(tree) if isinstance(n, kinds))):
        text = ast.get_docstring(node) or ""
        named = re.search(r"\bSource: (.*)", text, re.DOTALL)
        if named:
            name = node.name if isinstance(node, kinds) else ""
            yield Place(_first_sentence(named[1]), path, name, text.splitlines()[0].rstrip("."))


def _first_sentence(text: str) -> str:
    """Returns what stands before the first end of a sentence that is not in parentheses."""
    for end in _END.finditer(text):
        said = text[: end.start()]
        if said.count("(") == said.count(")"):
            return " ".join(said.split())
    return " ".join(text.split())


def _natural(text: str) -> list[tuple[int, str]]:
    """Returns a key that sorts "Eq. 9" before "Eq. 17"."""
    parts = re.split(r"(\d+)", text.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _folder_table(folder: Path) -> str:
    files = sorted(path for path in folder.glob("*.py") if path.stem != "__init__")
    if not files:
        return ""
    name = folder.relative_to(REPOSITORY)
    promise = docstring(folder / "__init__.py").partition("\n")[0]
    rows = [
        f"| [{path.stem}]({path.relative_to(REPOSITORY)}) | {_promise(path)} |" for path in files
    ]
    return "\n".join(
        [f"**`{name}/`** {promise}", "", "| module | what it is |", "|---|---|", *rows, ""]
    )


def _promise(path: Path) -> str:
    """Returns the first sentence of a module's docstring."""
    first = docstring(path).partition("\n\n")[0]
    return _cell(" ".join(first.split()))


def _rooms(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/__init__.py"))


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
