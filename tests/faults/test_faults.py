"""A small sample of every fault in the default suite, each at full size as a slow test."""

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.checkpoints import chatter
from tests.faults.run import faults
from tests.processes import run_child

START = "import sys; from tests.faults import run; run.FLAGS(['run', *sys.argv[1:]]); run.main()"


def counts(tmp_path: Path, *words: str, seconds: float) -> dict:
    """Returns the counts of faults that a process of its own injected; it fails if any is bad."""
    out = tmp_path / "faults.json"
    done = run_child(
        START, f"--out={out}", f"--workdir={tmp_path / 'runs'}", *words, seconds=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())["faults"]


CHEAP = ("damaged checkpoints", "wrong command lines", "parsers")


@pytest.mark.parametrize(
    "names", [CHEAP, pytest.param((*faults(sample=True),), id="all", marks=pytest.mark.slow)]
)
def test_a_sample_of_faults_loses_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = counts(tmp_path, "--sample", f"--only={','.join(names)}", seconds=400)

    assert found.keys() == {*names}
    damaged = found["damaged checkpoints"]
    assert damaged["refused"] + damaged["harmless"] == damaged["trials"] == 20
    assert damaged["refused"] > 10
    assert not found["wrong command lines"]["jax_was_loaded"]
    assert found["parsers"]["inputs"] >= 60 and not found["parsers"].get("failures")
    if names != CHEAP:
        assert found["hostile archives"]["files"] >= 30
        lost = found["a lost one of 2 processes"]
        assert lost["clear"] == lost["resumed"]["1"]["bitwise"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", faults(sample=False))
def test_a_fault_at_full_size_loses_nothing(tmp_path: Path, name: str) -> None:
    found = counts(tmp_path, f"--only={name.split(',')[0]}", seconds=3_000)
    assert any(name.startswith(key.split(",")[0]) for key in found)


def test_what_comes_late_of_a_failed_save_is_not_printed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", passed.append)
    chatter.silence()
    chatter.silence()
    late = SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
    ours = SimpleNamespace(exc_value=RuntimeError("a bug"))
    for one in (late, ours):
        sys.unraisablehook(one)  # type: ignore[arg-type]

    assert passed == [ours]


def test_an_odd_text_of_a_field_is_refused_without_a_warning_of_python() -> None:
    from common.values import literal

    with warnings.catch_warnings(action="error"):
        assert literal("[1or 2]", "none") == "none"
        assert literal("'\\:'", "none") == "\\:"
