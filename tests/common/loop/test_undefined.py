"""Metrics that are not finite: one that is undefined costs nothing, a lost state is not saved."""

import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from common import runs
from common.config import config_hash, from_json, load_config
from common.errors import DataError, NumericalError
from common.evaluation import classification_values, sums_over
from common.experiment import Experiment, build
from common.files import nonfinite
from common.files.json_files import read_json, write_json
from common.jobs.trainings import read_result
from common.lab import commands
from common.loop import train
from common.loop.metrics import read_metrics
from common.loop.train import fit


def tiny(**overrides: Any) -> ConfigDict:
    """Returns the config of the line fit at two evaluations, the first after ten steps."""
    texts = {name: str(value) for name, value in {"num_steps": 20, **overrides}.items()}
    return load_config("tests/tiny/config.py:cpu", texts)


def strictly_read(path: Path) -> Any:
    """Returns the content of a JSON file, or of JSON lines, as a parser reads it that is strict."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path}: {name} is not JSON")

    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [json.loads(line, parse_constant=refuse) for line in lines]


def undefined(experiment: Experiment, value: float) -> Experiment:
    """Returns the experiment with metrics of no examples: in evaluations, and at the end."""

    def evaluate(state: Any, data: Any, key: Any) -> Any:
        return {
            **experiment.evaluate(state, data, key),
            "valid_rare": (jnp.float32(value), jnp.float32(0)),
        }

    def final(state: Any, data: Any, key: Any) -> Any:
        return {"test_rare": (jnp.float32(value), jnp.float32(0))}

    return experiment._replace(evaluate=evaluate, final=final)


@pytest.mark.parametrize(
    ("total", "text"), [(0.0, "NaN"), pytest.param(-1.0, "-Infinity", marks=pytest.mark.slow)]
)
def test_a_metric_of_no_examples_is_named_and_recorded_and_costs_nothing(
    tmp_path: Path, logged_warnings: list[str], total: float, text: str
) -> None:
    config = tiny()
    usual, odd = tmp_path / "usual", tmp_path / "odd"
    expected = fit(build(config), config, usual)
    experiment = undefined(build(config), total)
    result = fit(experiment, config, odd)

    assert result.status == "complete"
    assert (result.step, result.best_step) == (expected.step, expected.best_step)
    contents = {path.name: strictly_read(path) for path in odd.glob("*.json*")}
    rows = [row for row in contents["metrics.jsonl"] if row["kind"] == "eval"]
    assert [(row["step"], row["valid_rare"]) for row in rows] == [(10, text), (20, text)]
    (written,) = contents["result.json"]
    assert written["metrics"]["last"]["test_rare"] == text
    assert written["state_sha256"] == read_json(usual / "result.json")["state_sha256"]
    for name in ("valid_rare", "test_rare"):  # said once, without advice that does not fit
        (line,) = [line for line in logged_warnings if repr(name) in line]
        assert "learning_rate" not in line
    read = [
        result.metrics,
        fit(experiment, config, odd).metrics,
        (runs.read(odd).result or {})["metrics"],
        (read_result(odd / "result.json", config_hash(config)) or {})["metrics"],
    ]
    for metrics in read:  # numbers for whoever reads them, and as they were for the others
        assert str(metrics["last"]["valid_rare"]) == str(float(text))
        assert metrics["last"]["valid_error"] == expected.metrics["last"]["valid_error"]
    assert f"valid_rare {float(text)}" in commands._metrics(read[-1]["last"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1e9, math.nan]])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_value_that_is_not_finite_is_never_the_best(sign: str, value: Any) -> None:
    before = train.Best(10, 0.5)
    for best in (before, None):
        assert train._improve(best, 20, {"m": value}, f"{sign}m") == (best, False)
    better = 1.0 if sign == "" else 0.25
    assert train._improve(before, 20, {"m": better}, f"{sign}m") == (train.Best(20, better), True)


def test_a_run_whose_best_metric_is_never_defined_ends_without_a_best(
    tmp_path: Path, logged_warnings: list[str]
) -> None:
    config = tiny(best_metric="-valid_rare", num_steps=10)
    result = fit(undefined(build(config), 0.0), config, tmp_path)
    assert result.best_step is None and set(result.metrics) == {"last"}
    assert "without a best checkpoint" in logged_warnings[-2]


def step_with(experiment: Experiment, name: str, *, loses_state: bool) -> Any:
    """Returns the step with a metric `name` that is NaN, and a NaN in the state if asked for."""

    def step(state: Any, data: Any, batch: Any, key: Any) -> Any:
        state, metrics = experiment.step(state, data, batch, key)
        if loses_state:
            state = state._replace(params={"slope": state.params["slope"].at[1].set(jnp.nan)})
        return state, {**metrics, name: jnp.float32(jnp.nan)}

    return step


@pytest.mark.parametrize("steps_per_call", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_training_metric_may_be_undefined_as_long_as_loss_and_state_are_not(
    tmp_path: Path, logged_warnings: list[str], steps_per_call: int
) -> None:
    config = tiny(steps_per_call=steps_per_call)
    experiment = build(config)
    fine = experiment._replace(step=step_with(experiment, "rare", loses_state=False))
    assert fit(fine, config, tmp_path / "fine").status == "complete"
    rows = [r for r in read_metrics(tmp_path / "fine" / "metrics.jsonl") if r["kind"] == "train"]
    assert [row["rare"] for row in rows] == ["NaN"] * 20
    assert len([line for line in logged_warnings if "'rare'" in line]) == 1

    lost = experiment._replace(step=step_with(experiment, "rare", loses_state=True))
    with pytest.raises(
        NumericalError, match=r"'(rare|loss)' is not .*step \d(, state/params/sl.*)?;"
    ):
        fit(lost, config, tmp_path / "lost")
    assert runs.verify(tmp_path / "lost") == {}


def test_a_loss_that_is_not_finite_at_once_is_not_a_matter_of_the_learning_rate(
    tmp_path: Path,
) -> None:
    config = tiny()
    experiment = build(config)
    broken = experiment._replace(step=step_with(experiment, "loss", loses_state=False))
    with pytest.raises(NumericalError, match="'loss' is not finite at step 1;.*look at the data"):
        fit(broken, config, tmp_path)


def test_json_knows_no_other_numbers_than_finite_ones() -> None:
    value = {"a": [1.5, math.inf, -math.inf], "b": {"c": (math.nan,)}, "d": "text", "e": None}
    text = json.dumps(nonfinite.to_json(value), allow_nan=False)
    back = nonfinite.from_json(json.loads(text))
    assert str(back) == str({**value, "b": {"c": [math.nan]}})


def test_a_config_with_an_infinite_number_is_valid_json_and_read_back(tmp_path: Path) -> None:
    config = ConfigDict({**tiny().to_dict(), "clip": math.inf})
    write_json(tmp_path / "config.json", config.to_dict())
    strictly_read(tmp_path / "config.json")
    assert runs.read(tmp_path).config.clip == math.inf
    again = from_json((tmp_path / "config.json").read_text())
    assert config_hash(again) == config_hash(config)


@pytest.mark.parametrize("where", ["loss", "evaluate"])
def test_labels_of_no_class_are_named_where_a_metric_comes_from_them(
    tmp_path: Path, logged_warnings: list[str], where: str
) -> None:
    config = tiny(num_steps=10)
    experiment = build(config)

    def losses(params: Any, labels: Any) -> Any:
        return sums_over(
            lambda y: classification_values(jnp.tile(params["slope"], (y.shape[0], 1)), y),
            labels,
            chunk=5,
        )

    def step(state: Any, data: Any, batch: Any, key: Any) -> Any:
        state, metrics = experiment.step(state, data, batch, key)
        total, count = losses(state.params, jnp.arange(8) - 2)["loss"]
        return state, {**metrics, "loss": total / count}

    def evaluate(state: Any, data: Any, key: Any) -> Any:
        usual = experiment.evaluate(state, data, key)
        return {**usual, **losses(state.params, jnp.arange(1, 6))}

    if where == "loss":
        with pytest.raises(NumericalError, match="step 1; .*labels go from -2 to 5, but the 4"):
            fit(experiment._replace(step=step), config, tmp_path)
        return
    with pytest.raises(
        DataError, match=r"labels go from 1 to 5, but the 4 classes are 0 to 3; .*10"
    ):
        fit(experiment._replace(evaluate=evaluate), config, tmp_path)
    (row,) = [row for row in read_metrics(tmp_path / "metrics.jsonl") if row["kind"] == "eval"]
    assert (row["accuracy"], row["loss"]) == ("NaN", "NaN") and row["valid_error"] > 0
    # Nothing is lost: the trained state waits for an evaluation that is defined.
    assert fit(experiment, config, tmp_path).step == 10
    assert not any("learning_rate" in line for line in logged_warnings)
