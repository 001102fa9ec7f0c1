"""Paths as people write them: brackets, "~", colons, links, long names, moved folders, no home."""

import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from common import runs
from common.checkpoints import checkpoint, manifest
from common.checkpoints.checkpoint import Checkpoints
from common.config import load_config
from common.devices import jax_start
from common.errors import DataError, UserError
from common.experiment import build
from common.files.json_files import write_json
from common.files.storage import user_folder, user_path
from common.lab import cli
from common.loop.train import fit
from common.papers import split_spec
from common.provenance.places import relative_to_run
from common.run_folders.records import run_directory
from tests.common.states import abstract, assert_same
from tests.processes import REPOSITORY

STATE = {"w": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.float32(1)}
NAMES = (
    "plain",
    "a b",
    "lr=1e-3,layers=[4,8]",  # as Hydra's override_dirname
    "a[b",
    "a]b",
    "a*b",
    "a?b",
    "a\\b",
    "{a}#%20",
    "logs:",
    "gs:",
    "é日本",
    "not UTF-8 \udcff",
    "line\nbreak",
    "x" * 255,
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_arrays_are_saved_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "checkpoints"
    (tmp_path / "aXb" / "checkpoints").mkdir(parents=True)  # what "a*b" and "a?b" match as patterns
    for step in (1, 2):  # the second in a process that has seen the folder
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(step, STATE)
    renamed = folder.parent.rename(tmp_path / "renamed") / "checkpoints"
    with Checkpoints(renamed, read_only=True) as checkpoints:
        restored = checkpoints.restore(abstract(STATE))
    assert restored is not None and restored.step == 2
    assert_same(restored.state, STATE)
    assert not list((tmp_path / "aXb" / "checkpoints").iterdir())
    assert manifest.verify(renamed) == {1: None, 2: None}


def test_a_checkpoint_whose_arrays_cannot_be_read_back_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str]
) -> None:
    folder = tmp_path / "[4,8]" / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, STATE)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_plain_name", str)  # as orbax has it without our help
        checkpoints = Checkpoints(folder)
        checkpoints.save(2, STATE)
        with pytest.raises(DataError, match="2 was not saved: its arrays cannot be read back"):
            checkpoints.close()
        patch.setattr(Checkpoints, "_read_back", lambda *arguments: None)
        checkpoints = Checkpoints(folder)
        checkpoints.save(2, STATE)
        with pytest.raises(DataError, match="2 was not saved: state/manifest.ocdbt was not wri"):
            checkpoints.close()
        assert os.listdir(folder) == ["1"]

        patch.setattr(manifest, "ARRAYS", "state/_METADATA")  # as it was once
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(2, STATE)
    assert "never written" in str(manifest.verify(folder)[2])
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(abstract(STATE))
    assert restored is not None and restored.step == 1
    assert "step 2 refused: state/manifest.ocdbt was never written" in logged_warnings[-1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, `lab`, and its complete run below `runs`."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "lab").mkdir()
    for name in ("config.py", "experiment.py"):
        shutil.copy(REPOSITORY / "tests" / "tiny" / name, folder / "lab")
    config = load_config(f"{folder}/lab/config.py:cpu", {"num_steps": "10"})
    fit(build(config), config, run_directory(folder / "runs", config))
    return folder


def test_runs_on_another_disk_are_those_of_the_project_where_it_was_or_is(
    project: Path, tmp_path: Path
) -> None:
    there, here, disk = tmp_path / "there", tmp_path / "and" / "here", tmp_path / "disk"
    shutil.copytree(project, there)
    (there / "runs").rename(disk)
    (there / "runs").symlink_to(disk)
    (run,) = runs.find(there / "runs")
    moving = ConfigDict({**run.config.to_dict(), "config_dir": str(there / "lab")})
    placed = {**moving.to_dict(), **relative_to_run(moving, run.path)}
    write_json(run.path / "config.json", placed)
    here.parent.mkdir()
    there.rename(here)
    (run,) = runs.find(disk)  # alone they cannot know, but the same command finds both
    config = load_config(f"{here}/lab/config.py:cpu", {"num_steps": "10"})
    assert run_directory(disk, config) == run.path
    assert fit(build(config), config, run.path).status == "already complete"


@pytest.mark.parametrize("how", [Path.rename, shutil.copytree])
def test_runs_and_project_move_together(project: Path, tmp_path: Path, how: Any) -> None:
    shutil.copytree(project, tmp_path / "there")
    how(tmp_path / "there", tmp_path / "here")
    (run,) = runs.find(tmp_path / "here" / "runs")
    assert run.config.config_dir == str(tmp_path / "here" / "lab")
    assert run.result is not None
    loaded = runs.load(run.path)
    assert loaded.evaluate() == run.result["metrics"]["best"]
    config = load_config(f"{tmp_path}/here/lab/config.py:cpu", {"num_steps": "10"})
    assert fit(build(config), config, run.path).status == "already complete"


def test_links_are_followed_to_read_and_removed_as_links(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "here")
    (run,) = runs.find(tmp_path / "here" / "runs")
    step, large = run.path / "checkpoints" / "10", tmp_path / "large disk"
    shutil.copytree(step, large / "10")
    shutil.copytree(step, run.path / "checkpoints" / "5")
    shutil.rmtree(step)
    step.symlink_to(large / "10")
    (tmp_path / "latest").symlink_to(run.path)
    assert runs.verify(tmp_path / "latest")[10] is None
    assert runs.load(tmp_path / "latest").step == 10
    with Checkpoints(run.path / "checkpoints", keep_last=1) as checkpoints:
        checkpoints.save(20, STATE, best=True)
    assert manifest.steps(run.path / "checkpoints") == (20,)
    assert (large / "10" / "MANIFEST.json").is_file()  # the link is gone, not what it led to


@pytest.mark.parametrize("builder", ["link", "target"])
def test_a_config_file_may_be_a_link(tmp_path: Path, builder: str) -> None:
    for name in ("link", "target"):
        (tmp_path / name).mkdir()
    shutil.copy(REPOSITORY / "tests/tiny/config.py", tmp_path / "target")
    shutil.copy(REPOSITORY / "tests/tiny/experiment.py", tmp_path / builder)
    (tmp_path / "link" / "mine.py").symlink_to("../target/config.py")
    config = load_config(f"{tmp_path}/link/mine.py:cpu")
    assert config.config_dir == str(tmp_path / builder)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("a/config.py", ("a/config.py", "")),
        ("a/config.py:cpu,pde=heat", ("a/config.py", "cpu,pde=heat")),
        ("2026-11-29T01:20/config.py:cpu", ("2026-11-29T01:20/config.py", "cpu")),
        ("01:20/config.py", ("01:20/config.py", "")),
        ("a.py:b/config.py:cpu", ("a.py:b/config.py", "cpu")),
        ("config.toml:cpu", ("config.toml", "cpu")),
    ],
)
def test_a_config_is_split_at_the_last_colon_after_a_python_file(
    spec: str, parts: tuple[str, str]
) -> None:
    assert split_spec(spec) == parts


def test_a_tilde_is_a_home_directory_wherever_a_path_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _, values, _ = cli.parse("train", ["--config=~/lab/config.py:cpu", "--workdir", "~"])
    assert (values["config"], values["workdir"]) == (f"{tmp_path}/lab/config.py:cpu", str(tmp_path))
    config = load_config("tests/tiny/config.py:cpu")
    for given in ("~/runs", Path("~/runs")):
        assert run_directory(given, config).is_relative_to(tmp_path / "runs")
    with pytest.raises(UserError, match=f"{tmp_path}/absent"):
        runs.read("~/absent")
    monkeypatch.setenv("LAB_CACHE", "~/[cache]")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert user_folder("LAB_CACHE", "cache") == tmp_path / "[cache]" / "cache"
    assert str(jax_start.programs_here()).startswith(f"{tmp_path}/[cache]/xla/jaxlib-")
    assert user_path("./~x") == user_path(Path("~x")) == Path("~x")  # names of folders


def test_a_home_that_is_not_known_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_warnings: list[str]
) -> None:
    with pytest.raises(UserError, match="--workdir='~nobody-here/runs': no home directory"):
        cli.parse("runs list", ["--workdir=~nobody-here/runs"])
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)  # HOME unset, a foreign user
    monkeypatch.delenv("LAB_CACHE", raising=False)
    with pytest.raises(UserError, match="'~/runs': no home directory ~ is known"):
        runs.find("~/runs")
    with pytest.raises(DataError, match="no home directory to put cache in: set LAB_CACHE"):
        user_folder("LAB_CACHE", "cache")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert jax_start.programs_here() is None  # which costs time, not the run
    assert "compiled programs are not kept: no home directory" in logged_warnings[-1]
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file"))
    assert jax_start.programs_here() is None
    assert str(tmp_path / "file") in logged_warnings[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "--run={name}"],
        ["train", "--config={name}/config.py"],
        ["train", "--config={name}.py:cpu"],
        ["runs", "compare", "{name}", "{name}"],
        ["train", "--config=tests/tiny/config.py:cpu", "--sweep={name}.json"],
    ],
)
def test_a_name_that_is_too_long_is_one_line(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code = cli.main([word.format(name="x" * 300) for word in words])
    error = capfd.readouterr().err
    assert code in (2, 4)
    assert error.count("\n") == 1 and error.startswith("lab: error: ") and "xxx" in error


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_replaced(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    shows = cli.VERBS["list"]._replace(run=lambda **flags: print("✔ holds 日\udcff"))
    monkeypatch.setitem(cli.VERBS, "list", shows)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert cli.main(["list"]) == 0
    sys.stdout.flush()
    assert written.getvalue() == b"? holds ??\n"
