"""The code of an experiment: which files it is, their hashes, and how they are loaded.

Of an experiment outside this repository it is its file with the modules that this imports from
beside it (or from beside the config file); of a paper, what its `experiments.py` imports from its
topic. Libraries, `common/` among them, are no part of it: environment.json names their versions.
Imports are read, not followed: nothing is executed to know the code, and nothing needs JAX.

Modules beside an experiment are seen by its own files only, whatever else is called the same: they
are loaded under names of their own, and `sys.path` stays as it is.
"""

import ast
import builtins
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from common.errors import UserError
from common.papers import REPOSITORY, TOPICS, builder_folder

OURS = ("common", *TOPICS)  # never taken for modules beside an experiment
PACKAGE = "_lab_"
SHOWN = 3
Digests = dict[str, str]  # {file: SHA-256}


class Code(NamedTuple):
    """The code of an experiment now, for the run that it makes or goes on with.

    Attributes:
        files: `digests` of its config.
        may_change: Whether it may be other code than that of the run, which is then only warned of.
        earlier: The other code that the run was made with before.
    """

    files: Digests
    may_change: bool = False
    earlier: tuple[Digests, ...] = ()

    def record(self) -> dict[str, Any]:
        """Returns what checkpoints and results keep of it."""
        earlier = {"earlier_code": list(self.earlier)} if self.earlier else {}
        return {"code": self.files, **earlier}

    def check(self, run: Path, began: Mapping[str, str] | None) -> bool:
        """Returns whether it is other code than that of a run.

        Args:
            run: Its folder.
            began: Its code; None in a run of a version that did not record it: only a warning.

        Raises:
            UserError: If it is other code and may not be; names the files.
        """
        if began is None and self.files:
            logging.warning(
                "%s: its version recorded no code; whether the code has changed is not known", run
            )
        found = changes(began, self.files) if began is not None else ""
        if found and not self.may_change:
            raise UserError(
                f"{run}: was made by other code: {found}; bring it back, take the code of now by "
                "--allow-changed-code, or start again with another --workdir"
            )
        if found:
            logging.warning("%s: was made by other code: %s", run, found)
        return bool(found)

    def going_on(self, run: Path, record: Mapping[str, Any]) -> "Code":
        """Returns it with the earlier code in a `record` of the run that is continued.

        Raises:
            UserError: As `check`.
        """
        earlier = record.get("earlier_code", [])
        if self.check(run, record.get("code")):
            earlier = [*earlier, record["code"]]
        return self._replace(earlier=tuple(earlier))


def digests(config: ConfigDict, function: str | None = None) -> Digests:
    """Returns {file: SHA-256} of the code of a config's experiment, {} if there is no such code.

    Files are named relative to the config file, or for a paper to the repository.

    Args:
        config: Its fields `experiment` and `config_dir` say which code.
        function: "package.module:function" of this repository in place of the experiment.
    """
    place, _, _ = (function or config.experiment).rpartition(":")
    if place.endswith(".py"):
        base = Path(config.config_dir)
        start = base / place
        files = _closure([start], (start.parent, base), lambda root: root not in OURS)
    else:
        base, topic = REPOSITORY, place.partition(".")[0]
        start = base / f"{place.replace('.', '/')}.py" if function else builder(config)
        files = _closure([start], (base,), lambda root: root == topic) if start else ()
    named = {Path(os.path.relpath(path, base)).as_posix(): path for path in files}
    return {name: hashlib.sha256(named[name].read_bytes()).hexdigest() for name in sorted(named)}


def imported(starts: Sequence[Path], roots: Sequence[str]) -> tuple[Path, ...]:
    """Returns files of this repository and all that they import of the packages `roots`."""
    return _closure(starts, (REPOSITORY,), lambda root: root in roots)


def builder(config: ConfigDict) -> Path | None:
    """Returns the file that holds a config's experiment, None if there is none."""
    folder = builder_folder(config.experiment, config.config_dir)
    left, _, _ = config.experiment.rpartition(":")
    if folder is None:
        return None
    return Path(config.config_dir) / left if left.endswith(".py") else folder / "experiments.py"


def changes(began: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Returns how one sees that this is other code, "" if it is the same."""
    told = [f"{name} has changed" for name in began if here.get(name, began[name]) != began[name]]
    told += [f"{name} is gone" for name in began if name not in here]
    told += [f"{name} is new" for name in here if name not in began]
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return ", ".join(told[:SHOWN]) + more


def load(path: Path, *folders: Path) -> ModuleType:
    """Returns the module of a Python file, executed anew with all that it imports from beside it.

    Args:
        path: The file; `import name` in it finds name.py beside it, also inside functions.
        *folders: More folders whose modules it may import.
    """
    places = [str(folder) for folder in dict.fromkeys((path.parent, *folders))]
    package = PACKAGE + hashlib.sha256("\0".join(places).encode()).hexdigest()[:12]
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]  # its file may have been edited
    importlib.invalidate_caches()
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    parent = ModuleType(package)
    parent.__path__ = places
    sys.modules[package] = parent
    loader = _Loader(f"{package}.{path.stem}", str(path))
    spec = importlib.util.spec_from_file_location(loader.name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


class _Loader(SourceFileLoader):
    """Executes a file whose imports look beside the experiment first."""

    def get_code(self, fullname: str) -> CodeType:
        # Not through __pycache__: it takes an edit of the same second and size for the old file.
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        hooked = functools.partial(_import, package)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": hooked}
        super().exec_module(module)


class _Finder:
    """Finds the modules beside an experiment, for the names that `_import` makes."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        del target
        if not name.startswith(PACKAGE) or path is None:
            return None
        spec: ModuleSpec | None = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


def _import(
    package: str,
    name: str,
    globals: Mapping[str, Any] | None = None,  # noqa: A002 - as builtins.__import__
    locals: Mapping[str, Any] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Does what `import` does in the files of an experiment."""
    root = name.partition(".")[0]
    if level or root in OURS or not _is_beside(sys.modules[package].__path__, root):
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    inside = f"{package}.{name}"
    if fromlist:
        return builtins.__import__(inside, globals, locals, fromlist, 0)
    importlib.import_module(inside)
    return sys.modules[f"{package}.{root}"]


def _is_beside(folders: Iterable[str | Path], root: str) -> bool:
    for folder in folders:
        place = Path(folder, root)
        if place.with_name(f"{root}.py").is_file() or (place / "__init__.py").is_file():
            return True
        if next(place.glob("*.py"), None) and not _is_installed(root):
            return True  # as Python does it: a folder without __init__.py comes last
    return False


def _is_installed(root: str) -> bool:
    return getattr(importlib.util.find_spec(root), "origin", None) is not None


def _closure(
    starts: Sequence[Path], folders: Sequence[Path], follows: Callable[[str], bool]
) -> tuple[Path, ...]:
    """Returns files and the files in `folders` that they import, directly or not."""
    found: dict[Path, None] = {}
    waiting = [start for start in starts if start.is_file()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        status = path.stat()
        for level, name in _imports(path, status.st_mtime_ns, status.st_size):
            root = name.partition(".")[0]
            if level:
                waiting += _files((path.parents[level - 1],), name)
            elif follows(root) and (folders == (REPOSITORY,) or _is_beside(folders, root)):
                waiting += _files(folders, name)
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _imports(path: Path, changed: int, size: int) -> tuple[tuple[int, str], ...]:
    """Returns (level, dotted name) of all imports in a file, those inside functions too."""
    del changed, size  # they are there for the cache
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # whoever executes it says so
        return ()
    return tuple(dict.fromkeys(item for node in ast.walk(tree) for item in _names(node)))


def _names(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = f"{node.module}." if node.module else ""
        yield from ((node.level, f"{module}{alias.name}") for alias in node.names)


def _files(folders: Sequence[Path], name: str) -> list[Path]:
    """Returns the files that importing a dotted name executes; its last part may be no module."""
    for folder in folders:
        files, place = [], folder
        for part in name.split("."):
            place = place / part
            if (place / "__init__.py").is_file():
                files.append(place / "__init__.py")
            elif place.with_name(f"{part}.py").is_file():
                files.append(place.with_name(f"{part}.py"))
                break
            elif not place.is_dir():
                break
        if files:
            return files
    return []
