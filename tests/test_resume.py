"""An interrupted run ends with the bits of one that was not: kill -9, signals, device counts.

What is killed, or has several devices, is `lab train` in a child process with a time limit and one
retry: a rendezvous of more simulated devices than cores can hang.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from common import experiment, runs
from common.checkpoints import manifest
from common.lab import cli
from tests.processes import REPOSITORY, run_child

pytestmark = pytest.mark.optimized  # bits are those of programs as users have them

CONFIG = "tests/tiny/slow.py:cpu"
NUM_STEPS = 100
SECONDS = 120.0


def run_folder(workdir: Path) -> Path:
    """Returns the only run folder below `workdir`."""
    (path,) = workdir.glob("*/*/*/seed0")
    return path


def final_state(workdir: Path) -> tuple[int, str]:
    """Returns the last step and the digest of the state after it."""
    result = runs.read(run_folder(workdir)).result
    assert result is not None and result["state_sha256"]
    return result["step"], result["state_sha256"]


def metrics(workdir: Path) -> list[dict[str, object]]:
    """Returns all lines of metrics.jsonl."""
    text = (run_folder(workdir) / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def num_lines(workdir: Path) -> int:
    """Returns how many metrics have been written so far."""
    files = list(workdir.glob("*/*/*/seed0/metrics.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else 0


def train(workdir: Path, *, devices: int = 1, options: Sequence[str] = ()) -> None:
    """Runs `lab train` to its end: on one device in this process."""
    arguments = ["train", f"--config={CONFIG}", f"--workdir={workdir}", *options]
    if devices == 1:
        assert cli.main(arguments) == 0
    else:
        done = run_child(arguments, devices=devices, seconds=SECONDS)
        assert done.returncode == 0, done.stderr


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
    command = [sys.executable, "-m", "common.lab.cli", "train", f"--config={CONFIG}"]
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


SLOW = pytest.mark.slow
NFN = "--config.toy=weights"  # compiles for long


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("devices", "kills", "options"),
    [
        (1, 1, []),
        pytest.param(1, 3, [NFN], marks=SLOW),
        pytest.param(8, 3, [NFN], marks=SLOW),
    ],
)
def test_a_run_that_is_killed_ends_with_the_bits_of_one_left_alone(
    tmp_path: Path, devices: int, kills: int, options: Sequence[str]
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(straight, devices=devices, options=options)
    moments = sorted(random.Random(devices).sample(range(25, NUM_STEPS - 10), kills))
    for step in moments:
        code, error = train_and_stop(killed, signal.SIGKILL, step, devices=devices, options=options)
        assert code == -signal.SIGKILL, error
    assert manifest.steps(run_folder(killed) / "checkpoints")  # it does not begin anew
    train(killed, devices=devices, options=options)

    assert final_state(killed) == final_state(straight)
    assert metrics(killed) == metrics(straight)
    steps = [line["step"] for line in metrics(killed) if line["kind"] == "train"]
    assert steps == list(range(1, NUM_STEPS + 1))


@pytest.mark.parametrize(
    ("stops", "toy"),
    [
        pytest.param([(8, 40)], "regression", id="8-1", marks=SLOW),  # bits: test_deterministic.py
        pytest.param([(8, 40), (2, 70)], "weights", id="8-2-1", marks=SLOW),
    ],
)
def test_deterministic_runs_have_the_same_bits_on_8_devices_then_1(
    tmp_path: Path, stops: Sequence[tuple[int, int]], toy: str
) -> None:
    straight, elastic = tmp_path / "straight", tmp_path / "elastic"
    options = ["--config.deterministic=true", f"--config.toy={toy}"]
    train(straight, options=options)
    for devices, step in stops:
        code, error = train_and_stop(
            elastic, signal.SIGTERM, step, devices=devices, options=options
        )
        assert code == 75, error
        assert "Traceback" not in error
    assert max(manifest.steps(run_folder(elastic) / "checkpoints")) >= stops[-1][1]
    train(elastic, options=options)

    assert final_state(elastic) == final_state(straight)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(x, marks=SLOW) for x in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)),
    ],
)
def test_a_signal_saves_says_how_to_go_on_and_exits_75(
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    build = experiment.build

    def signaled(config: ConfigDict) -> experiment.Experiment:
        one = build(config)

        def batch(step: int) -> experiment.Batch:
            if step == 13 and num_lines(tmp_path):  # in the loop, not when batches are checked
                signal.raise_signal(number)
            return one.batch(step)

        return one._replace(batch=batch)

    monkeypatch.setattr(experiment, "build", signaled)
    before = signal.getsignal(number)

    code = cli.main(["train", "--config=tests/tiny/config.py:cpu", f"--workdir={tmp_path}"])

    error = capfd.readouterr().err
    assert code == 75, error
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert "stopped at step 13 of 40 and saved" in last and "same command" in last
    assert (
        max(manifest.steps(run_folder(tmp_path) / "checkpoints")) == 13
    )  # before the step of that batch
    assert len(metrics(tmp_path)) == 13 + 1  # training, and the evaluation of step 10
    assert signal.getsignal(number) == before


SLOW_PARTS = """
import hashlib, pathlib
from tests.tiny.experiment import line
from tests.tiny.slow_experiment import slow

def slow_data(config):
    one, mark = line(config), pathlib.Path(config.config_dir, "making")

    def data():
        if not mark.exists():
            mark.touch()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)  # a minute in one call, as XLA's can be
        return one.data()

    return one._replace(data=data)

def slow_final(config):
    one, mark = slow(config), pathlib.Path(config.config_dir, "making")

    def final(state, data, key):
        if not mark.exists():
            mark.touch()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)
        return one.evaluate(state, data, key)

    return one._replace(final=final)
"""


@pytest.mark.parametrize(
    ("what", "config", "said"),
    [
        ("slow_data", "config.py", "lab: SIGTERM: ended; there is nothing new"),
        ("slow_final", "slow.py", "lab: stopped at step "),  # which takes 15 ms, and there are 100
    ],
)
def test_a_signal_while_something_is_made_ends_at_once_and_the_same_command_goes_on(
    tmp_path: Path, what: str, config: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(SLOW_PARTS)
    text = (REPOSITORY / "tests/tiny" / config).read_text()
    text = re.sub(r"[a-z_]+\.py:[a-z]+\"", f'mine.py:{what}"', text)
    (tmp_path / "config.py").write_text(text)
    arguments = ["train", f"--config={tmp_path}/config.py:cpu", f"--workdir={tmp_path}/runs"]
    with subprocess.Popen(
        [sys.executable, "-m", "common.lab.cli", *arguments],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "making").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        _, error = process.communicate(timeout=SECONDS)

    assert time.monotonic() - asked < 5
    assert process.returncode == 75, error
    assert error.splitlines()[-1].startswith(said)
    assert "Traceback" not in error
    assert cli.main(arguments) == 0
