"""A store of labels with pairs in it, for the tests of labelling."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf.labelling import store
from tests.rlhf.desk import fill


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder whose store has six pairs."""
    fill(tmp_path, 6)
    return tmp_path


@pytest.fixture
def desk(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the store in `folder`."""
    with store.opened(folder / store.NAME) as connection:
        yield connection
