"""The file that training and the page share: its tables, and what is wrong with it in one line."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from common.errors import DataError, UserError

NAME = "labels.sqlite"  # in the run folder
APPLICATION, VERSION = 0x4C41424C, 1  # "LABL", and of the tables
WAIT_SECONDS = 20.0  # for the other side to finish a transaction
CHOICES = ("a", "b", "tie", "none")  # as they are kept, whatever side a clip was on
TABLES = """
CREATE TABLE runs (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  hash TEXT NOT NULL, name TEXT NOT NULL, facts TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE clips (
  id INTEGER PRIMARY KEY, step INTEGER NOT NULL, k INTEGER NOT NULL, content BLOB NOT NULL,
  sha256 TEXT NOT NULL, true_return REAL);
CREATE TABLE pairs (
  id INTEGER PRIMARY KEY, step INTEGER NOT NULL, slot INTEGER NOT NULL,
  clip_a INTEGER NOT NULL REFERENCES clips, clip_b INTEGER NOT NULL REFERENCES clips,
  priority INTEGER NOT NULL DEFAULT 0,
  source TEXT NOT NULL CHECK (source IN ('random', 'active', 'check', 'import')),
  expected TEXT, wants_second INTEGER NOT NULL DEFAULT 0, origin TEXT UNIQUE,
  answers INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, UNIQUE (step, slot));
CREATE INDEX open_pairs ON pairs (priority, id) WHERE answers = 0;
CREATE INDEX second_pairs ON pairs (id) WHERE answers = 1 AND wants_second = 1;
CREATE INDEX check_pairs ON pairs (id) WHERE source = 'check';
CREATE TABLE raters (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, error REAL, joined REAL NOT NULL);
CREATE TABLE showings (
  id INTEGER PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, pair INTEGER NOT NULL REFERENCES pairs,
  rater INTEGER NOT NULL REFERENCES raters, shown_at REAL NOT NULL, left_is_a INTEGER NOT NULL);
CREATE INDEX showings_of_pairs ON showings (pair, rater);
CREATE TABLE labels (
  id INTEGER PRIMARY KEY AUTOINCREMENT, pair INTEGER NOT NULL REFERENCES pairs,
  rater INTEGER NOT NULL REFERENCES raters, showing INTEGER UNIQUE REFERENCES showings,
  choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie', 'none')),
  answered_at REAL NOT NULL, latency_ms INTEGER, undone REAL);
CREATE UNIQUE INDEX one_answer ON labels (pair, rater) WHERE undone IS NULL;
CREATE INDEX labels_of_raters ON labels (rater, id);
CREATE TABLE steps (step INTEGER PRIMARY KEY, taken_at REAL NOT NULL);
CREATE TABLE taken (
  label INTEGER PRIMARY KEY REFERENCES labels, step INTEGER NOT NULL REFERENCES steps,
  place INTEGER);
CREATE INDEX taken_in_step ON taken (step);
CREATE TABLE learner (
  id INTEGER PRIMARY KEY CHECK (id = 1), step INTEGER NOT NULL, missing INTEGER NOT NULL,
  seen_at REAL NOT NULL);
"""


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turns an error of SQLite into a DataError of one line that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "readonly" in text or "unable to open" in text:
            why = "cannot be written: the disk is read-only, or the file is not ours"
        elif "not a database" in text or "malformed" in text:
            why = "is no store of labels, or is damaged"
        elif "full" in text:
            why = "cannot be written: the disk is full"
        else:
            why = f"cannot be used: {text}"
        raise DataError(f"{path}: {why}") from error


@contextlib.contextmanager
def opened(path: Path, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    """Gives a connection to a store, closed at the end.

    Raises:
        UserError: If there is none and `create` is false.
        DataError: If it is none, damaged, of another version, or cannot be written.
    """
    connection = connect(path, create=create)
    try:
        yield connection
    finally:
        connection.close()


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Returns a connection to a store, see `opened`."""
    if not create and not path.is_file():
        raise UserError(f"{path}: is not there: training that asks people makes it when it begins")
    with store_errors(path):
        connection = sqlite3.connect(
            path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, path, create)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, create: bool) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    if create:
        connection.execute("PRAGMA journal_mode = WAL")
        with writing(connection):
            if _is_empty(connection):
                for statement in TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("BEGIN")  # one look, whatever another process does meanwhile
    is_empty = _is_empty(connection)
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    )
    connection.execute("COMMIT")
    if is_empty:
        raise UserError(f"{path}: is empty: training has not begun to ask")
    if application != APPLICATION:
        raise DataError(f"{path}: is no store of labels")
    if version != VERSION:
        raise DataError(f"{path}: is a store of version {version}, expected {VERSION}")
    connection.execute("UPDATE learner SET id = id WHERE 0")  # fails where nothing can be written


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


@contextlib.contextmanager
def writing(connection: sqlite3.Connection, *, is_lasting: bool = True) -> Iterator[None]:
    """Holds the only place for a writer; all that happens inside is kept, or none of it.

    What is lasting is on the disk at the end. What is not survives the end of this process, but
    maybe not a power cut; it is on the disk with the next thing that is lasting.
    """
    connection.execute(f"PRAGMA synchronous = {'FULL' if is_lasting else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def now() -> float:
    """Returns the time in seconds, as all tables have it."""
    return time.time()
