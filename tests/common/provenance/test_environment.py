"""What stands below every result: versions, commit, uncommitted changes, machine."""

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from common.provenance.environment import environment, has_changes
from tests.processes import REPOSITORY


def test_environment_names_commit_versions_and_machine() -> None:
    facts = environment(["lab", "train"])
    git = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    assert facts["commit"] == (done.stdout.strip() if done.returncode == 0 else None)
    assert facts["packages"]["jax"] == metadata.version("jax")
    assert facts["cpu_count"] >= 1 and facts["devices"].startswith("1 x ")
    assert json.loads(json.dumps(facts)) == facts


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment([])["commit"] is None


@pytest.mark.parametrize(
    ("path", "text", "counts"),
    [
        ("code.py", "x = 2", True),
        ("paper/results/1.cpu.json", "{}", False),  # written by the table before
        ("results/loop.json", "{}", False),
        ("new.py", "y = 1", True),
        ("notes.txt", "untracked", False),
    ],
)
def test_results_are_no_uncommitted_changes_but_code_is(
    tmp_path: Path, path: str, text: str, counts: bool
) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for name in ("code.py", "paper/results/1.cpu.json", "results/loop.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    assert not has_changes(tmp_path)

    (tmp_path / path).write_text(text)
    assert has_changes(tmp_path) == counts
