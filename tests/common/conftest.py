"""Checkpoints on disk that tests of `common` share."""

import shutil
from pathlib import Path

import pytest
from absl import logging

from tests.common.states import make_state


@pytest.fixture
def logged_warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings logged during the test."""
    seen: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: seen.append(text % args))
    return seen


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 1 and 2, copied by the tests that damage it."""
    from common.checkpoints.checkpoint import Checkpoints

    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, make_state(1.0), extra={"offset": 10})
        checkpoints.save(2, make_state(2.0), extra={"offset": 20})
    return folder


@pytest.fixture
def saved_copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))
