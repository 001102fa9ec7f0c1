"""What fit() promises: what a run saves, logs and writes, however it ends."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.checkpoints import manifest, snapshot
from common.config import load_config
from common.errors import DataError, NumericalError, UserError
from common.experiment import Experiment, build
from common.files.json_files import write_json
from common.fingerprint import data_digest
from common.loop import run_results, train
from common.loop.metrics import read_metrics
from common.provenance import source
from tests.processes import REPOSITORY
from tests.small_runs import power_cut

CONFIG = "tests/tiny/config.py:cpu"


def tiny(**overrides: Any) -> ConfigDict:
    """Returns the config of the line fit: 40 steps, an evaluation and a checkpoint every 10."""
    texts = {name.replace("__", "."): str(value) for name, value in overrides.items()}
    return load_config(CONFIG, texts)


def fit(folder: Path, config: ConfigDict, experiment: Experiment | None = None) -> train.FitResult:
    return train.fit(experiment or build(config), config, folder)


def steps(folder: Path) -> list[int]:
    """Returns the steps that have a checkpoint."""
    return sorted(runs.verify(folder))


def evaluations(folder: Path) -> dict[int, float]:
    """Returns the logged validation errors by step."""
    rows = read_metrics(folder / "metrics.jsonl")
    return {row["step"]: row["valid_error"] for row in rows if row["kind"] == "eval"}


def slope(folder: Path, step: Any = "last") -> np.ndarray:
    return np.asarray(runs.load(folder, step).state.params["slope"])


@pytest.mark.parametrize("steps_per_call", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed_group", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_divergence_stops_with_step_and_name_and_saves_nothing_bad(
    tmp_path: Path, steps_per_call: int, seed_group: int
) -> None:
    # Errors grow until float32 overflows, shortly after the checkpoint of step 10.
    config = tiny(optimizer__learning_rate=30, steps_per_call=steps_per_call, seed_group=seed_group)
    for _ in range(2):  # started again, it fails again and harms nothing
        with pytest.raises(NumericalError, match=r"'grad_norm' is not finite at step 1\d;") as info:
            fit(tmp_path, config)
        assert runs.verify(tmp_path) == {10: None}
    failed = int(str(info.value).partition("at step ")[2].partition(";")[0])
    logged = [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "train"]
    assert logged == list(range(1, failed))  # every finite step, also of the call that failed
    assert not (tmp_path / "result.json").exists()


def test_a_state_with_nan_is_named_and_not_saved_though_its_metrics_are_finite(
    tmp_path: Path,
) -> None:
    config = tiny()
    experiment = build(config)

    def step(state: Any, data: Any, batch: Any, key: Any) -> Any:
        state, metrics = experiment.step(state, data, batch, key)
        slope = state.params["slope"].at[2].set(jnp.nan)
        return state._replace(params={"slope": slope}), {"loss": jnp.zeros_like(metrics["loss"])}

    with pytest.raises(NumericalError, match="state/params/slope holds NaN after step 10"):
        fit(tmp_path, config, experiment._replace(step=step))
    assert steps(tmp_path) == []


@pytest.mark.parametrize(("metric", "choose"), [("-valid_error", min), ("valid_error", max)])
def test_the_best_checkpoint_is_kept_and_reported(tmp_path: Path, metric: str, choose: Any) -> None:
    result = fit(tmp_path, tiny(best_metric=metric, keep=1))

    measured = evaluations(tmp_path)
    best = choose(measured, key=lambda step: measured[step])
    assert len(set(measured.values())) == 4
    assert result.best_step == best
    assert steps(tmp_path) == sorted({best, 40})
    assert result.metrics["best"]["valid_error"] == measured[best]
    assert result.metrics["last"]["valid_error"] == measured[40]
    assert runs.load(tmp_path).evaluate()["valid_error"] == measured[best]


def test_of_a_damaged_best_checkpoint_no_older_one_takes_the_place(tmp_path: Path) -> None:
    fit(tmp_path, tiny(best_metric="-valid_error", keep=4))
    measured = evaluations(tmp_path)
    best = min(measured, key=lambda step: measured[step])
    (tmp_path / "result.json").unlink()  # killed before the end
    (tmp_path / "checkpoints" / str(best) / "MANIFEST.json").write_text("{}")
    if best != 40:
        with pytest.raises(DataError, match=f"step {best} is corrupt.*train again"):
            fit(tmp_path, tiny(best_metric="-valid_error", keep=4))
    else:  # the last is the best: trained again from 30
        assert fit(tmp_path, tiny(best_metric="-valid_error", keep=4)).best_step == best
        assert evaluations(tmp_path) == measured


def test_a_run_killed_at_any_file_continues_to_the_same_metrics_and_bits(tmp_path: Path) -> None:
    config = tiny(keep=4)
    fit(tmp_path, config)
    metrics, state = (tmp_path / "metrics.jsonl").read_bytes(), slope(tmp_path)
    for lost in ([], [40], [30, 40], [10, 20, 30, 40]):
        (tmp_path / "result.json").unlink()
        for step in lost:
            manifest = tmp_path / "checkpoints" / str(step) / "MANIFEST.json"
            manifest.unlink(missing_ok=True)
        with (tmp_path / "metrics.jsonl").open("ab") as file:  # cut off in its midst
            file.write(b'{"step": 41, "kind')
        assert fit(tmp_path, config).status == "complete"
        assert (tmp_path / "metrics.jsonl").read_bytes() == metrics
        np.testing.assert_array_equal(slope(tmp_path), state)


def test_a_continued_run_names_all_its_sessions(tmp_path: Path) -> None:
    config = tiny()
    for command in (["first"], ["second"], ["third"]):
        (tmp_path / "result.json").unlink(missing_ok=True)
        train.fit(build(config), config, tmp_path, command=command)
    environment = json.loads((tmp_path / "result.json").read_text())["environment"]
    sessions = [*environment["earlier_sessions"], environment]
    assert [session["command"] for session in sessions] == [["first"], ["second"], ["third"]]
    assert all("earlier_sessions" not in session for session in sessions[:-1])


def test_the_result_names_the_bits_of_the_last_state(tmp_path: Path) -> None:
    digests = []
    for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
        fit(tmp_path / folder, tiny(num_steps=10, seed=seed))
        result = runs.read(tmp_path / folder).result
        assert result is not None
        state = runs.load(tmp_path / folder, "last").state
        assert result["state_sha256"] == snapshot.digest(state)
        digests.append(result["state_sha256"])

    assert digests[0] == digests[1] != digests[2]


def test_a_complete_run_is_left_alone(tmp_path: Path) -> None:
    config = tiny(num_steps=10)
    first = fit(tmp_path, config)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = fit(tmp_path, config)

    assert second.status == "already complete"
    assert second.metrics == first.metrics and second.best_step == first.best_step
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_seed_group_gives_each_seed_what_it_gets_alone(tmp_path: Path) -> None:
    config = tiny(seed=3, seed_group=2)
    group = fit(tmp_path / "group" / "seeds3-4", config)
    for offset, seed in enumerate((3, 4)):
        alone = fit(tmp_path / f"alone{seed}", tiny(seed=seed))
        member = json.loads((tmp_path / "group" / f"seed{seed}" / "result.json").read_text())
        assert member["seed"] == seed and member["status"] == "complete"
        value = member["metrics"]["last"]["valid_error"]
        assert value == group.metrics["last"]["valid_error"][offset]
        # vmap changes the last bits; 40 steps of a line fit amplify them little.
        assert value == pytest.approx(alone.metrics["last"]["valid_error"], rel=1e-4)
    assert fit(tmp_path / "group" / "seeds3-4", config).metrics == group.metrics
    with pytest.raises(UserError, match="seeds3-4"):
        runs.read(tmp_path / "group" / "seed3")
    loaded = runs.load(tmp_path / "group" / "seeds3-4", "last")
    for seed, value in zip((3, 4), group.metrics["last"]["valid_error"], strict=True):
        one, alone = loaded.member(seed), runs.load(tmp_path / f"alone{seed}", "last")
        assert one.evaluate()["valid_error"] == pytest.approx(value, rel=1e-6)
        assert 30 in one.steps() and alone.member(seed) is alone
        before = [run.state_at(30).params["slope"] for run in (one, alone)]
        np.testing.assert_allclose(before[0], before[1], rtol=1e-4)
        assert np.abs(before[0] - one.state.params["slope"]).max() > 1e-3
    for seed, said in ((None, "name one of them"), (5, "not seed 5")):
        with pytest.raises(UserError, match=f"has seeds 3 to 4.*{said}"):
            loaded.member(seed)


def test_a_seed_group_refuses_data_that_depend_on_the_seed(tmp_path: Path) -> None:
    (tmp_path / "seeded.py").write_text(
        "import numpy as np\n"
        "from tests.tiny.experiment import line\n"
        "def seeded(config):\n"
        "    one = line(config)\n"
        "    return one._replace(data=lambda: {**one.data(), 'seed': np.array(config.seed)})\n"
    )
    config = ConfigDict(tiny(seed_group=2).to_dict())
    config.experiment, config.config_dir = "seeded.py:seeded", str(tmp_path)
    with pytest.raises(UserError, match="config.seed_group=2: the data depend on config.seed"):
        fit(tmp_path / "run", config.lock())


def test_a_group_killed_before_all_results_are_written_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, write = tiny(seed_group=2, num_steps=10), write_json

    def fail_at_the_second_seed(path: Path, value: Any) -> None:
        if path.parent.name == "seed1":
            raise DataError("full")
        write(path, value)

    monkeypatch.setattr(run_results, "write_json", fail_at_the_second_seed)
    with pytest.raises(DataError):
        fit(tmp_path / "seeds0-1", config)
    monkeypatch.undo()

    assert fit(tmp_path / "seeds0-1", config).status == "complete"
    assert (tmp_path / "seed1" / "result.json").exists()


def test_a_warm_start_begins_with_the_best_parameters_of_the_other_run(tmp_path: Path) -> None:
    source = tmp_path / "source"
    fit(source, tiny())
    still = tiny(init_from=source, optimizer__learning_rate=0, num_steps=10)
    fit(tmp_path / "still", still)

    np.testing.assert_array_equal(slope(tmp_path / "still"), slope(source, "best"))
    for name in ("result.json", "config.json"):  # what continues needs the source no more
        (source / name).unlink()
    (tmp_path / "still" / "result.json").unlink()
    assert fit(tmp_path / "still", still).status == "complete"


def test_a_bad_warm_start_names_the_field(tmp_path: Path) -> None:
    source = tmp_path / "source"
    config = tiny(init_from=source)
    with pytest.raises(UserError, match=f"config.init_from='{source}': "):
        fit(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_an_unfit_final_fails_while_training_begins(tmp_path: Path) -> None:
    longest = 10_000  # steps: it is noticed long before
    config = tiny(num_steps=longest, checkpoint_every=longest, eval_every=0)

    def final(state: Any, data: Any, key: Any) -> Any:
        return {"error": (jnp.zeros(3) + jnp.zeros(2), jnp.float32(1))}

    with pytest.raises(TypeError):
        fit(tmp_path, config, build(config)._replace(final=final))
    assert steps(tmp_path) == []  # not even the last checkpoint, and no result
    assert not (tmp_path / "result.json").exists()


def test_tensorboard_files_hold_the_metrics(tmp_path: Path) -> None:
    config = tiny(num_steps=10)
    train.fit(build(config), config, tmp_path, tensorboard=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    assert b"train/loss" in content and b"eval/valid_error" in content


@pytest.mark.slow  # test_distributed.py has two by default
def test_two_processes_train_one_run_to_the_numbers_of_one(tmp_path: Path) -> None:
    alone = fit(tmp_path / "alone", tiny())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "common.lab.cli",
        "train",
        f"--config={CONFIG}",
        "--distributed",
    ]
    variables = {"LAB_COORDINATOR": f"127.0.0.1:{port}", "LAB_NUM_PROCESSES": "2", "XLA_FLAGS": ""}
    children = [
        subprocess.Popen(
            [*command, f"--workdir={tmp_path / 'pair'}"],
            cwd=REPOSITORY,
            env={**os.environ, **variables, "LAB_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [child.communicate(timeout=90)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], outputs
    (run,) = runs.find(tmp_path / "pair")
    assert run.result is not None
    assert runs.verify(run.path) == dict.fromkeys(steps(tmp_path / "alone"))
    # Sums over two devices round differently.
    expected = pytest.approx(alone.metrics["last"]["valid_error"], rel=1e-4)
    assert run.result["metrics"]["last"]["valid_error"] == expected


def test_a_run_goes_on_with_data_that_were_rounded_but_not_with_others(tmp_path: Path) -> None:
    config = tiny()
    experiment = build(config)

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, config, power_cut(experiment, 25))
    data = experiment.data()
    data["y"][7] += 1e-2
    with pytest.raises(DataError, match="the run began with other data: y differs"):
        fit(tmp_path, config, experiment._replace(data=lambda: data))
    again = {name: x * np.float32(1 + 1e-6) for name, x in experiment.data().items()}
    assert fit(tmp_path, config, experiment._replace(data=lambda: again)).status == "complete"
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["data_sha256"] == data_digest(again) and result["data_identity"] is None


@pytest.fixture
def own(tmp_path: Path) -> ConfigDict:
    """The config of a copy of the line fit, whose code the test may edit."""
    for name in ("config.py", "experiment.py"):
        shutil.copy(REPOSITORY / "tests/tiny" / name, tmp_path)
    return load_config(f"{tmp_path}/config.py:cpu")


def edit(config: ConfigDict, old: str, new: str) -> None:
    path = Path(config.config_dir) / "experiment.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_run_goes_on_with_its_own_code_or_with_other_code_if_that_is_allowed(
    own: ConfigDict, tmp_path: Path, logged_warnings: list[str]
) -> None:
    run, experiment = tmp_path / "run", build(own)

    with pytest.raises(RuntimeError, match="power cut"):
        fit(run, own, power_cut(experiment, 25))
    began = manifest.newest_extra(run / "checkpoints")["code"]
    assert began == source.digests(own)
    edit(own, "jnp.mean(errors", "2 * jnp.mean(errors")
    with pytest.raises(UserError, match=r"other code: experiment\.py has changed.*allow-changed"):
        fit(run, own)
    assert steps(run)[-1] == 20

    assert train.fit(build(own), own, run, allow_changed_code=True).status == "complete"
    assert "experiment.py has changed" in logged_warnings[-1]
    result = runs.read(run).result
    assert result is not None
    assert (result["code"], result["earlier_code"]) == (source.digests(own), [began])
    assert fit(run, own).status == "already complete"


def test_a_finished_run_of_other_code_is_refused_or_measured_again(
    own: ConfigDict, tmp_path: Path, logged_warnings: list[str]
) -> None:
    run = tmp_path / "run"
    first = fit(run, own)
    state = slope(run)
    edit(own, 'return {"valid_error":', 'return {"count": (jnp.float32(1), 1.0), "valid_error":')
    with pytest.raises(UserError, match=r"other code: experiment\.py has changed"):
        fit(run, own)
    warm = ConfigDict({**own.to_dict(), "init_from": str(run)}).lock()
    with pytest.raises(UserError, match=r"config\.init_from=.*other code: experiment\.py"):
        fit(tmp_path / "warm", warm)
    assert not (tmp_path / "warm").exists()

    again = train.fit(build(own), own, run, allow_changed_code=True)  # with the metric added

    assert again.status == "complete" and again.metrics["best"]["count"] == 1.0
    assert again.metrics["last"]["valid_error"] == first.metrics["last"]["valid_error"]
    np.testing.assert_array_equal(slope(run), state)
    shutil.rmtree(run / "checkpoints")  # then its old metrics are all there is
    edit(own, "jnp.float32(1)", "jnp.float32(2)")
    logged_warnings.clear()
    last = train.fit(build(own), own, run, allow_changed_code=True)
    assert last.status == "already complete" and last.metrics == again.metrics
    assert "these are its old metrics" in logged_warnings[-1]


def test_a_namesake_in_another_folder_does_not_take_over_a_run(
    own: ConfigDict, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = fit(run, tiny())
    assert fit(run, own) == result._replace(status="already complete", state=None)  # a copy: same
    edit(own, "square(", "abs(")
    with pytest.raises(UserError, match="start again with another --workdir"):
        fit(run, own)
