"""Files that are whole or absent: locks between processes, checksums, atomic publishing."""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

from absl import logging

from common.errors import DataError, UserError

_BLOCK = 1 << 20


def user_path(text: str | Path, field: str = "") -> Path:
    """Returns a path as people write it, "~" at its start being their home directory.

    A `Path` that does not start with "~" alone is as it is: it may be a folder's real name.

    Args:
        text: The path.
        field: What asks for it, for the message: "--workdir", "LAB_CACHE".

    Raises:
        UserError: If there is no such home directory.
    """
    written = os.fspath(text)
    if not written.startswith("~") or (isinstance(text, Path) and text.parts[0] != "~"):
        return Path(text)
    expanded = os.path.expanduser(written)
    if expanded == written:
        home = written.partition("/")[0]
        given = f"{field}={written!r}" if field else repr(written)
        raise UserError(f"{given}: no home directory {home} is known here; a folder: ./{home}")
    return Path(expanded)


def user_folder(variable: str, name: str) -> Path:
    """Returns the folder an environment variable names, else `~/.cache/jax-paper-lab/<name>`.

    $LAB_CACHE stands for `~/.cache/jax-paper-lab`: what is in it has the same names in both.

    Raises:
        DataError: If the variable is unset and there is no home directory.
        UserError: If it starts with the name of a home directory that is not known.
    """
    chosen = os.environ.get(variable)
    if chosen:
        folder = user_path(chosen, variable)
        return folder / name if variable == "LAB_CACHE" else folder
    try:
        return Path.home() / ".cache" / "jax-paper-lab" / name
    except RuntimeError as error:
        raise DataError(
            f"no home directory to put {name or 'files'} in: set {variable} to a folder"
        ) from error


def regular_bytes(path: Path) -> bytes:
    """Returns the content of a file; a pipe or a device, which may never end, is an OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return path.read_bytes()


def remove(path: Path) -> None:
    """Deletes a file or a folder with all that is in it; of a symbolic link the link only."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def check_writable(folder: Path) -> None:
    """Checks, before long work, that a folder can be written, or made where it is not there.

    Raises:
        DataError: Naming the first thing on its path that stands in the way.
    """
    there = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    if not os.path.isdir(there):
        raise DataError(f"{there}: is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"{there}: may not be written")


@contextlib.contextmanager
def storage_errors(path: Path) -> Generator[None, None, None]:
    """Turns an OSError (disk full, no permission, ...) into a DataError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's: gzip and others use the class for bad content
            raise
        where = error.filename or path
        raise DataError(f"{where}: cannot be used as storage: {error.strerror}") from error


@contextlib.contextmanager
def lock(path: Path, *, wait: bool = True) -> Generator[None, None, None]:
    """Holds an exclusive lock on the file `path` (made if missing, with its folder).

    The kernel releases it when the process dies, however that happens; the empty file stays.

    Raises:
        BlockingIOError: If another process holds it and `wait` is false.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with storage_errors(path):
            is_held = _try_lock(descriptor)
            if not is_held and wait:
                logging.info("waiting for another process that holds %s", path)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not is_held and not wait:
            raise BlockingIOError(f"another process holds {path}")
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Generator[None, None, None]:
    """Holds the lock of a folder (made if missing), so that no second process does the same.

    Raises:
        UserError: If another process holds it.
        DataError: If the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / "lock", wait=False))
        except BlockingIOError:
            raise UserError(
                f"{what} is being run by another process (lock: {folder}/lock)"
            ) from None
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Returns the checksum of a file in hex; md5 only against accidents, never against attacks."""
    with path.open("rb") as stream:
        return stream_digest(stream, algorithm)


def stream_digest(stream: io.BufferedIOBase, algorithm: str = "sha256") -> str:
    """Returns the checksum in hex of all that is left in a stream."""
    checksum = hashlib.new(algorithm, usedforsecurity=False)
    while block := stream.read(_BLOCK):
        checksum.update(block)
    return checksum.hexdigest()


def sync(path: Path) -> None:
    """Forces a file or the entries of a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, target: Path) -> None:
    """Gives a finished file or flat folder its name; readers see all of it or nothing.

    Both paths lie in one file system; a target that is a folder must not exist.
    """
    if temporary.is_dir():
        for path in temporary.iterdir():
            sync(path)
    sync(temporary)
    temporary.replace(target)
    sync(target.parent)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old content or all of the new; makes its folder.

    Raises:
        DataError: If it cannot be written; the old content is intact.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
