"""Looking after run folders: pruning checkpoints, and runs that never made a step."""

import contextlib
import fcntl
from pathlib import Path

from common.checkpoints import manifest
from common.errors import UserError
from common.files.storage import locked, remove, storage_errors, user_path
from common.run_folders.records import FILES
from common.runs import read


def failed_starts(workdir: str | Path) -> list[Path]:
    """Returns the folders below `workdir` of runs that ended before they saved or logged a step.

    One that another process is starting just now is not among them.
    """
    folders = sorted(path for path in user_path(workdir).glob(FILES) if path.is_dir())
    return [path for path in folders if _is_empty(path) and not is_in_use(path)]


def prune(path: str | Path, *, keep: int = 1, dry_run: bool = False) -> list[str]:
    """Removes a run's checkpoints but the newest `keep` and the best.

    The newest valid checkpoint always stays. What a restore refused, and what dead processes left,
    is removed too.

    Args:
        path: Run folder.
        keep: How many of the newest to keep.
        dry_run: Remove nothing.

    Returns:
        The names in `checkpoints/` that were removed, or would be.

    Raises:
        UserError: If it is no run folder, or another process trains this run.
        DataError: If something cannot be removed.
    """
    path = read(path).path
    checkpoints = path / "checkpoints"
    if dry_run:
        if is_in_use(path):
            raise UserError(f"the run {path} is being run by another process")
        stale = [*manifest.stale(checkpoints), *manifest.refused(checkpoints)]
        steps = manifest.superfluous(checkpoints, keep)
        return [*map(str, steps), *(folder.name for folder in stale)]
    with locked(path, f"the run {path}"), storage_errors(checkpoints):
        removed = manifest.clean(checkpoints)
        for folder in manifest.refused(checkpoints):
            remove(folder)
            removed.append(folder.name)
        return [*map(str, manifest.prune(checkpoints, keep)), *removed]


def remove_failed_start(path: Path) -> bool:
    """Removes the folder of a run that saved and logged nothing; returns whether it still was one.

    Raises:
        UserError: If another process starts this run.
        DataError: If it cannot be removed.
    """
    with locked(path, f"the run {path}"), storage_errors(path):
        if not _is_empty(path):
            return False
        remove(path)
    for folder in path.parents[:3]:  # of its config, experiment and paper, if nothing else is there
        with contextlib.suppress(OSError):
            folder.rmdir()
    return True


def is_in_use(path: Path) -> bool:
    """Returns whether a process trains the run in this folder now; takes and makes nothing."""
    try:
        with (path / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_empty(path: Path) -> bool:
    """Returns whether a run folder holds nothing that a step has made."""
    checkpoints, metrics = path / "checkpoints", path / "metrics.jsonl"
    started = [path / "config.json", path / "environment.json", path / "lock", checkpoints, metrics]
    if set(path.iterdir()) - set(started) or (checkpoints.is_dir() and any(checkpoints.iterdir())):
        return False
    return not metrics.exists() or metrics.stat().st_size == 0
