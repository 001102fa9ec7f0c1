"""Memory that is freed stays in the process, and only where that is asked for."""

import platform

import pytest

from tests.processes import Child

# Blocks of 64 MB, above what glibc keeps by itself; their pages are touched every time.
CODE = """
import ctypes, resource
from common.allocator import keep_freed_memory
print(keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
faults = []
for _ in range(4):
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
@pytest.mark.parametrize("is_chosen", [False, True])
def test_large_blocks_are_faulted_in_once(child: Child, is_chosen: bool) -> None:
    env = {"MALLOC_TOP_PAD_": "131072"} if is_chosen else {}
    kept, faults = child(CODE, env=env, seconds=30).stdout.split()

    assert kept == str(not is_chosen)
    assert (int(faults) < 100) == (not is_chosen)
