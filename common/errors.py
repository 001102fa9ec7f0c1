"""Errors that end a command with one line and an exit code, never with a traceback."""

import difflib
from collections.abc import Iterable


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


class Interrupted(LabError):
    """Stopped by a signal; what there was is saved and the same command continues."""

    exit_code = 75


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Returns ' (did you mean "x"?)' for the closest of `allowed`, or '' if none is close."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""
