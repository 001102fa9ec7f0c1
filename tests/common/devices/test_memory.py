"""What memory is left, and pages of freed memory, which a process that was told to keeps."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from common.devices import memory
from common.errors import DoesNotFit
from common.loop import program
from tests.common.toys import regression, toy_config

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


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """Returns a folder with these files of /proc and /sys, and half of a GiB free."""
    free = "MemTotal:  8000000 kB\nMemAvailable:  524288 kB\n"
    for name, text in {"proc/meminfo": free, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({}, 512),
        ({"proc/meminfo": "MemAvailable: 1024 kB\nSwapFree: 1024 kB\n"}, 2),
        # A job of Slurm, and what is around it; the page cache of 5 MiB can be taken back.
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                f"{V2}/job/memory.max": str(100 * 2**20),
                f"{V2}/job/memory.current": str(60 * 2**20),
                f"{V2}/job/memory.stat": f"anon 1\ninactive_file {5 * 2**20}\n",
                f"{V2}/job/step/memory.max": "max\n",
                f"{V2}/job/step/memory.current": "7\n",
            },
            45,
        ),
        # A container, which sees its own group at the top.
        (
            {
                "proc/self/cgroup": "4:memory:/docker/x\n3:cpuset:/\n",
                f"{V1}/memory.limit_in_bytes": str(50 * 2**20),
                f"{V1}/memory.usage_in_bytes": str(20 * 2**20),
            },
            30,
        ),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "1\n", f"{V2}/memory.current": "9"}, 0),
    ],
)
def test_the_least_of_machine_and_groups_is_left(
    tmp_path: Path, files: Mapping[str, str], mib: int
) -> None:
    assert memory.left(machine(tmp_path, files)) == mib * 2**20


def test_a_limit_of_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, {"proc/self/status": "VmSize:  2048 kB\nVmData:  1024 kB\n"})
    limits = {"RLIMIT_DATA": 3 * 2**20, "RLIMIT_AS": -1}
    fake = SimpleNamespace(**{n: n for n in limits}, getrlimit=lambda name: (limits[name], -1))
    monkeypatch.setattr(memory, "resource", fake)
    assert memory.left(root) == 2 * 2**20
    assert memory.left(tmp_path / "nothing") is None  # another system


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_a_program_that_cannot_be_held_is_refused_on_cpus(platform: str) -> None:
    sizes = SimpleNamespace(
        argument_size_in_bytes=1, temp_size_in_bytes=3 * 2**28, output_size_in_bytes=2**28
    )
    step = SimpleNamespace(memory_analysis=lambda: sizes)
    devices = [SimpleNamespace(platform=platform)] * 2
    for is_step, names in ((True, ("a step", "batch_size")), (False, ("evalu", "evaluate_chunk"))):
        program.check_memory(step, devices, 2**31, is_step=is_step)  # as much as there is
        program.check_memory(step, devices, None, is_step=is_step)  # nobody says how much there is
        if platform == "tpu":
            program.check_memory(step, devices, 2**31 - 1, is_step=is_step)
            continue
        said = rf"{names[0]}.* needs 2\.00 GiB of memory .* has 2\.00 GiB left; .*\.{names[1]}"
        with pytest.raises(DoesNotFit, match=said):
            program.check_memory(step, devices, 2**31 - 1, is_step=is_step)


def test_data_that_cannot_be_held_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    shapes = lambda: {"x": jax.ShapeDtypeStruct((2**20, 3), np.float32)}
    data = lambda: made.append(1) or {"x": np.zeros((2, 3))}
    experiment = regression(toy_config())._replace(abstract_data=shapes, data=data)
    monkeypatch.setattr(memory, "left", lambda: 12 * 2**20 - 1)
    with pytest.raises(DoesNotFit, match=r"data of this config take 0\.01 GiB, .*; lower sizes in"):
        program.host_data(experiment)
    assert not made
    monkeypatch.setattr(memory, "left", lambda: 12 * 2**20)
    assert program.host_data(experiment)["x"].shape == (2, 3)
