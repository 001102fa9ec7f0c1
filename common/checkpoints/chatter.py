"""What the array library prints that nobody can use: its progress, and tracebacks of our errors."""

import logging
import sys
from typing import Any

_before: Any = None


def silence() -> None:
    """Keeps it from the terminal, in this process from now on."""
    global _before
    logging.getLogger("absl").addFilter(_is_not_chatter)
    if sys.unraisablehook is not _hook:
        _before, sys.unraisablehook = sys.unraisablehook, _hook


def _is_not_chatter(record: logging.LogRecord) -> bool:
    """Drops what orbax logs of its progress, and its tracebacks of errors that we raise."""
    return "/orbax/" not in record.pathname or record.levelno == logging.WARNING


def _hook(late: Any) -> None:
    """Drops what threads of the library find when a save has failed and they come later.

    On a full disk every array that is still on its way would print a traceback.
    """
    error = late.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        _before(late)
