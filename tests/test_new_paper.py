"""`lab new`: a paper that trains, fills its table and passes the tests of every paper at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from common.lab import new_paper
from tests.processes import REPOSITORY, Child

NAME = "landscape.toy"
# One process, which loads JAX once: a table whose runs are there only collects them.
SCRIPT = f"""
import pytest
from common.lab import cli
def lab(*words):
    assert cli.main([*words]) == 0, words
lab("new", "{NAME}")
tests = ("experiments", "configs", "results", "architecture", "cli", "setup")
files = [f"tests/test_{{name}}.py" for name in tests] + ["tests/landscape/test_toy.py"]
chosen = "toy or documents or imports_go or subject or same_shape or owner or settings"
assert pytest.main(["-q", "-p", "no:cacheprovider", *files, "-k", chosen]) == 0
for kind in ("cubic", "line"):
    lab("train", f"--config=landscape/toy/configs/fit.py:cpu,kind={{kind}}")
lab("table", "{NAME}", "fit")
"""


def copy_of_the_tree(folder: Path) -> None:
    """Copies what git knows or would, without pictures."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in names.stdout.splitlines():
        if (REPOSITORY / name).is_file() and not name.endswith(".png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / name)


@pytest.mark.slow  # half a minute: trainings, and six files of tests
def test_a_new_paper_trains_and_passes_the_tests_of_all_papers(
    child: Child, tmp_path: Path
) -> None:
    copy_of_the_tree(tmp_path)

    env = {"PYTHONPATH": str(tmp_path), "UPDATE_GOLDEN": "1"}
    done = child(SCRIPT, cwd=tmp_path, env=env, seconds=600)  # begun anew it finds its own folder

    assert done.returncode == 0, done.stdout + done.stderr
    for check in (("check",), ("format", "--check")):
        ruff = [sys.executable, "-m", "ruff", *check, "landscape", "tests/landscape"]
        said = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout
    assert "The cubic has a lower test error than the line" in done.stdout
    assert (tmp_path / "tests/golden/landscape.toy.fit.json").is_file()
    assert "landscape.toy" in (tmp_path / "WORKSPACE.md").read_text()
    assert list((tmp_path / "landscape/toy/results").glob("*.png"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "nfn/old").mkdir(parents=True)
    monkeypatch.setattr(new_paper, "REPOSITORY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nfn.old", ("nfn/old is there already",)),
        ("nfm.new", ("topic 'nfm'", 'did you mean "nfn"', "sciml", "TOPICS")),
        ("nfn", ("'nfn'", "TOPIC.PAPER")),
        ("nfn.New-Paper", ("'nfn.New-Paper'", "lower-case")),
        ("nfn.lambda", ("'nfn.lambda'", "TOPIC.PAPER")),
        ("nfn.a.b", ("'nfn.a.b'", "TOPIC.PAPER")),
    ],
)
def test_a_name_that_will_not_do_is_one_line_and_nothing_is_written(
    checkout: Path, name: str, parts: tuple[str, ...]
) -> None:
    before = set(checkout.rglob("*"))

    with pytest.raises(UserError) as error:
        new_paper.create(name)

    assert all(part in str(error.value) for part in parts), error.value
    assert set(checkout.rglob("*")) == before


def test_a_skeleton_is_written_whole_or_not_at_all(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = set(checkout.rglob("*")), Path.write_text
    count = iter(range(100))

    def fails_late(path: Path, text: str) -> int:
        if next(count) == 5:
            raise KeyboardInterrupt
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", fails_late)
    with pytest.raises(KeyboardInterrupt):
        new_paper.create("rlhf.new")
    assert set(checkout.rglob("*")) == before
    monkeypatch.undo()


def test_outside_a_checkout_there_is_no_place_for_a_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_paper, "REPOSITORY", tmp_path)
    with pytest.raises(UserError, match="checkout"):
        new_paper.create("nfn.new")
