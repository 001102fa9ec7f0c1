"""Cells that are no training run: a process of their own, which starts JAX as `lab` does."""

import os
import subprocess
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from common.files.json_files import read_json
from common.results.cell import request

HERE = "tests.common.results.test_cell:squares"


def squares(config: ConfigDict) -> dict[str, float]:
    return {"sum": float(jax.jit(lambda x: (x**2).sum())(jax.numpy.arange(config.num_steps)))}


def test_a_cell_keeps_compiled_programs_in_the_folder_that_runs_use(tmp_path: Path) -> None:
    result, kept = tmp_path / "result.json", tmp_path / "cache" / "xla"
    words = request(HERE, "tests/tiny/config.py:cpu", {"num_steps": "4"}, result)
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"LAB_CACHE": str(kept.parent), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    subprocess.run([sys.executable, *words], env=env, check=True, timeout=60)

    assert read_json(result)["metrics"] == {"last": {"sum": 14.0}}
    assert [*kept.glob("jaxlib-*/*")]
