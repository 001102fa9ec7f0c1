"""Checkpoint folders on disk: which steps are there, and proof that their bytes are as written.

    <checkpoints>/<step>/MANIFEST.json  size and SHA-256 of every file, leaves, extra, own digest
    <checkpoints>/<step>/...            what the array library wrote
    <checkpoints>/tmp-<step>-<pid>/     being written; renamed to <step> when complete
    <checkpoints>/refused-<step>/       failed verification; kept until `lab runs prune`

Names found in a manifest are compared with those in the folder and never become paths. Nothing
here needs JAX, so that `lab runs` answers at once.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from common.files import json_files, nonfinite
from common.files.storage import regular_bytes, remove, sync

NAME = "MANIFEST.json"
ARRAYS = "state/manifest.ocdbt"  # the array library's list of all arrays, which it writes last
FORMAT = 1
_TEMPORARY = re.compile(r"tmp-(\d+)-(\d+)")


class Leaf(NamedTuple):
    """Path ("params/dense/kernel"), shape and dtype of one array of the state."""

    path: str
    shape: tuple[int, ...]
    dtype: str


class Manifest(NamedTuple):
    """What a checkpoint says of itself; `files` maps names to (bytes, SHA-256)."""

    step: int
    best: bool
    leaves: tuple[Leaf, ...]
    extra: dict[str, Any]
    files: dict[str, tuple[int, str]]


class InvalidManifestError(Exception):
    """The manifest is missing, unreadable or not what was written; says which."""


def plain(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of `extra` as JSON stores it: lists for tuples, numbers for 0-d arrays.

    What is not finite becomes a string, and a number again when it is read (`nonfinite`).

    Raises:
        TypeError: If a value cannot be stored as JSON.
    """

    def convert(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(f"extra holds a {type(value).__name__}; JSON stores plain values only")

    return nonfinite.to_json(json.loads(json.dumps(dict(extra), default=convert)))


def write(
    folder: Path, *, step: int, best: bool, leaves: Sequence[Leaf], extra: Mapping[str, Any]
) -> None:
    """Seals a folder: hashes and fsyncs every file in it, then writes the manifest, fsynced.

    Raises:
        OSError: If the storage fails.
    """
    files: dict[str, tuple[int, str]] = {}
    for name, path in _walk(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            files[name] = (file.tell(), digest)
    content = {
        "format": FORMAT,
        "step": step,
        "best": best,
        "leaves": [leaf._asdict() for leaf in leaves],
        "extra": dict(extra),
        "files": {name: {"bytes": n, "sha256": d} for name, (n, d) in files.items()},
    }
    with (folder / NAME).open("w", encoding="utf-8") as file:
        json.dump({**content, "digest": json_files.digest(content)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for parent, _, _ in os.walk(folder):
        sync(Path(parent))


def commit(folder: Path, step: int) -> None:
    """Renames a sealed folder to `<step>`, replacing an older checkpoint of the same step.

    Killed at any moment, either checkpoint survives: `clean` finishes an interrupted replacement.
    """
    target = folder.parent / str(step)
    replaced = _move_aside(target) if os.path.lexists(target) else None
    folder.rename(target)
    sync(target.parent)
    if replaced is not None:
        remove(replaced)


def read(folder: Path) -> Manifest:
    """Returns the manifest of a checkpoint folder; the files themselves are not looked at.

    Raises:
        InvalidManifestError: If it is missing, damaged, or that of another step.
    """
    try:
        content = json_files.parse(regular_bytes(folder / NAME))
    except FileNotFoundError:
        raise InvalidManifestError(f"{NAME} is missing") from None
    except (OSError, ValueError) as error:
        raise InvalidManifestError(f"{NAME} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.pop("digest", None) != json_files.digest(content):
        raise InvalidManifestError(f"{NAME} does not match its own digest")
    if content.get("format") != FORMAT:
        raise InvalidManifestError(f"{NAME} has format {content.get('format')}, expected {FORMAT}")
    try:
        if not isinstance(content["extra"], dict):
            raise TypeError("extra is no object")
        manifest = Manifest(
            step=content["step"],
            best=content["best"],
            leaves=tuple(
                Leaf(leaf["path"], tuple(leaf["shape"]), leaf["dtype"])
                for leaf in content["leaves"]
            ),
            extra=nonfinite.from_json(content["extra"]),
            files={name: (f["bytes"], f["sha256"]) for name, f in content["files"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidManifestError(f"{NAME} lacks a field: {error!r}") from error
    named = _step_of(folder)
    if named is not None and named != manifest.step:
        raise InvalidManifestError(f"{NAME} is that of step {manifest.step}")
    return manifest


def problem(folder: Path) -> str | None:
    """Returns why a checkpoint must not be used, naming the file, or None if all bytes are good.

    Files that the manifest does not list are ignored.
    """
    try:
        manifest = read(folder)
    except InvalidManifestError as error:
        return str(error)
    if manifest.leaves and ARRAYS not in manifest.files:
        return f"{ARRAYS} was never written: its arrays cannot be read back"
    present = dict(_walk(folder))
    for name, (size, _) in manifest.files.items():
        if name not in present or not present[name].exists():
            return f"{name} is missing"
        if not present[name].is_file():  # reading a pipe or a device may never end
            return f"{name} is no regular file"
        found = present[name].stat().st_size
        if found != size:
            return f"{name} has {found} bytes instead of {size}"
    for name, (_, digest) in manifest.files.items():
        try:
            with present[name].open("rb") as file:
                matches = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if not matches:
            return f"{name} does not match its SHA-256"
    return None


def steps(directory: Path) -> tuple[int, ...]:
    """Returns the steps with a committed checkpoint, ascending."""
    found = (_step_of(path) for path in _entries(directory))
    return tuple(sorted(step for step in found if step is not None))


def best_step(directory: Path) -> int | None:
    """Returns the newest step that was saved as the best so far, None without one."""
    for step in reversed(steps(directory)):
        try:
            if read(directory / str(step)).best:
                return step
        except InvalidManifestError as error:
            logging.debug("step %d cannot be the best: %s", step, error)
    return None


def newest(directory: Path) -> Manifest | None:
    """Returns the manifest of the newest checkpoint that has a good one, None without one."""
    for step in reversed(steps(directory)):
        with contextlib.suppress(InvalidManifestError):
            return read(directory / str(step))
    return None


def newest_extra(directory: Path) -> dict[str, Any]:
    """Returns what was saved with the newest checkpoint whose manifest is good, {} without one."""
    found = newest(directory)
    return found.extra if found else {}


def verify(directory: str | Path) -> dict[int, str | None]:
    """Returns {step: None if every byte is as written, else the reason} of all checkpoints."""
    directory = Path(directory)
    return {step: problem(directory / str(step)) for step in steps(directory)}


def prune(directory: Path, keep_last: int, *, trusted: int | None = None) -> tuple[int, ...]:
    """Deletes all but the newest `keep_last` checkpoints and the best; returns the deleted steps.

    The newest valid checkpoint is never deleted.

    Args:
        directory: Folder of the checkpoints.
        keep_last: How many of the newest to keep, at least 1.
        trusted: A step known to be valid, which saves verifying; it is kept.
    """
    deleted = superfluous(directory, keep_last, trusted=trusted)
    for step in deleted:
        remove(_move_aside(directory / str(step)))
    return deleted


def superfluous(directory: Path, keep_last: int, *, trusted: int | None = None) -> tuple[int, ...]:
    """Returns the steps that `prune` deletes, with the same arguments."""
    newest = steps(directory)[::-1]
    keep = {*newest[: max(keep_last, 1)], best_step(directory), trusted}
    if trusted is None:
        keep.add(next((s for s in newest if problem(directory / str(s)) is None), None))
    return tuple(step for step in newest if step not in keep)


def refuse(directory: Path, step: int) -> str:
    """Moves a checkpoint out of the way and returns its new name; nothing is deleted."""
    name, copies = f"refused-{step}", 1
    while (directory / name).exists():
        copies += 1
        name = f"refused-{step}-{copies}"
    (directory / str(step)).rename(directory / name)
    return name


def refused(directory: Path) -> tuple[Path, ...]:
    """Returns the folders that `refuse` moved away."""
    return tuple(p for p in _entries(directory) if re.fullmatch(r"refused-\d+(-\d+)?", p.name))


def clean(directory: Path) -> list[str]:
    """Removes what writers left that are dead, or were this process; complete ones are committed.

    A folder has one writer at a time, so that what this process left there is stale as well.

    Returns:
        The names of what was removed.
    """
    removed = []
    for path in stale(directory):
        match = _TEMPORARY.match(path.name)
        assert match is not None
        step = int(match[1])
        sealed = match[0] == path.name and (path / NAME).exists()
        if sealed and not (directory / str(step)).exists() and problem(path) is None:
            commit(path, step)
            logging.info("finished the interrupted checkpoint of step %d", step)
        else:
            remove(path)
            removed.append(path.name)
    return removed


def stale(directory: Path) -> tuple[Path, ...]:
    """Returns what writers left in their midst that are dead, or were this process."""
    matches = ((path, _TEMPORARY.match(path.name)) for path in _entries(directory))
    return tuple(path for path, match in matches if match and not _is_running(int(match[2])))


def _move_aside(folder: Path) -> Path:
    """Renames what is about to be deleted, so that no half of it looks like a checkpoint."""
    aside = folder.with_name(f"tmp-{folder.name}-{os.getpid()}-deleted")
    if os.path.lexists(aside):  # left when an earlier deletion failed
        remove(aside)
    return folder.rename(aside)


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields (name relative to `folder`, path) of every file but the manifest itself."""
    for parent, _, names in sorted(os.walk(folder)):
        for file in sorted(names):
            path = Path(parent, file)
            name = path.relative_to(folder).as_posix()
            if name != NAME:
                yield name, path


def _step_of(folder: Path) -> int | None:
    canonical = re.fullmatch(r"0|[1-9]\d{0,17}", folder.name, flags=re.ASCII)
    return int(folder.name) if canonical else None


def _is_running(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
