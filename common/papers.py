"""Which papers are in the tree, found by their files: no paper is imported to list it."""

import ast
import importlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from common.errors import UserError, nearest

TOPICS = ("nfn", "landscape", "rlhf", "finetune", "sciml")
REPOSITORY = Path(__file__).resolve().parent.parent


class PaperInfo(NamedTuple):
    """One paper folder: `name` is "topic.paper", `configs` its config files by experiment."""

    name: str
    title: str
    folder: Path
    configs: dict[str, Path]


def papers() -> tuple[PaperInfo, ...]:
    """Returns every `<topic>/<paper>/` that holds `__init__.py` and `configs/`, in topic order.

    A folder without configs is a part of the topic's library.
    """
    found = []
    for topic in TOPICS:
        for init in sorted((REPOSITORY / topic).glob("*/__init__.py")):
            folder = init.parent
            if not (folder / "configs").is_dir():
                continue
            text = docstring(init)
            configs = {
                path.stem: path
                for path in sorted((folder / "configs").glob("*.py"))
                if path.stem != "__init__"
            }
            title = text.splitlines()[0] if text else folder.name
            found.append(PaperInfo(f"{topic}.{folder.name}", title, folder, configs))
    return tuple(found)


def docstring(file: Path) -> str:
    """Returns the docstring of a Python file, "" without one; of a broken file, with a warning."""
    try:
        return ast.get_docstring(ast.parse(file.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError) as error:
        logging.warning("%s: cannot be read: %s", file, error)
        return ""


def find_paper(name: str) -> PaperInfo:
    """Returns the paper called "topic.paper".

    Raises:
        UserError: If there is none; the nearest name is given.
    """
    known = {paper.name: paper for paper in papers()}
    if name not in known:
        raise UserError(
            f"paper {name!r} is unknown{nearest(name, known)}; known: {', '.join(known)}"
        )
    return known[name]


def results_folders(paper: PaperInfo) -> tuple[Path, ...]:
    """Returns where results of the paper's tables are; the last is where new ones are written.

    In the checkout that is the paper's own `results/`. Elsewhere the committed results are left as
    they are, and those made by `lab table` are in `results/<paper>/` of the current folder.
    """
    committed = paper.folder / "results"
    here = Path.cwd()
    if here.is_relative_to(REPOSITORY):
        return (committed,)
    return committed, here / "results" / paper.name


def tables(paper: PaperInfo) -> dict[str, Any]:
    """Returns `TABLES` of the paper's tables/: {table name: common.tables.Table}.

    Raises:
        UserError: If the file cannot be loaded.
    """
    file = paper.folder / "tables" / "__init__.py"
    if not file.exists():
        return {}
    try:
        return dict(importlib.import_module(f"{paper.name}.tables").TABLES)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{file}: cannot be loaded: {type(error).__name__}: {error}") from error


def builder_folder(experiment: str, config_dir: str) -> Path | None:
    """Returns where the builder named by `config.experiment` lives, or None if nowhere.

    Args:
        experiment: "topic.paper:builder", or "file.py:function" relative to `config_dir`.
        config_dir: Folder of the config file.
    """
    left, separator, name = experiment.rpartition(":")
    if not (separator and name.isidentifier()):
        return None
    if left.endswith(".py"):
        path = Path(config_dir) / left
        return path.parent if os.path.isfile(path) else None  # Path.is_file raises for long names
    known = {paper.name: paper.folder for paper in papers()}
    return known.get(left)


def config_folder(experiment: str, file: Path) -> Path:
    """Returns the folder of a config file; of a link, that of its target if the builder is there.

    Args:
        experiment: As for `builder_folder`.
        file: The config file.
    """
    target = file.resolve().parent
    if target == file.parent or ".py:" not in experiment:
        return file.parent
    return file.parent if builder_folder(experiment, str(file.parent)) else target


def split_spec(spec: str) -> tuple[str, str]:
    """Returns path and argument of "path/to/file.py:preset", "" without one.

    A path may hold ":"; the argument is what follows the last ".py:".
    """
    head, found, arg = spec.rpartition(".py:")
    if found:
        return f"{head}.py", arg
    if spec.endswith(".py"):
        return spec, ""
    path, _, arg = spec.partition(":")
    return path, arg


def builders(experiment: str, config_dir: str) -> set[str] | None:
    """Returns the names of the builders beside that of `config.experiment`, without importing it.

    None if they are not to be seen in the file: after `from module import *`, for one.

    Raises:
        UserError: If the file is no Python.
    """
    folder, left = builder_folder(experiment, config_dir), experiment.rpartition(":")[0]
    if folder is None:
        return None
    path = Path(config_dir) / left if left.endswith(".py") else folder / "experiments.py"
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be loaded: {error}") from error
    if left.endswith(".py"):
        return _bound(body)
    for node in body:
        is_table = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXPERIMENTS"
        if is_table and isinstance(node.value, ast.Dict):
            keys = [getattr(key, "value", None) for key in node.value.keys]
            return None if None in keys else {str(key) for key in keys}
    return None


def _bound(body: list[ast.stmt]) -> set[str] | None:
    """Returns the names that statements bind; None if one may bind any."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr):
            names |= {
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
        else:  # if, with, try, for: not followed
            return None
    return None if "*" in names else names
