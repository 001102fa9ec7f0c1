"""Run folders: found, read, compared, verified, pruned and loaded again."""

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from common import manifest, runs
from common.config import LOOP_DEFAULTS, config_hash
from common.errors import DataError, UserError
from common.experiment import build
from common.train import fit

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
    directory = runs.run_directory(folder / "runs", config)
    fit(build(config), config, directory, command=["lab", "train"])
    return directory


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A run folder that the test may damage, below the workdir tmp_path."""
    return Path(shutil.copytree(trained, tmp_path / trained.relative_to(trained.parents[3])))


def test_the_folder_tells_paper_experiment_config_and_seed_apart(tmp_path: Path) -> None:
    config = make_config(Path("/somewhere/mine"))
    folder = runs.run_directory("runs", config)
    assert folder == Path("runs") / "mine" / "line" / config_hash(config) / "seed0"

    paper = make_config(tmp_path, experiment="nfn.equivariant:inr_classification", seed=3)
    folder = runs.run_directory("runs", paper)
    assert folder.parts[:3] == ("runs", "nfn.equivariant", "inr_classification")
    assert folder.name == "seed3"

    same = [make_config(tmp_path, seed=1), make_config(tmp_path, mesh={"data": 2})]
    assert {runs.run_directory("runs", c).parent for c in same} == {
        runs.run_directory("runs", make_config(tmp_path)).parent
    }
    other = make_config(tmp_path, learning_rate=0.25)
    assert runs.run_directory("runs", other).parent != runs.run_directory("runs", same[0]).parent
    group = make_config(tmp_path, seed=2, seed_group=4)
    assert runs.run_directory("runs", group).name == "seeds2-5"


def test_a_complete_run_is_found_and_read(copied: Path, tmp_path: Path) -> None:
    (found,) = runs.find(tmp_path)
    assert found.path == copied
    assert found.config.learning_rate == 0.5 and found.config.is_locked
    assert found.environment["command"] == ["lab", "train"]
    assert found.result is not None and found.result["status"] == "complete"
    assert runs.find(tmp_path / "absent") == []
    with pytest.raises(UserError, match="is no run folder"):
        runs.read(tmp_path)


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
    assert runs.prune(copied, keep=2) == ()
    assert runs.prune(copied, keep=1) == (2,)
    assert sorted(os.listdir(checkpoints)) == ["6", "notes"]
    assert (copied / "result.json").exists() and (copied / "metrics.jsonl").exists()


def test_prune_never_leaves_a_run_without_a_valid_checkpoint(copied: Path) -> None:
    (copied / "checkpoints" / "6" / "MANIFEST.json").write_text("{}")
    assert runs.prune(copied, keep=1) == (2,)
    assert runs.verify(copied)[4] is None


def test_prune_leaves_alone_what_is_no_run_or_in_use(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        runs.prune(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    with runs.claim(copied), pytest.raises(UserError, match="another process"):
        runs.prune(copied)
    assert manifest.steps(copied / "checkpoints") == (2, 4, 6)


def test_a_run_has_one_trainer_at_a_time_and_a_dead_one_does_not_count(tmp_path: Path) -> None:
    hold = (
        "import sys, time\nfrom pathlib import Path\nfrom common.jobs import locked\n"
        "with locked(Path(sys.argv[1]), 'it'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process"), runs.claim(tmp_path / "run"):
            raise AssertionError("held twice")
        other.kill()
    with runs.claim(tmp_path / "run"):
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


def test_environment_names_commit_versions_and_machine() -> None:
    facts = runs.environment(["lab", "train"])
    git = ["git", "-C", ROOT, "rev-parse", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    assert facts["commit"] == (done.stdout.strip() if done.returncode == 0 else None)
    assert facts["packages"]["jax"] == metadata.version("jax")
    assert facts["cpu_count"] >= 1 and facts["devices"].startswith("1 x ")
    assert json.loads(json.dumps(facts)) == facts


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert runs.environment([])["commit"] is None


def test_nothing_here_needs_jax(trained: Path) -> None:
    code = f"""
import sys
from common import metrics, runs
run = runs.read({str(trained)!r})
assert runs.verify(run.path) == {{2: None, 4: None, 6: None}}
runs.compare(run, run), metrics.read_metrics(run.path / "metrics.jsonl")
assert runs.prune(run.path, keep=9) == ()
assert "devices" not in runs.environment([])
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
    runs.write_json(path, {"x": 1 / 3, "worst": math.inf})
    assert runs.read_json(path) == {"x": 1 / 3, "worst": math.inf}

    def fail(self: Path, *args: Any, **options: Any) -> None:
        with self.open("w") as file:
            file.write('{"x"')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        with pytest.raises(DataError, match=r"result\.json: .*No space left"):
            runs.write_json(path, {"x": 2})
    assert runs.read_json(path)["x"] == 1 / 3
    assert os.listdir(path.parent) == ["result.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        runs.write_json(tmp_path / "file" / "result.json", {})
    with pytest.raises(DataError, match=r"absent\.json"):
        runs.read_json(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("path", "text", "counts"),
    [
        ("code.py", "x = 2", True),
        ("paper/results/table1.cpu.json", "{}", False),  # written by the table before
        ("results/loop.json", "{}", False),
        ("new.py", "y = 1", True),
        ("notes.txt", "untracked", False),
    ],
)
def test_results_are_no_uncommitted_changes_but_code_is(
    tmp_path: Path, path: str, text: str, counts: bool
) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for name in ("code.py", "paper/results/table1.cpu.json", "results/loop.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    assert not runs.has_changes(tmp_path)

    (tmp_path / path).write_text(text)
    assert runs.has_changes(tmp_path) == counts
