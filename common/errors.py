"""Errors that end a command with one line, with the nearest allowed key, and an exit code."""

import difflib
import errno
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What a system call says when storage is full or closed to us.
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
STORAGE_ERRORS += (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EIO, errno.ESTALE)


class LabError(Exception):
    """A failure explained in one line; the command line exits with `exit_code`."""

    exit_code = 1


class UserError(LabError):
    """A mistake in the config or on the command line."""

    exit_code = 2


class DoesNotFit(LabError):
    """The program needs more memory than the device has."""

    exit_code = 3


class NumericalError(LabError):
    """The loss or the state became NaN or infinite; the message names step and metric."""

    exit_code = 3


class DataError(LabError):
    """Data or storage is missing, corrupt, full or not writable."""

    exit_code = 4


class MissingData(DataError):
    """Data that nothing can fetch are not on this machine; what does not need them can go on."""

    exit_code = 5


class MissingPackage(MissingData):
    """A package of an extra is not installed; what does not need it can go on."""


class Interrupted(LabError):
    """Stopped by a signal; what there was is saved and the same command continues."""

    exit_code = 75


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Returns ' (did you mean "x"?)' for the closest of `allowed`, or '' if none is close."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""


def from_machine(error: BaseException) -> LabError | None:
    """Returns the one-line error for what only the machine can refuse: memory and storage."""
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return DataError(f"{error.filename or 'storage'}: {error.strerror}")
    if isinstance(error, MemoryError):
        return DoesNotFit(
            f"this machine has too little memory: {error or 'out of memory'}; lower sizes in "
            "config.data or config.batch_size, or end what else runs"
        )
    if type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error):
        said = str(error).splitlines()[0].rstrip(".")
        return DoesNotFit(
            f"the device has too little memory: {said}; lower config.batch_size or "
            "config.evaluate_chunk, or end what else runs on it"
        )
    return None


def shown(value: Any, limit: int = 100) -> str:
    """Returns `repr(value)`, its middle left out if it is longer than `limit` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return f"a {type(value).__name__} of more digits than can be written"
    return shortened(text, limit)


def shortened(text: str, limit: int = 100) -> str:
    """Returns a text with its middle left out if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}...({len(text):,} characters)...{text[-limit // 5 :]}"


def place(error: BaseException, file: Path | None = None) -> str:
    """Returns "Type: message (file.py, line 3)", for errors of code that is not ours.

    The place is the last one in `file`, by default the last outside libraries and `common/`. The
    message of a ValueError was written for people and stands alone if `file` is given.
    """
    text = shortened(" ".join(str(error).split()), 300)
    if isinstance(error, SyntaxError) or (file is not None and isinstance(error, ValueError)):
        return text  # a SyntaxError names file and line itself
    frames = traceback.extract_tb(error.__traceback__)
    folders = (Path(traceback.__file__).parent, Path(__file__).parent)
    libraries = ("site-packages", "<frozen", *map(str, folders))
    if file is None:
        frames = [f for f in frames if not any(part in f.filename for part in libraries)]
    else:
        frames = [f for f in frames if f.filename == str(file)]
    name = "" if file is not None or not frames else f"{Path(frames[-1].filename).name}, "
    where = f" ({name}line {frames[-1].lineno})" if frames else ""
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{text}{where}"
