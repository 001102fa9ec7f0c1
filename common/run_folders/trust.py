"""Whether a run is still the one it was: its config, its code, the weights that it began from."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from common.checkpoints import manifest
from common.config import config_hash, describe_diff
from common.errors import DataError, UserError
from common.files import json_files
from common.files.json_files import PLAIN, read_json
from common.files.storage import digest, storage_errors, user_path
from common.provenance import source
from common.run_folders.records import Run, read_result

WEIGHTS = "init_from"  # what checkpoints and result.json say of the weights a run began from
NOTES = {"code?": {str: str}, f"{WEIGHTS}?": {str: PLAIN}}


def check_unchanged(run: Run, *, allow_changed_code: bool = False) -> None:
    """Checks that config and code of a run are those it was made with, before the code is run.

    Args:
        run: What its folder says now.
        allow_changed_code: Only warn of code that has changed.

    Raises:
        DataError: If config.json is not that of the run.
        UserError: If the code has changed, or lies in the run folder itself.
    """
    made = _check_config(run)
    place = source.builder(run.config)
    if place is not None and run.path.resolve() in place.resolve().parents:
        raise UserError(
            f"{run.path}: names code in its own folder, {place}, which is not run: a run may come "
            "from others; move the code elsewhere if you trust it"
        )
    if made:
        code = source.Code(source.digests(run.config), allow_changed_code)
        code.check(run.path, made.get("code"))


def finished(directory: Path, config: ConfigDict, code: source.Code) -> dict[str, Any] | None:
    """Returns the result of a run of this config that is complete, None if something is to be done.

    That is also so if its code has changed, which is allowed: its metrics are to be computed again.

    Args:
        directory: Run folder, which may be missing.
        config: Config of the run.
        code: Its code now, and whether it may be other code than that of the run.

    Raises:
        UserError: If it was made by other code and that is not allowed.
        DataError: If one of its files is damaged or was edited, or it began from other weights.
    """
    result = read_result(directory)
    if result is None or result["status"] != "complete":
        return None
    if result["config_hash"] != config_hash(config):
        return None
    if (directory / "config.json").is_file():
        _check_config(Run(directory, config, {}, result))
    check_weights([(config.init_from, result)])
    began = result.get("code")
    same_place = result.get("config", {}).get("config_dir") == config.config_dir
    if began is None and ".py:" in config.experiment and not same_place:
        began = {}  # of two users' "experiment.py:build" it may be either
    has_last = config.num_steps in manifest.steps(directory / "checkpoints")
    if code.may_change and has_last and source.changes(began or code.files, code.files):
        logging.info("its metrics are computed again by the code of now")
        return None
    if code.check(directory, began):
        logging.warning("its last checkpoint is gone: these are its old metrics")
    return result


def began_with(directory: Path) -> dict[str, Any]:
    """Returns what the newest good checkpoint of a run says of its code and weights, and the rest.

    Raises:
        DataError: If that is not what the loop writes.
    """
    found = manifest.newest_extra(directory / "checkpoints")
    wrong = json_files.fault(found, NOTES)
    if wrong:
        raise DataError(f"{directory / 'checkpoints'}: is not that of a run: {wrong}")
    return found


def check_weights(began: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Checks that files of weights are those that runs began from; one that is gone is not needed.

    Args:
        began: `config.init_from` of every run, and what its checkpoint or result says.

    Raises:
        DataError: Naming the first that is another file.
    """
    found = {(start, made.get(WEIGHTS, {}).get("sha256")) for start, made in began}
    for start, recorded in found:
        file = user_path(start)
        if recorded is None or not os.path.isfile(file):
            continue
        with storage_errors(file):
            here = digest(file)
        if here != recorded:
            raise DataError(
                f"config.init_from={start!r}: the run began from another file, of sha256 "
                f"{recorded[:12]}, this one has {here[:12]}; bring it back, or start again with "
                "another --workdir"
            )


def _check_config(run: Run) -> dict[str, Any]:
    """Returns what a run recorded of itself, having checked that its config.json agrees."""
    made = run.result or began_with(run.path)
    written = read_json(run.path / "config.json")  # without fields that the loop gained since
    settings = {k: v for k, v in written.items() if not k.startswith("config_dir")}  # may move
    now = {"seed": settings.get("seed"), "config_hash": config_hash(settings)}
    if any(made.get(name, value) != value for name, value in now.items()):
        before = made.get("config", {})
        changed = describe_diff(before, written) if before else {}
        fields = f": {', '.join(changed)}" if changed else ""
        raise DataError(
            f"{run.path / 'config.json'}: was edited, it is not the config of this run{fields}; "
            "bring it back"
        )
    return made
