"""Run folders: found, read, compared, verified, pruned and loaded again."""

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.checkpoints import manifest
from common.config import config_hash
from common.errors import DataError, UserError
from common.experiment import build
from common.files import json_files
from common.files.json_files import read_json, write_json
from common.lab import upkeep
from common.loop.train import fit
from common.loop_fields import LOOP_DEFAULTS
from common.run_folders.locate import locate
from common.run_folders.records import claim, run_directory
from common.run_folders.trust import check_unchanged

ROOT = str(Path(runs.__file__).parents[1])

LINE = """
import jax, jax.numpy as jnp, numpy as np
from common.experiment import Experiment

def line(config):
    x = np.linspace(-1, 1, 32, dtype=np.float32)

    def step(state, data, batch, key):
        def loss(w):
            return jnp.mean((w * data["x"] - 3 * data["x"]) ** 2)
        value, slope = jax.value_and_grad(loss)(state["w"])
        return {**state, "w": state["w"] - config.learning_rate * slope}, {"loss": value}

    def evaluate(state, data, key):
        return {"distance": (32 * jnp.abs(state["w"] - 3), jnp.float32(32))}

    return Experiment(
        data=lambda: {"x": x},
        init=lambda key: {"w": jnp.float32(0), "key": key},
        step=step,
        batch=lambda index: {},
        evaluate=evaluate,
        predict=lambda state, data, inputs: state["w"] * inputs,
    )
"""


def make_config(folder: Path, **changes: Any) -> ConfigDict:
    fields = {
        "experiment": "line.py:line",
        "config_dir": str(folder),
        "learning_rate": 0.5,
        "num_steps": 6,
        "eval_every": 2,
        "checkpoint_every": 2,
        "keep": 3,
        "best_metric": "-distance",
    }
    return ConfigDict({**LOOP_DEFAULTS, **fields, **changes}).lock()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run with checkpoints at 2, 4 and 6; the last is the best."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "line.py").write_text(LINE)
    config = make_config(folder)
    directory = run_directory(folder / "runs", config)
    fit(build(config), config, directory, command=["lab", "train"])
    return directory


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A run folder that the test may damage, below the workdir tmp_path."""
    return Path(shutil.copytree(trained, tmp_path / trained.relative_to(trained.parents[3])))


def test_the_folder_tells_paper_experiment_config_and_seed_apart(tmp_path: Path) -> None:
    config = make_config(Path("/somewhere/mine"))
    folder = run_directory("runs", config)
    assert folder == Path("runs") / "mine" / "line" / config_hash(config) / "seed0"

    paper = make_config(tmp_path, experiment="nfn.equivariant:inr_classification", seed=3)
    folder = run_directory("runs", paper)
    assert folder.parts[:3] == ("runs", "nfn.equivariant", "inr_classification")
    assert folder.name == "seed3"

    same = [make_config(tmp_path, seed=1), make_config(tmp_path, mesh={"data": 2})]
    assert {run_directory("runs", c).parent for c in same} == {
        run_directory("runs", make_config(tmp_path)).parent
    }
    other = make_config(tmp_path, learning_rate=0.25)
    assert run_directory("runs", other).parent != run_directory("runs", same[0]).parent
    group = make_config(tmp_path, seed=2, seed_group=4)
    assert run_directory("runs", group).name == "seeds2-5"


def test_a_complete_run_is_found_and_read(copied: Path, tmp_path: Path) -> None:
    (found,) = runs.find(tmp_path)
    assert found.path == copied
    assert found.config.learning_rate == 0.5 and found.config.is_locked
    assert found.environment["command"] == ["lab", "train"]
    assert found.result is not None and found.result["status"] == "complete"
    assert runs.find(tmp_path / "absent") == []
    with pytest.raises(UserError, match="is no run folder"):
        runs.read(tmp_path)


def test_a_run_is_found_by_folder_hash_and_seed(copied: Path, tmp_path: Path) -> None:
    key = copied.parent.name
    for name in (str(copied), str(copied.parent), key, key[:6], f"{key}/seed0"):
        assert locate(name, tmp_path) == copied
    shutil.copytree(copied, copied.with_name("seed1"))
    assert locate(f"{key}/seed1", tmp_path) == copied.with_name("seed1")
    for name in (str(copied.parent), key):
        with pytest.raises(UserError, match=rf"{name}: is 2 runs; give one .*seed0, .*seed1$"):
            locate(name, tmp_path)
    absent = "f" * 12
    with pytest.raises(UserError, match=f"{absent}: no run of that hash below {tmp_path}"):
        locate(absent, tmp_path)
    with pytest.raises(UserError, match="elsewhere: is no run folder"):
        runs.read(locate("elsewhere", tmp_path))


@pytest.mark.parametrize("name", ["config.json", "environment.json", "result.json"])
@pytest.mark.parametrize("content", [b'{"a": ', b"[1]", b"\xff\xfe", b""])
def test_a_damaged_run_is_named_and_does_not_hide_the_others(
    copied: Path, tmp_path: Path, logged_warnings: list[str], name: str, content: bytes
) -> None:
    other = copied.with_name("seed9")
    other.mkdir()
    for file in ("config.json", "environment.json", "result.json"):
        shutil.copy(copied / file, other)
    (other / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(other / name))):
        runs.read(other)
    assert [run.path for run in runs.find(tmp_path)] == [copied]
    assert str(other / name) in logged_warnings[0]


def test_loading_gives_the_state_its_metrics_and_predictions(trained: Path) -> None:
    best, last = runs.load(trained), runs.load(str(trained), "last")
    result = runs.read(trained).result
    assert result is not None
    assert best.evaluate() == result["metrics"]["best"]
    assert last.evaluate() == result["metrics"]["last"]
    inputs = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(best.predict(inputs), best.state["w"] * inputs)
    early = runs.load(trained, 2)
    assert early.step == 2 and early.evaluate()["distance"] > last.evaluate()["distance"]
    with pytest.raises(DataError, match="no checkpoint of step 3; there: 2, 4, 6"):
        runs.load(trained, 3)


def test_loading_changes_nothing_and_refuses_a_damaged_best(copied: Path) -> None:
    (copied / "checkpoints" / "6" / "state" / "_METADATA").unlink()
    before = sorted(copied.rglob("*"))
    with pytest.raises(DataError, match="step 6 is corrupt: state/_METADATA is missing"):
        runs.load(copied)
    assert runs.load(copied, "last").step == 4
    assert sorted(copied.rglob("*")) == before


def test_verify_names_the_damaged_file_of_each_step(copied: Path) -> None:
    assert runs.verify(copied) == {2: None, 4: None, 6: None}
    (copied / "checkpoints" / "4" / "state" / "manifest.ocdbt").unlink()
    assert runs.verify(copied) == {2: None, 4: "state/manifest.ocdbt is missing", 6: None}


def test_prune_keeps_the_newest_and_the_best(copied: Path) -> None:
    checkpoints = copied / "checkpoints"
    (checkpoints / "4").rename(checkpoints / "refused-4")
    (checkpoints / "notes").mkdir()
    before = sorted(checkpoints.rglob("*"))
    assert upkeep.prune(copied, keep=1, dry_run=True) == ["2", "refused-4"]
    assert sorted(checkpoints.rglob("*")) == before
    assert upkeep.prune(copied, keep=2) == ["refused-4"]
    assert upkeep.prune(copied, keep=1) == ["2"]
    assert sorted(os.listdir(checkpoints)) == ["6", "notes"]
    assert (copied / "result.json").exists() and (copied / "metrics.jsonl").exists()


def test_prune_never_leaves_a_run_without_a_valid_checkpoint(copied: Path) -> None:
    (copied / "checkpoints" / "6" / "MANIFEST.json").write_text("{}")
    assert upkeep.prune(copied, keep=1) == ["2"]
    assert runs.verify(copied)[4] is None


def test_prune_leaves_alone_what_is_no_run_or_in_use(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        upkeep.prune(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    assert not upkeep.is_in_use(copied)
    with claim(copied):
        assert upkeep.is_in_use(copied)
        for dry_run in (False, True):
            with pytest.raises(UserError, match="another process"):
                upkeep.prune(copied, dry_run=dry_run)
    assert manifest.steps(copied / "checkpoints") == (2, 4, 6)


def test_only_starts_that_made_no_step_are_removed(copied: Path, tmp_path: Path) -> None:
    names = ("config.json", "environment.json", "lock", "metrics.jsonl")
    folders = {name: tmp_path / "p" / "e" / name / "seed0" for name in ("early", "late", "logged")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for name in names:
        (folders["late"] / name).touch()
        (folders["logged"] / name).write_text("{}\n")
    (folders["late"] / "checkpoints").mkdir()
    failed = [folders["early"], folders["late"]]

    assert upkeep.failed_starts(tmp_path) == failed
    with claim(folders["late"]):  # it starts again just now
        assert upkeep.failed_starts(tmp_path) == failed[:1]
        with pytest.raises(UserError, match="another process"):
            upkeep.remove_failed_start(folders["late"])
    assert [upkeep.remove_failed_start(path) for path in failed] == [True, True]
    assert not upkeep.remove_failed_start(copied)
    assert sorted(path.name for path in (tmp_path / "p" / "e").iterdir()) == ["logged"]
    assert manifest.steps(copied / "checkpoints") == (2, 4, 6)


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run with a copy of its code, tmp_path/line.py, which the test may edit."""
    (tmp_path / "line.py").write_text(LINE)
    folder = Path(shutil.copytree(trained, tmp_path / trained.relative_to(trained.parents[4])))
    rewrite(folder / "config.json", config_dir=str(tmp_path))
    return folder


def rewrite(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_run_is_not_loaded_with_other_code_unless_that_is_allowed(
    own: Path, tmp_path: Path, logged_warnings: list[str]
) -> None:
    measured = runs.load(own).evaluate()
    (tmp_path / "line.py").write_text(LINE.replace("32 * jnp", "64 * jnp"))
    for complete in (True, False):  # the result says what the code was, else the checkpoint
        with pytest.raises(UserError, match=rf"{own}: .*other code: line\.py has changed"):
            runs.load(own)
        loaded = runs.load(own, allow_changed_code=True)
        assert loaded.evaluate()["distance"] == 2 * measured["distance"]
        assert "line.py has changed" in logged_warnings.pop()
        (own / "result.json").unlink(missing_ok=not complete)


def test_a_run_whose_version_recorded_no_code_is_loaded_with_a_warning(
    own: Path, tmp_path: Path, logged_warnings: list[str]
) -> None:
    result = json.loads((own / "result.json").read_text())
    del result["code"], result["digest"]
    (own / "result.json").write_text(json.dumps(result))
    (tmp_path / "line.py").write_text(LINE.replace("32 * jnp", "64 * jnp"))
    assert runs.load(own).step == 6
    assert "recorded no code" in logged_warnings[0]


@pytest.mark.parametrize("step", ["best", 2])
def test_a_run_is_not_loaded_with_other_data(own: Path, step: Any) -> None:
    folder = own / "checkpoints" / str(6 if step == "best" else step)
    saved = manifest.read(folder)
    leaves = {"x": {**saved.extra["data"]["leaves"]["x"], "rms": 2.0}}
    extra = {**saved.extra, "data_sha256": "0", "data": {**saved.extra["data"], "leaves": leaves}}
    (folder / "MANIFEST.json").unlink()
    manifest.write(folder, step=saved.step, best=True, leaves=saved.leaves, extra=extra)
    with pytest.raises(DataError, match=rf"{own}: the run began with other data: x differs"):
        runs.load(own, step)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("change", [{"learning_rate": 0.25}, {"seed": 1}])
def test_an_edited_config_is_noticed(own: Path, change: dict[str, Any], complete: bool) -> None:
    if not complete:
        (own / "result.json").unlink()
    rewrite(own / "config.json", keep=9, mesh={"data": 1})  # what may change between sessions
    check_unchanged(runs.read(own))
    rewrite(own / "config.json", **change)
    fields = next(iter(change)) if complete else ""
    with pytest.raises(DataError, match=rf"config\.json: was edited.*{fields}.*; bring it back"):
        runs.load(own)


def test_an_edited_result_is_noticed(own: Path, logged_warnings: list[str]) -> None:
    metrics = json.loads((own / "result.json").read_text())["metrics"]
    rewrite(own / "result.json", wall_time_s=1.0, metrics={**metrics, "last": {"distance": 0.0}})
    with pytest.raises(DataError, match=r"result\.json: is damaged: it was changed after"):
        runs.read(own)
    assert runs.find(own.parents[3]) == [] and "it was changed after" in logged_warnings[0]
    assert json_files.is_edited(json.loads((own / "result.json").read_text()))


def test_code_in_the_run_folder_is_never_run(own: Path, tmp_path: Path) -> None:
    (own / "line.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{LINE}")
    rewrite(own / "config.json", config_dir=str(own), config_dir_from_run=".")
    with pytest.raises(UserError, match="names code in its own folder"):
        runs.load(own, allow_changed_code=True)
    rewrite(own / "config.json", config_dir=str(tmp_path))
    rewrite(own / "config.json", experiment=f"{own.relative_to(tmp_path)}/line.py:line")
    with pytest.raises(DataError, match="was edited"):
        runs.load(own, allow_changed_code=True)
    assert not (tmp_path / "ran").exists()


def test_a_run_has_one_trainer_at_a_time_and_a_dead_one_does_not_count(tmp_path: Path) -> None:
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom common.files.storage import locked\n"
        "with locked(Path(sys.argv[1]), 'it'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process"), claim(tmp_path / "run"):
            raise AssertionError("held twice")
        other.kill()
    with claim(tmp_path / "run"):
        pass


def test_compare_shows_what_differs_and_the_metrics_side_by_side(copied: Path) -> None:
    a = runs.read(copied)
    assert a.result is not None
    settings = ConfigDict({**a.config.to_dict(), "learning_rate": 0.125})
    b = runs.Run(copied.with_name("seed1"), settings, {}, None)
    lines = [line.split() for line in runs.compare(a, b).splitlines()]
    assert ["learning_rate", "0.5", "0.125"] in lines
    distance = f"{a.result['metrics']['last']['distance']:.6g}"
    assert ["last", "distance", distance, "None"] in lines
    assert not any(line[:1] == ["num_steps"] for line in lines)


def test_nothing_here_needs_jax(trained: Path) -> None:
    code = f"""
import sys
from common import runs
from common.lab import upkeep
from common.loop import metrics
from common.provenance import environment
run = runs.read({str(trained)!r})
assert runs.verify(run.path) == {{2: None, 4: None, 6: None}}
runs.compare(run, run), metrics.read_metrics(run.path / "metrics.jsonl")
assert upkeep.prune(run.path, keep=9) == [] == upkeep.failed_starts(run.path.parents[3])
assert "devices" not in environment.environment([])
heavy = {{"jax", "flax", "optax", "orbax", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_json_files_are_old_or_new_but_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "result.json"
    write_json(path, {"x": 1 / 3, "worst": math.inf})
    assert read_json(path) == {"x": 1 / 3, "worst": math.inf}

    def fail(self: Path, *args: Any, **options: Any) -> None:
        with self.open("w") as file:
            file.write('{"x"')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(DataError, match=r"result\.json: .*No space left"):
            write_json(path, {"x": 2})
    assert read_json(path)["x"] == 1 / 3
    assert os.listdir(path.parent) == ["result.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        write_json(tmp_path / "file" / "result.json", {})
    with pytest.raises(DataError, match=r"absent\.json"):
        read_json(tmp_path / "absent.json")
