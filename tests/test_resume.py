"""An interrupted run ends with the bits of one that was not: kill -9, signals, device counts.

Every run is `lab train` in a child process with a time limit and one retry: a rendezvous of more
simulated devices than cores can hang.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, run_child

CONFIG = "tests/tiny/slow.py:cpu"
NUM_STEPS = 200
SECONDS = 120.0

DIGEST = """
import sys
from pathlib import Path
import jax
from common import program, runs, sharding
from common.checkpoint import Checkpoints
from common.experiment import build
from tests.common.toys import digest

run = runs.read(Path(sys.argv[1]))
layout = program.layout(build(run.config), run.config, sharding.make_mesh({"data": 1}))
with Checkpoints(run.path / "checkpoints") as checkpoints:
    restored = checkpoints.restore(layout.state)
print(restored.step, digest(restored.state.params), digest(restored.state.opt_state))
"""


def run_folder(workdir: Path) -> Path:
    """Returns the only run folder below `workdir`."""
    (path,) = workdir.glob("*/*/*/seed0")
    return path


def final_state(workdir: Path) -> str:
    """Returns the newest step and the digests of its parameters and optimizer state."""
    code = DIGEST.replace("sys.argv[1]", repr(str(run_folder(workdir))))
    done = run_child(code, seconds=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[-2]


def metrics(workdir: Path) -> list[dict[str, object]]:
    """Returns all lines of metrics.jsonl."""
    text = (run_folder(workdir) / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def num_lines(workdir: Path) -> int:
    """Returns how many metrics have been written so far."""
    files = list(workdir.glob("*/*/*/seed0/metrics.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else 0


def train(
    workdir: Path, *, devices: int = 1, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs `lab train` to its end."""
    arguments = ["train", f"--config={CONFIG}", f"--workdir={workdir}", *options]
    return run_child(arguments, devices=devices, seconds=SECONDS)


def train_and_stop(
    workdir: Path,
    number: signal.Signals,
    step: int,
    *,
    devices: int = 1,
    options: Sequence[str] = (),
) -> tuple[int, str]:
    """Starts `lab train`, sends it a signal once `step` is logged; returns exit code and stderr."""
    flags = f"--xla_force_host_platform_device_count={devices}" if devices > 1 else ""
    command = [sys.executable, "-m", "common.cli", "train", f"--config={CONFIG}"]
    for _ in range(2):
        with subprocess.Popen(
            [*command, f"--workdir={workdir}", *options],
            cwd=REPOSITORY,
            env={**os.environ, "XLA_FLAGS": flags},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            deadline = time.monotonic() + SECONDS
            while num_lines(workdir) < step and process.poll() is None:
                if time.monotonic() > deadline:
                    process.kill()
                    break
                time.sleep(0.005)
            else:
                process.send_signal(number)
            try:
                _, error = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                continue
            if time.monotonic() <= deadline:
                return process.returncode, error
    raise TimeoutError(f"{command} hung twice")


@pytest.mark.parametrize("devices", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_killed_three_times_ends_with_the_bits_of_one_left_alone(
    tmp_path: Path, devices: int
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert train(straight, devices=devices).returncode == 0
    moments = sorted(random.Random(devices).sample(range(5, NUM_STEPS - 10), 3))
    for step in moments:
        code, error = train_and_stop(killed, signal.SIGKILL, step, devices=devices)
        assert code == -signal.SIGKILL, error
    done = train(killed, devices=devices)
    assert done.returncode == 0, done.stderr

    assert final_state(killed) == final_state(straight)
    assert metrics(killed) == metrics(straight)
    steps = [line["step"] for line in metrics(killed) if line["kind"] == "train"]
    assert steps == list(range(1, NUM_STEPS + 1))


def test_deterministic_runs_have_the_same_bits_on_8_then_2_then_1_devices(tmp_path: Path) -> None:
    straight, elastic = tmp_path / "straight", tmp_path / "elastic"
    options = ["--config.deterministic=true"]
    assert train(straight, options=options).returncode == 0
    for devices, step in ((8, 60), (2, 130)):
        code, error = train_and_stop(
            elastic, signal.SIGTERM, step, devices=devices, options=options
        )
        assert code == 75, error
    done = train(elastic, options=options)
    assert done.returncode == 0, done.stderr

    assert final_state(elastic) == final_state(straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_exits_75(
    tmp_path: Path, number: signal.Signals
) -> None:
    code, error = train_and_stop(tmp_path, number, 30)

    assert code == 75
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert "saved" in last and "same command" in last
    step, *_ = final_state(tmp_path).split()
    assert 30 <= int(step) < NUM_STEPS


def test_training_twice_does_nothing_the_second_time(tmp_path: Path) -> None:
    options = ["--config.num_steps=20", "--config.eval_every=10", "--config.milliseconds=0"]
    first = train(tmp_path, options=options)
    folder = run_folder(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    second = train(tmp_path, options=options)

    assert first.returncode == second.returncode == 0
    assert "already complete" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
