"""The memory of this machine: how much is left for this process, and that it keeps what it frees.

The C library of Linux gives blocks of megabytes back to the system as soon as they are free, so a
program that is called again and again pays for every page of its temporaries at every call. Numbers
are not changed.
"""

import ctypes
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

# Names in malloc.h of glibc, and what they are set to: the first value that it takes.
SETTINGS = {
    # Bytes from which a block is a mapping of its own; older ones take 32 MiB at most.
    "M_MMAP_THRESHOLD": (-3, (2**31 - 1, 2**25)),
    "M_TRIM_THRESHOLD": (-1, (2**31 - 1,)),  # free bytes at the end that go back to the system
    "M_ARENA_MAX": (-8, (1,)),  # heaps, in which other threads would keep memory of their own
}


def keep_freed_memory() -> bool:
    """Tells glibc to keep what this process frees; returns whether it was told.

    Not where another C library is, nor where a variable MALLOC_... already says how.
    """
    is_glibc = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {})
    if not is_glibc or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    tell = ctypes.CDLL(None).mallopt
    taken = [any(tell(name, value) for value in values) for name, values in SETTINGS.values()]
    return all(taken)


def left(root: Path = Path("/")) -> int | None:
    """Returns the bytes that this process can still take, as far as Linux says it; None elsewhere.

    The least of what is free on the machine, swap too, in the control groups of the process (of
    containers and Slurm jobs), and below its own limits (`ulimit -d`, `ulimit -v`).

    Args:
        root: Where /proc and /sys are; for tests.
    """
    free = _numbers(root / "proc/meminfo", scale=1024)
    found = [free["MemAvailable"] + free.get("SwapFree", 0)] if "MemAvailable" in free else []
    own = _numbers(root / "proc/self/status", scale=1024)
    for limit, used in (("RLIMIT_DATA", "VmData"), ("RLIMIT_AS", "VmSize")):
        most = resource.getrlimit(getattr(resource, limit))[0]
        if most >= 0 and used in own:  # -1: no limit
            found.append(most - own[used])
    found += _left_in_groups(root)
    return max(0, min(found)) if found else None


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yields what every control group around this process still allows; version 2 and 1."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
        folder = top / path.lstrip("/")
        for group in {top, folder, *(p for p in folder.parents if p.is_relative_to(top))}:
            most, used = (_text(group / name).strip() for name in names[:2])
            if most.isdigit() and used.isdigit():
                # Pages of files that were read are given back when they are wanted.
                yield int(most) - int(used) + _numbers(group / "memory.stat").get(names[2], 0)


def _numbers(path: Path, scale: int = 1) -> dict[str, int]:
    """Returns the numbers of a file of lines "name: number" or "name number"."""
    found = re.findall(r"^(\w+):?\s+(\d+)", _text(path), flags=re.MULTILINE)
    return {name: scale * int(number) for name, number in found}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
