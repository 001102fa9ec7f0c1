"""The script for Slurm, with stand-ins for its commands: what is started, and what comes after."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from common.devices.rendezvous import SLURM_VARIABLES
from tests.processes import REPOSITORY

SCRIPT = REPOSITORY / "common/jobs/train.sbatch"
WORDS = ["--config=tests/tiny/config.py:cpu", "--config.seed=1"]


def submitted(folder: Path, code: int) -> tuple[int, list[str]]:
    """Returns the exit code of the script and its calls of srun and scontrol."""
    calls = folder / "calls"
    for name, end in (("srun", code), ("scontrol", 0)):
        stand_in = folder / name
        stand_in.write_text(f'#!/bin/bash\necho "{name} $*" >> {calls}\nexit {end}\n')
        stand_in.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(SCRIPT), *WORDS], env={**os.environ, "PATH": path, "SLURM_JOB_ID": "7"}
    )
    return done.returncode, calls.read_text().splitlines()


@pytest.mark.parametrize("code", [0, 3, 75, 137])
def test_the_job_is_queued_again_only_if_it_has_saved(tmp_path: Path, code: int) -> None:
    ended, calls = submitted(tmp_path, code)

    assert ended == code
    wanted = f"srun --kill-on-bad-exit=0 .venv/bin/lab train {' '.join(WORDS)} --distributed"
    assert calls == [wanted, *(["scontrol requeue 7"] if code == 75 else [])]


def test_it_asks_for_one_process_for_every_gpu_of_a_node() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", SCRIPT.read_text(), re.MULTILINE))

    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    assert "gpus-per-task" not in asked  # JAX takes the GPU of its number on the node
    assert asked["signal"].startswith("USR1@")


def test_the_page_names_the_variables_that_jax_needs() -> None:
    page = (REPOSITORY / "PODS.md").read_text()
    assert all(name in page for name in SLURM_VARIABLES)
    assert "common/jobs/train.sbatch" in page
