"""How much memory a call adds at its peak, of a process on Linux; used with torch and without."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(call: Callable[[], Any]) -> float:
    """Returns the MiB that a call adds to the memory of this process at its peak."""
    ctypes.CDLL(None).malloc_trim(0)
    _RESET.write_text("5")  # the peak is counted from now on
    before = _mebibytes("VmRSS")
    call()
    return _mebibytes("VmHWM") - before


def _mebibytes(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024
