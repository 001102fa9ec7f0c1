"""The rules of the tree that a reader may rely on: who imports whom, and where what lives."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.papers import TOPICS, papers
from tests.processes import REPOSITORY, Child

SOURCES = sorted(
    path for folder in ("common", *TOPICS) for path in (REPOSITORY / folder).rglob("*.py")
)
FILES = sorted([*SOURCES, *(REPOSITORY / "tests").rglob("*.py")])

# A library with one owner: everything else goes through the owner.
OWNERS = {
    "orbax": "common/checkpoint.py",
    "absl.flags": "common/cli.py",
    "matplotlib": "figures.py",
    "plotly": "figures.py",
}
# What `lab --help`, `lab list` and every config error load; they answer without waiting for JAX.
LIGHT = [
    f"common.{name}" for name in ("cli", "config", "errors", "papers", "tables", "jobs", "runs")
]
HEAVY = ("jax", "flax", "optax", "orbax", "matplotlib", "rich", "scipy")
STANDARD_FILES = ("__init__.py", "experiments.py", "tables.py", "figures.py", "README.md")


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yields the dotted name of everything a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def may_import(path: Path, module: str) -> bool:
    """Whether the import rule lets `path` import `module`: common <- topic <- paper."""
    target = module.split(".")
    if target[0] not in TOPICS:
        return True
    topic, *rest = relative(path).split("/")
    if topic != target[0]:
        return False
    names = {paper.name for paper in papers()}
    imported_paper = ".".join(target[:2])
    return imported_paper not in names or imported_paper == f"{topic}.{rest[0]}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_go_from_papers_to_topics_to_common(path: Path) -> None:
    forbidden = [module for module in imports(path) if not may_import(path, module)]

    assert not forbidden, f"{relative(path)} imports {forbidden}"


@pytest.mark.parametrize(
    ("path", "module", "allowed"),
    [
        ("nfn/equivariant/models.py", "nfn.equivariant.data", True),
        ("nfn/equivariant/models.py", "nfn.layers.init", True),
        ("nfn/equivariant/models.py", "common.train", True),
        ("nfn/another_paper/models.py", "nfn.equivariant.data", False),
        ("nfn/layers.py", "nfn.equivariant.data", False),
        ("sciml/operators.py", "nfn.layers", False),
        ("common/train.py", "nfn.layers", False),
    ],
)
def test_the_import_rule_tells_right_from_wrong(path: str, module: str, allowed: bool) -> None:
    assert may_import(REPOSITORY / path, module) == allowed


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_library_with_an_owner_is_imported_by_its_owner_only(path: Path) -> None:
    name = relative(path)
    for module in imports(path):
        for library, owner in OWNERS.items():
            if f"{module}.".startswith(f"{library}."):
                assert name == owner or path.name == owner, f"{name} imports {module}, not {owner}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_only_the_command_line_changes_the_settings_of_jax(path: Path) -> None:
    settings = re.compile(r"\bjax\.config\b|from jax import config|\benable_x64\(")

    if relative(path) != "common/cli.py":
        assert not settings.search(path.read_text()), f"{relative(path)} touches jax.config"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_has_one_subject_and_names_it(path: Path) -> None:
    text = path.read_text()

    assert text.count("\n") <= 400, f"{relative(path)} has {text.count(chr(10))} lines, at most 400"
    assert path.stem not in ("utils", "util", "helpers", "misc")
    assert ast.get_docstring(ast.parse(text)) or not text.strip(), "what is this file about?"
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    sizes = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    long = {name: lines for name, lines in sizes.items() if lines > 60}
    assert not long, f"{relative(path)}: functions of at most 60 lines, but {long}"


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.name)
def test_every_paper_has_the_same_files(paper) -> None:
    missing = [name for name in STANDARD_FILES if not (paper.folder / name).is_file()]

    assert not missing, f"{paper.name} lacks {missing}"
    assert paper.configs, f"{paper.name}/configs/ holds no config file"
    assert list((paper.folder / "results").glob("table*.json")), f"{paper.name} has no results"


def test_the_command_line_and_config_errors_load_nothing_heavy(child: Child) -> None:
    code = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = child(code, seconds=30)

    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_importing_a_module_queries_no_device_and_writes_no_file(
    child: Child, tmp_path: Path
) -> None:
    modules = [relative(path)[:-3].replace("/", ".") for path in SOURCES]
    names = [name.removesuffix(".__init__") for name in modules if ".configs." not in name]
    code = f"""
import importlib
for name in {names!r}:
    importlib.import_module(name)
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""
    env = {
        "HOME": str(tmp_path),
        "LAB_CACHE": str(tmp_path / "cache"),
        "MPLCONFIGDIR": "/dev/null/x",
    }
    done = child(code, cwd=tmp_path, env=env, seconds=60)

    assert done.stdout == "False\n", done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_committed_text_names_a_machine() -> None:
    command = ["git", "ls-files"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    private = re.compile(r"(?<![\w.])/(work|home|root|Users|farm)/\w")
    suffixes = {".py", ".md", ".toml", ".txt", ".json", ".yaml", ""}
    paths = [REPOSITORY / name for name in names.stdout.splitlines()]
    texts = [path for path in paths if path.suffix in suffixes and path.is_file()]

    assert texts
    assert [relative(path) for path in texts if private.search(path.read_text())] == []
