"""What comes from outside a run: once for every step, in place of the batch, and after a wait."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.config import load_config
from common.errors import Interrupted, UserError
from common.experiment import Experiment, build
from common.loop import train
from common.loop.metrics import read_metrics


def config_of(**fields: str) -> ConfigDict:
    changed = {"num_steps": "6", "checkpoint_every": "2", "eval_every": "0", "log_every": "1"}
    return load_config("tests/tiny/config.py:cpu", {**changed, **fields})


def with_outside(experiment: Experiment, answer: Callable[..., Any]) -> Experiment:
    """Returns the experiment with `answer`, and the metric "given" of what it gave."""

    def batch(step: int) -> Any:
        return {**experiment.batch(step), "given": np.float32(-1)}

    def step(state: Any, data: Any, batch: Any, key: Any) -> Any:
        own = {name: value for name, value in batch.items() if name != "given"}
        state, metrics = experiment.step(state, data, own, key)
        return state, {**metrics, "given": batch["given"]}

    @contextlib.contextmanager
    def outside(folder: Path) -> Iterator[Any]:
        assert folder.name == "run"
        yield answer

    return experiment._replace(batch=batch, step=step, outside=outside)


def given(folder: Path) -> list[float]:
    """Returns what every step got."""
    return [row["given"] for row in read_metrics(folder / "metrics.jsonl") if "given" in row]


def test_a_run_that_is_stopped_while_it_waits_goes_on_with_the_same_answers(tmp_path: Path) -> None:
    config, folder, asked = config_of(), tmp_path / "run", []

    def answer(step: int, state: Any, is_stopping: Callable[[], bool]) -> Any:
        asked.append(step)
        if len(asked) == 4:  # somebody presses Ctrl-C while step 3 waits
            stop.set()
        return {} if is_stopping() else {"given": np.float32(10 * step)}

    stop = threading.Event()
    experiment = with_outside(build(config), answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "first_signal", lambda: contextlib.nullcontext(stop))
        with pytest.raises(Interrupted, match="step 3 of 6 and saved"):
            train.fit(experiment, config, folder)
        stop.clear()
        train.fit(experiment, config, folder)

    assert asked == [0, 1, 2, 3, 3, 4, 5]  # no step was lost, and none made again
    assert given(folder) == [0, 10, 20, 30, 40, 50]
    straight = tmp_path / "straight" / "run"
    asked[:] = [0] * 9
    train.fit(experiment, config, straight)
    digests = [(runs.read_result(path) or {})["state_sha256"] for path in (folder, straight)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("field", ["steps_per_call", "seed_group"])
def test_steps_and_seeds_that_would_share_an_answer_are_refused(tmp_path: Path, field: str) -> None:
    config = config_of(**{field: "2"})
    experiment = with_outside(build(config), lambda *_: {})

    with pytest.raises(UserError, match=rf"config\.{field}=2: .* waits for .* outside"):
        train.fit(experiment, config, tmp_path / "run")


@pytest.mark.parametrize(
    "wrong",
    [{"given": np.array([1, 2], np.float32)}, {"given": np.int32(1)}, {"other": np.float32(1)}],
)
def test_what_the_batch_has_no_place_for_is_refused(tmp_path: Path, wrong: Any) -> None:
    experiment = with_outside(build(config_of()), lambda *_: wrong)

    with pytest.raises(UserError, match=r"outside gives '(given|other)' as .*: batch has"):
        train.fit(experiment, config_of(), tmp_path / "run")
