"""Run folders: where a run lives, and what it says about itself.

    <workdir>/<paper>/<experiment>/<hash12>/seed<k>/
        config.json environment.json metrics.jsonl result.json checkpoints/

A seed group trains in `seeds<a>-<b>/` and writes one result.json into each `seed<k>/`. Importing
this module does not import JAX.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from common.checkpoints import manifest
from common.config import config_hash, from_json
from common.errors import DataError, LabError, UserError
from common.files import json_files
from common.files.json_files import NUMBER, PLAIN, read_json, write_json
from common.files.storage import locked, user_path
from common.provenance.environment import environment
from common.provenance.places import FOLDER_FROM_RUN, moved_along
from common.seeds import run_name

FILES = "*/*/*/seed*"  # where run folders are in a work folder
_METRIC = (float, int, str, None)  # what is not finite may be a word
_METRICS = {str: (*_METRIC, [_METRIC])}  # of a seed group a list
# Form of every result; `common.files.json_files` says how to read it.
RESULT = {
    "status": str,
    "config_hash": str,
    "metrics": {"last": _METRICS, "best?": (_METRICS, None)},
    "step?": int,
    "best_step?": (int, None),
    "seed?": int,
    "group?": str,
    "wall_time_s?": NUMBER,
    "code?": {str: str},
    "earlier_code?": [{str: str}],
    "init_from?": {str: PLAIN},
    "config?": {str: PLAIN},
    "data?": {str: PLAIN},
    "environment?": {"earlier_sessions?": [{str: PLAIN}]},
}


class Run(NamedTuple):
    """What a run folder says; `result` is None until the run is complete."""

    path: Path
    config: ConfigDict
    environment: dict[str, Any]
    result: dict[str, Any] | None

    def __repr__(self) -> str:
        return f"<run {self.path}>"


def run_directory(workdir: str | Path, config: ConfigDict) -> Path:
    """Returns the folder in which this config trains with its seed (or seed group)."""
    left, _, name = config.experiment.rpartition(":")
    paper = Path(config.config_dir).name or "root" if left.endswith(".py") else left
    return user_path(workdir) / paper / name / config_hash(config) / run_name(config)


def find(workdir: str | Path) -> list[Run]:
    """Returns the runs below `workdir`, the most recently started last.

    A run folder with a damaged file is left out, with a warning.
    """
    started = {path: _started(path) for path in user_path(workdir).glob(FILES)}
    found = []
    for path in sorted(started, key=lambda path: (started[path], path)):
        if started[path] or manifest.steps(
            path / "checkpoints"
        ):  # else a member, or a failed start
            try:
                found.append(read(path))
            except LabError as error:
                logging.warning("run left out: %s", error)
    return found


def read(path: str | Path) -> Run:
    """Returns what a run folder says about itself.

    Raises:
        UserError: If it is no run folder.
        DataError: If one of its files is damaged or was edited.
    """
    path = user_path(path)
    if not os.path.isfile(path / "config.json"):  # Path.is_file raises for long names
        member = read_result(path) or {}
        if "group" in member:
            group = path.parent / member["group"]
            raise UserError(f"{path}: is a seed of the group {group}; give that folder")
        raise UserError(f"{path}: is no run folder, it has no config.json; see `lab runs list`")
    settings = read_json(path / "config.json")
    try:
        config = from_json(json.dumps(settings))
    except (ValueError, TypeError, KeyError, AttributeError, UserError) as error:
        raise DataError(f"{path / 'config.json'}: is damaged: {error}") from error
    file = path / "environment.json"
    made_with = read_json(file) if file.exists() else {}
    config = moved_along(config, path, settings.get(FOLDER_FROM_RUN))
    return Run(path, config, made_with, read_result(path))


def read_result(path: Path) -> dict[str, Any] | None:
    """Returns the result.json of a run folder, None if there is none.

    Raises:
        DataError: If it is damaged or was edited.
    """
    file = path / "result.json"
    if not file.exists():
        return None
    result = read_json(file)
    wrong = json_files.fault(result, {**RESULT, "step": int})
    if not wrong and json_files.is_edited(result):
        wrong = "it was changed after the run had written it"
    if wrong:
        raise DataError(
            f"{file}: is damaged: {wrong}; remove it, and the command that trained the run "
            "writes it again from the checkpoints"
        )
    return result


@contextlib.contextmanager
def claim(directory: Path) -> Iterator[None]:
    """Holds the run folder, made if it is missing, so that no second process trains the same run.

    Raises:
        UserError: If another process holds it.
        DataError: If the folder cannot be written.
    """
    from common.devices import distributed

    if not distributed.is_lead():
        yield
        return
    with locked(directory, f"the run {directory}"):
        yield


def record_environment(directory: Path, command: Sequence[str]) -> None:
    """Writes environment.json; of a run that is continued, with the sessions before this one.

    Raises:
        DataError: If the file cannot be written.
    """
    path, facts = directory / "environment.json", environment(command)
    if path.exists() and manifest.steps(directory / "checkpoints"):
        try:
            before = read_json(path)
            earlier = before.pop("earlier_sessions", [])
            facts["earlier_sessions"] = [*(earlier if isinstance(earlier, list) else []), before]
        except DataError as error:
            logging.warning("earlier sessions are not recorded: %s", error)
    write_json(path, facts)


def _started(path: Path) -> int:
    """Returns when the run in a folder was started last, 0 if it has no config."""
    try:
        return (path / "config.json").lstat().st_mtime_ns
    except OSError:
        return 0
