"""Lets the C library keep the memory that programs free, because asking for it anew is slow."""

import ctypes
import os
import platform

ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1  # parameters of mallopt
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the next use; returns whether it does.

    XLA:CPU allocates results and temporaries at every call of a program. By default glibc takes
    blocks above 32 MB from the system and gives them back, so that each page of each call is
    faulted in again. The gradient of an equivariant layer of 64 channels then takes twice as long
    (tests/benchmarks/nfn_vs_torch.py). Nothing happens with another C library, or where variables
    MALLOC_... say how memory is to be managed. Must come before the first large allocation.
    """
    is_chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if is_chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Threads share one heap: blocks above 32 MB fit into no other.
    values = {ARENA_MAX: 1, MMAP_THRESHOLD: LARGEST, TRIM_THRESHOLD: LARGEST}
    return sum(mallopt(name, value) for name, value in values.items()) == len(values)  # 1 each
