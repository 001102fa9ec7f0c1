"""Stages: trained once, shared, resumed, and named in errors."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs, stages
from common.config import load_config
from common.errors import Interrupted, UserError
from common.experiment import build
from common.keys import INIT, root_key, stream
from common.loop_fields import LOOP_DEFAULTS


def outer(**stage: Any) -> ConfigDict:
    """Returns a config that stands on the line fit of tests/tiny."""
    line = load_config("tests/tiny/config.py:cpu").to_dict()
    for name in set(LOOP_DEFAULTS) - {"num_steps", "eval_every", "checkpoint_every", "best_metric"}:
        del line[name]  # as in a config file, which leaves out what is as usual
    config = load_config("tests/tiny/config.py:cpu").copy_and_resolve_references()
    with config.unlocked():
        config.stage = ConfigDict({**line, **stage})
    return config


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    return tmp_path


def test_a_stage_is_trained_once_for_each_seed(cache: Path) -> None:
    stage = {"num_steps": 200, "optimizer": {"learning_rate": 0.02}}
    config = stages.section(outer(**stage), "stage", seed=3)
    lines = stages.metrics_of(config)  # which trains it
    first = stages.trained(config)
    folder = stages.stage_directory(config)
    written = (folder / "result.json").read_bytes()
    again = stages.trained(config)
    other = stages.trained(stages.section(outer(**stage), "stage", seed=4))

    assert cache in folder.parents
    assert (folder / "result.json").read_bytes() == written
    assert config.seed == 3
    # It learns the line, and its state is that of the run, not of another seed.
    np.testing.assert_allclose(first.state.params["slope"], jnp.linspace(-1, 1, 4), atol=0.05)
    assert jnp.array_equal(first.state.params["slope"], again.state.params["slope"])
    assert not jnp.array_equal(first.state.params["slope"], other.state.params["slope"])
    facts, result = stages.describe(config), runs.read(folder).result
    assert result is not None
    (last,) = (x for x in lines if x["kind"] == "eval" and x["step"] == 200)
    assert {name: last[name] for name in result["metrics"]["last"]} == result["metrics"]["last"]
    assert facts["seed"] == 3
    assert stages.identity(config).items() < facts.items()
    assert facts["step"] == first.step == result["best_step"]
    path = stages.path_of(config)
    assert (path.steps[0], path.steps[-1], len(path)) == (0, 200, len(path.steps))
    began = build(config).init(stream(root_key(config), INIT))
    for state, at in ((began, 0), (runs.load(folder, "last").state, -1)):
        assert jnp.array_equal(state.params["slope"], path[at].params["slope"])
    asked = stages.section(outer(**stage, checkpoint_every=2, keep=50), "stage", seed=3)
    with pytest.raises(UserError, match=r"states of its path, 100 are asked .*keep=50; remove"):
        stages.path_of(asked)


def test_a_stopped_stage_goes_on_where_it_was() -> None:
    config = stages.section(
        outer(num_steps=200_000, eval_every=0, checkpoint_every=0, log_every=1), "stage"
    )
    folder = stages.stage_directory(config)

    def stop() -> None:
        while not log.exists() or log.read_bytes().count(b"\n") < 20:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)

    log = folder / "metrics.jsonl"
    watcher = threading.Thread(target=stop, daemon=True)
    watcher.start()
    with pytest.raises(Interrupted, match="of 200000 and saved"):
        stages.trained(config)
    watcher.join()

    (saved,) = runs.verify(folder)
    assert 20 <= saved < 200_000
    assert runs.load(folder).step == saved


def test_a_wrong_field_of_a_stage_is_named_with_its_section() -> None:
    with pytest.raises(UserError, match=r"config\.stage: config\.num_steps=0: expected") as info:
        stages.section(outer(num_steps=0), "stage")
    assert "\n" not in str(info.value)
