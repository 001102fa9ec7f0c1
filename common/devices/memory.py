"""Memory that is freed stays with the process: by default every large buffer is faulted in anew.

The C library of Linux gives blocks of megabytes back to the system as soon as they are free, so a
program that is called again and again pays for every page of its temporaries at every call. Numbers
are not changed.
"""

import ctypes
import os

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
