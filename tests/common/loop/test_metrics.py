"""Metrics files that survive anything, and a progress line that tells the truth."""

import errno
import importlib
import io
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from common import progress as progress_module
from common.errors import DataError, UserError
from common.loop.metrics import MetricsLog, TensorBoardLog, WandbLog, read_metrics
from common.progress import Progress, duration


def test_numbers_read_back_as_the_same_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    singles = random.integers(0, 2**32, 500, dtype=np.uint32).view(np.float32)
    doubles = random.integers(0, 2**64, 500, dtype=np.uint64).view(np.float64)
    values = [x for x in (*singles, *doubles, jnp.float32(0.1), 2**60, -0.0) if np.isfinite(x)]
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step, value in enumerate(values):
        log.write(step, "train", {"x": value})
    log.close()
    for row, value in zip(read_metrics(tmp_path / "metrics.jsonl"), values, strict=True):
        assert (
            np.asarray(row["x"], np.asarray(value).dtype).tobytes() == np.asarray(value).tobytes()
        )


def test_a_line_is_strict_json_with_step_kind_and_metrics(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "runs" / "metrics.jsonl")
    log.write(100, "train", {"loss": 0.5, "seeds": [1.0, math.nan], "count": np.int32(3)})
    log.write(100, "eval", {"up": math.inf, "down": np.float32(-np.inf)})
    log.close()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = (tmp_path / "runs" / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert first == {"step": 100, "kind": "train", "loss": 0.5, "seeds": [1.0, "NaN"], "count": 3}
    assert second == {"step": 100, "kind": "eval", "up": "Infinity", "down": "-Infinity"}
    assert math.isnan(float(first["seeds"][1])) and float(second["down"]) == -math.inf


@pytest.mark.parametrize("name", ["step", "kind"])
def test_a_metric_cannot_hide_the_fields_of_every_line(tmp_path: Path, name: str) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=f"cannot be called '{name}'"):
        log.write(1, "train", {name: 1.0})
    assert log.flush() == 0
    log.close()


def test_continuing_from_an_offset_leaves_no_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write(1, "train", {"loss": 1.0})
    offset = log.flush()
    for step in (2, 3):
        log.write(step, "train", {"loss": 0.0})
    log.close()
    assert offset < path.stat().st_size

    again = MetricsLog(path, offset=offset)
    for step in (2, 3):
        again.write(step, "train", {"loss": 1.0 / step})
    assert again.flush() == path.stat().st_size
    again.close()
    again.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(path)] == [
        (1, 1.0),
        (2, 0.5),
        (3, 1 / 3),
    ]


def test_lines_can_be_read_while_the_log_is_open(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(1, "train", {"loss": 1.0})
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    log.close()


def test_a_file_shorter_than_the_checkpoint_says_is_continued_after_its_last_whole_line(
    tmp_path: Path, logged_warnings: list[str]
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "kind": "train"}\n{"step": 2, "ki')
    log = MetricsLog(path, offset=1000)
    log.write(9, "train", {})
    log.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 9]
    assert "has 44 bytes, but 1000 were written" in logged_warnings[0]


def test_only_the_last_line_may_be_torn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = '{"step": 1, "kind": "train", "loss": 0.5}\n'
    for length in range(len(whole)):
        path.write_text(whole + whole[:length])
        assert read_metrics(path) == [json.loads(whole)]
    path.write_text(whole + whole[:20] + "\n" + whole)
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: is damaged"):
        read_metrics(path)
    path.write_text(whole + "3\n")
    with pytest.raises(DataError, match=r"line 2: is damaged: it is 3, expected an object"):
        read_metrics(path)
    with pytest.raises(DataError, match=r"absent\.jsonl"):
        read_metrics(tmp_path / "absent.jsonl")


def test_a_full_disk_is_a_data_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(1, "train", {"loss": 1.0})

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(DataError, match=r"metrics\.jsonl: .*No space left"):
            log.flush()
    log.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        MetricsLog(tmp_path / "file" / "metrics.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_write_that_does_not_fit_is_a_data_error(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with open("/dev/full", "ab") as full:
        os.dup2(full.fileno(), log._file.fileno())
    with pytest.raises(DataError, match="No space left"):
        log.write(1, "train", {"loss": 1.0})


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """The scalars in TensorBoard's files: records of length, checksum, Event and checksum."""
    event_class = importlib.import_module("tensorboardX.proto.event_pb2").Event
    found = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            event = event_class.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return found


def test_tensorboard_gets_a_scalar_for_each_metric_and_seed(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path, start=0)
    log.write(10, "train", {"loss": 0.5, "seeds": [1.0, 2.0]})
    log.write(20, "eval", {"loss": 0.25})
    log.flush()
    log.close()
    assert scalars(tmp_path) == [
        ("train/loss", 10, 0.5),
        ("train/seeds/0", 10, 1.0),
        ("train/seeds/1", 10, 2.0),
        ("eval/loss", 20, 0.25),
    ]


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="--tensorboard needs the package tensorboardX"):
        TensorBoardLog(tmp_path)
    with pytest.raises(UserError, match=r"pip install 'jax-paper-lab\[wandb\]'"):
        WandbLog(tmp_path, config="{}")


class Clock:
    """A clock the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module.time, "monotonic", clock)
    return clock


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged as information."""
    seen: list[str] = []
    monkeypatch.setattr(logging, "info", lambda text, *args: seen.append(text % args))
    return seen


def run(progress: Progress, clock: Clock, *, compile_time: float, step_time: float) -> None:
    clock.now += compile_time
    for step in range(501, 601):
        clock.now += step_time
        progress.update(step, {"loss": 1 / step})
    progress.close()


@pytest.mark.parametrize("compile_time", [0.0, 500.0])
def test_rate_and_time_left_do_not_count_compilation(
    clock: Clock, lines: list[str], compile_time: float
) -> None:
    progress = Progress(1000, start=500, label="toy", enabled=True)
    run(progress, clock, compile_time=compile_time, step_time=2.0)
    told = [line for line in lines if "left" in line]
    assert len(told) >= 4
    for line in told:
        step = int(line.split()[2])
        seconds = 2 * (1000 - step)
        left = duration(seconds)
        assert line.startswith(f"toy: step {step} of 1000, 0.5 steps/s, {left} left  loss 0.00")


def test_without_a_terminal_there_is_a_line_at_most_every_ten_seconds(
    clock: Clock, lines: list[str]
) -> None:
    run(Progress(1000, start=500), clock, compile_time=0.0, step_time=0.5)
    assert len(lines) == 5
    run(Progress(1000, start=500), clock, compile_time=0.0, step_time=0.01)
    assert len(lines) == 5
    run(Progress(1000, start=500, enabled=False), clock, compile_time=0.0, step_time=5.0)
    assert len(lines) == 5


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Terminal:
    terminal: Any = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    return terminal


def test_on_a_terminal_there_is_one_bar_and_no_lines(
    clock: Clock, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = a_terminal(monkeypatch, columns=120)
    progress = Progress(1000, start=500, label="toy [a]")
    assert "starting" in terminal.getvalue()
    run(progress, clock, compile_time=100.0, step_time=0.5)
    assert "toy [a]" in terminal.getvalue() and "600/1000" in terminal.getvalue()
    assert "2 steps/s, 3 min 20 s left" in terminal.getvalue()
    assert not lines


def test_on_80_columns_the_bar_and_the_step_stay(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = a_terminal(monkeypatch, columns=80)
    progress = Progress(100_000, start=0, label="nfn.equivariant:inr_classification")
    for step in (49_999, 50_000):
        clock.now += 1
        progress.update(step, {f"a_metric_with_a_long_name_{i}": 0.123456 for i in range(5)})
    progress.close()
    *_, last = re.findall(r"nfn\.equi.*", terminal.getvalue())
    last = last.split("\r")[-1]
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", last)
    assert len(shown.rstrip()) <= 80
    assert "50000/100000" in shown and "━━━━━━" in shown and "1 steps/s" in shown, shown
