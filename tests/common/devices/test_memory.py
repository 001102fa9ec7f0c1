"""Pages of freed memory: a process that was told to keeps them, one told otherwise does not."""

import os
import subprocess
import sys

import pytest

# Page faults of ten arrays of 32 MiB, each freed before the next, after a first one.
FAULTS = """
import resource
import numpy as np
from common.devices import memory

told = memory.keep_freed_memory()
for turn in range(11):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**22)
print(int(told), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def told_and_faults(**variables: str) -> list[int]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], env=kept | variables, capture_output=True, check=True
    )
    return [int(word) for word in found.stdout.split()]


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="no glibc")
def test_freed_pages_are_used_again_unless_variables_say_otherwise() -> None:
    told, faults = told_and_faults()
    own, faults_of_own = told_and_faults(MALLOC_MMAP_THRESHOLD_="131072")
    assert (told, own) == (1, 0)
    # An array has 8,192 pages of 4 KiB, or 16 of 2 MiB where the system has them so.
    assert faults * 8 < faults_of_own
