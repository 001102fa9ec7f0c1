"""The rules of the tree that a reader may rely on: who imports whom, and where what lives."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from common.papers import TOPICS, PaperInfo, papers
from tests.processes import REPOSITORY, Child

SOURCES = sorted(
    path for folder in ("common", *TOPICS) for path in (REPOSITORY / folder).rglob("*.py")
)
FILES = sorted([*SOURCES, *(REPOSITORY / "tests").rglob("*.py")])

# A library with one owner: everything else goes through the owner.
DRAWING = r"(.*/)?figures(/\w+)?\.py"  # common, a topic's library, figures/ of a paper
OWNERS = {
    "orbax": r"common/checkpoints/checkpoint\.py",
    "safetensors": r"common/checkpoints/weights\.py",
    "absl.flags": r"common/lab/cli\.py",
    "matplotlib": DRAWING,
    "plotly": DRAWING,
}
# The rooms of common/, and which rooms each may import; all may import what is on top of common/.
# What a paper uses is on top, in data/, nets/ and files/.
ROOMS = {
    "files": (),
    "provenance": ("files",),
    "devices": ("files",),
    "checkpoints": ("files", "devices"),
    "run_folders": ("files", "provenance", "devices", "checkpoints"),
    "jobs": ("files", "provenance", "devices", "run_folders"),
    "loop": ("files", "provenance", "devices", "checkpoints", "run_folders"),
    "pods": ("files", "loop"),
    "results": ("files", "provenance", "devices", "run_folders", "jobs", "loop"),
    "lab": (),  # whatever it likes
    "data": ("files",),
    "nets": ("checkpoints",),
}
FOR_PAPERS = ("data", "nets", "files")
# What `lab --help`, `lab list` and every config error load; they answer without waiting for JAX.
LIGHT = [
    f"common.{name}"
    for name in (
        "lab.cli",
        "config",
        "errors",
        "papers",
        "tables",
        "jobs.pool",
        "runs",
        "pods.chips",
    )
]
# These besides: they are used where there is no JAX.
LIGHT += ["common.pods.aot_report", "common.loop.metrics", "common.data.sample.make_sample"]
LIGHT += [f"common.data.{name}" for name in ("images", "cache", "epochs", "fetch")]
# `lab list` and errors in configs: these run, and import, config files of all papers.
LIGHT += [
    f"{path.parent.relative_to(REPOSITORY).as_posix().replace('/', '.')}.{path.stem}"
    for path in sorted(REPOSITORY.glob("*/*/configs/*.py"))
]
HEAVY = ("jax", "flax", "optax", "orbax", "safetensors", "matplotlib", "rich", "scipy")
STANDARD_FILES = (
    *("__init__.py", "experiments.py", "README.md"),
    *("tables/__init__.py", "figures/__init__.py"),
)


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


class Source(NamedTuple):
    """A file, read and parsed once for all rules.

    Attributes:
        name: Its path in the repository.
        text: What it holds.
        docstring: What it says it is about, if anything.
        imports: The dotted name of everything it imports, at any depth.
        functions: The number of lines of each of its functions.
    """

    name: str
    text: str
    docstring: str | None
    imports: tuple[str, ...]
    functions: dict[str, int]


def parse(name: str, text: str) -> Source:
    tree, imports, functions = ast.parse(text), [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: relative import"
            imports += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            functions[node.name] = max(size, functions.get(node.name, 0))
    return Source(name, text, ast.get_docstring(tree), tuple(imports), functions)


@cache
def parsed(path: Path) -> Source:
    """Returns the file; all rules ask for all files."""
    return parse(relative(path), path.read_text())


@cache
def paper_names() -> frozenset[str]:
    return frozenset(paper.name for paper in papers())


def may_import(path: Path, module: str) -> bool:
    """Whether the import rule lets `path` import `module`: common <- topic <- paper."""
    target = module.split(".")
    if target[0] not in TOPICS:
        return True
    topic, *rest = relative(path).split("/")
    if topic != target[0]:
        return False
    names = paper_names()
    imported_paper = ".".join(target[:2])
    return imported_paper not in names or imported_paper == f"{topic}.{rest[0]}"


def test_imports_go_from_papers_to_topics_to_common() -> None:
    wrong = [
        f"{parsed(path).name} imports {module}"
        for path in SOURCES
        for module in parsed(path).imports
        if not may_import(path, module)
    ]

    assert wrong == []


def place_of(module: str) -> str:
    """Returns the room of a module of common, or its own name if it lies on top."""
    _, name, *_ = [*module.split("."), ""]
    return name


def into_a_wrong_room(path: Path) -> list[str]:
    """Returns what a file imports of rooms that it may not enter."""
    topic, name, *rest = relative(path).split("/")
    here = name if rest else ""
    entered = {m: place_of(m) for m in parsed(path).imports if m.startswith("common.")}
    if topic != "common":
        return [m for m, room in entered.items() if room in ROOMS and room not in FOR_PAPERS]
    if here not in ROOMS or here == "lab":
        return []
    allowed = (here, *ROOMS[here])
    return [m for m, room in entered.items() if room in ROOMS and room not in allowed]


def test_every_room_imports_only_the_rooms_below_it() -> None:
    rooms = {
        path.name for path in (REPOSITORY / "common").iterdir() if (path / "__init__.py").exists()
    }
    wrong = [f"{relative(path)} imports {m}" for path in SOURCES for m in into_a_wrong_room(path)]

    assert rooms <= {*ROOMS}
    assert wrong == []


def test_rooms_and_modules_on_top_import_each_other_in_no_circle() -> None:
    below: dict[str, set[str]] = {}
    modules = [path for path in SOURCES if relative(path).startswith("common/")]
    for path in modules:
        name = relative(path).split("/")[1].removesuffix(".py")
        imported = {place_of(m) for m in parsed(path).imports if m.startswith("common.")}
        below.setdefault(name, set()).update(imported - {name, ""})

    order = tuple(TopologicalSorter(below).static_order())  # CycleError names a circle

    assert order.index("lab") > order.index("loop") > order.index("files")


@pytest.mark.parametrize(
    ("path", "module", "allowed"),
    [
        ("nfn/equivariant/models.py", "nfn.equivariant.data", True),
        ("nfn/equivariant/models.py", "nfn.layers.init", True),
        ("nfn/equivariant/models.py", "common.loop.train", True),
        ("nfn/another_paper/models.py", "nfn.equivariant.data", False),
        ("nfn/layers.py", "nfn.equivariant.data", False),
        ("sciml/operators.py", "nfn.layers", False),
        ("common/loop/train.py", "nfn.layers", False),
    ],
)
def test_the_import_rule_tells_right_from_wrong(path: str, module: str, allowed: bool) -> None:
    assert may_import(REPOSITORY / path, module) == allowed


def test_a_library_with_an_owner_is_imported_by_its_owner_only() -> None:
    wrong = [
        f"{parsed(path).name} imports {module}: only {owner} may"
        for path in SOURCES
        for module in parsed(path).imports
        for library, owner in OWNERS.items()
        if f"{module}.".startswith(f"{library}.") and not re.fullmatch(owner, relative(path))
    ]

    assert wrong == []


def test_only_the_command_line_changes_the_settings_of_jax() -> None:
    settings = re.compile(r"\bjax\.config\b|from jax import config|\benable_x64\(")
    touching = [parsed(path).name for path in SOURCES if settings.search(parsed(path).text)]

    hands_on = "common/loop/meanwhile.py"  # what its caller has set, to a thread
    assert touching == ["common/lab/cli.py", hands_on]


def offences(source: Source) -> Iterator[str]:
    """Yields what is wrong with the form of a file."""
    lines = source.text.count("\n")
    if lines > 400:
        yield f"{source.name}: {lines} lines, at most 400"
    if Path(source.name).stem in ("utils", "util", "helpers", "misc"):
        yield f"{source.name}: a module is named after what it knows"
    if source.text.strip() and not source.docstring:
        yield f"{source.name}: no docstring; what is this file about?"
    for function, size in source.functions.items():
        if size > 60:
            yield f"{source.name}: {function} has {size} lines, a function at most 60"


def test_a_file_has_one_subject_and_names_it() -> None:
    assert [offence for path in FILES for offence in offences(parsed(path))] == []


def test_files_without_one_subject_are_told() -> None:
    long = "def f():\n" + "    pass\n" * 60
    text = long + "\n" * 400

    found = list(offences(parse("nfn/utils.py", text)))

    parts = ("461 lines", "named after", "no docstring", "f has 61 lines")
    assert len(found) == len(parts)
    for offence, part in zip(found, parts, strict=True):
        assert offence.startswith("nfn/utils.py: ") and part in offence


def lacking(paper: PaperInfo) -> Iterator[str]:
    """Yields what a paper's folder lacks of the shape that all papers have."""
    for name in STANDARD_FILES:
        if not (paper.folder / name).is_file():
            yield f"{paper.name} lacks {name}"
    if not paper.configs:
        yield f"{paper.name} has no config file"
    has_results = any((paper.folder / "results").glob("*.json"))
    if has_results == ("Not run yet" in (paper.folder / "README.md").read_text()):
        yield f'{paper.name} has both or none of results/ and "Not run yet" in its README.md'
    modules = [path.stem for path in (paper.folder / "tables").glob("*.py")]
    for name in sorted(set(modules) - {"__init__"}):
        registry = parsed(paper.folder / "tables" / "__init__.py")
        if f"{paper.name}.tables.{name}" not in registry.imports:
            yield f"{paper.name}: tables/__init__.py does not import {name}"


def test_every_paper_has_the_same_shape() -> None:
    found = [offence for paper in papers() for offence in lacking(paper)]

    assert papers()
    assert found == []


class Imported(NamedTuple):
    """What a new process saw that imported every module of the packages.

    Attributes:
        heavy: Libraries of `HEAVY` loaded after those of `LIGHT`.
        devices: Whether JAX had asked for its devices at the end.
        orbax: Whether it was loaded by the whole of our code.
        files: What was written.
    """

    heavy: list[str]
    devices: bool
    orbax: bool
    files: list[Path]


@pytest.fixture(scope="module")
def imported(child: Child, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    folder = tmp_path_factory.mktemp("imported")
    modules = [relative(path)[:-3].replace("/", ".") for path in SOURCES]
    names = [name.removesuffix(".__init__") for name in modules if ".configs." not in name]
    code = f"""
import importlib, json, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
heavy = [name for name in {HEAVY!r} if name in sys.modules]
for name in {names!r}:
    importlib.import_module(name)
from jax._src import xla_bridge
print(json.dumps([heavy, xla_bridge.backends_are_initialized(), "orbax" in sys.modules]))
"""
    env = {"HOME": str(folder), "LAB_CACHE": str(folder / "cache"), "MPLCONFIGDIR": "/dev/null/x"}
    done = child(code, cwd=folder, env=env, seconds=60)
    assert done.returncode == 0, done.stderr
    heavy, devices, orbax = json.loads(done.stdout)
    return Imported(heavy, devices, orbax, [path for path in folder.rglob("*") if path.is_file()])


def test_the_command_line_and_config_errors_load_nothing_heavy(imported: Imported) -> None:
    assert imported.heavy == []


def test_a_command_begins_without_numpy(child: Child) -> None:
    done = child("import sys, common.lab.cli, common.tables; print('numpy' in sys.modules)")
    assert done.stdout.split() == ["False"], done.stderr


def test_what_writes_checkpoints_is_imported_by_the_first_one(imported: Imported) -> None:
    assert not imported.orbax


def test_importing_a_module_queries_no_device_and_writes_no_file(imported: Imported) -> None:
    assert not imported.devices
    assert imported.files == []


def test_no_committed_text_names_a_machine() -> None:
    command = ["git", "ls-files"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    private = re.compile(r"(?<![\w.])/(work|home|root|Users|farm)/\w")
    suffixes = {".py", ".md", ".toml", ".txt", ".json", ".yaml", ""}
    paths = [REPOSITORY / name for name in names.stdout.splitlines()]
    texts = [path for path in paths if path.suffix in suffixes and path.is_file()]

    assert texts
    assert [relative(path) for path in texts if private.search(path.read_text())] == []
