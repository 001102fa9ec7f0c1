"""Sweeps: members, mistakes in the file, isolation of failures, resuming."""

import itertools
import json
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest

from common.config import load_config
from common.errors import Interrupted, UserError
from common.jobs import slurm
from common.jobs.members import SweepResult
from common.jobs.sweep import plan, prepare_sweep, run_sweep, sweep_hash
from common.jobs.sweep_file import read_sweep
from common.lab import cli
from tests.common.state_files import read_state

LAB = (sys.executable, str(Path(__file__).parents[1] / "fake_lab.py"))

CONFIG = '''"""Fake."""
from ml_collections import ConfigDict

def get_config(arg=None):
    config = ConfigDict(dict(experiment="experiment.py:fake", kind="a", num_steps=10, rate=0.1))
    config.data = ConfigDict(dict(size=4, widths=(1, 2)))
    config.limit, config.layers = None, ((1, 2), (3,))
    return config
'''


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "fake.py").write_text(CONFIG)
    (tmp_path / "experiment.py").write_text('"""Never called."""\nfake = None\n')
    return str(tmp_path / "fake.py")


def write(tmp_path: Path, content: Any, name: str = "sweep.json") -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def run(path: Path, config: str, tmp_path: Path, **changes: Any) -> SweepResult:
    return run_sweep(path, config=config, workdir=tmp_path / "runs", lab=LAB, **changes)


def trained(tmp_path: Path) -> list[str]:
    path = tmp_path / "runs" / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(" ".join(line.split()[1:3]) for line in lines if line.startswith("train"))


def test_members_are_zip_lines_times_grid_points_times_seeds(tmp_path: Path, config: str) -> None:
    path = write(
        tmp_path,
        {
            "zip": {"kind": ["a", "b"], "num_steps": [5, 7]},
            "grid": {"rate": [1, 0.5], "data.widths": [[3, 4]]},
            "seeds": [0, 3],
        },
    )

    members = plan(read_sweep(path), path, config, {}, tmp_path)

    made = {(m.overrides["kind"], m.overrides["num_steps"], m.overrides["rate"]) for m in members}
    assert made == {("a", 5, 1), ("a", 5, 0.5), ("b", 7, 1), ("b", 7, 0.5)}
    assert len(members) == 8
    assert {m.training.seeds for m in members} == {(0,), (3,)}
    assert "--config.data.widths=[3, 4]" in members[0].training.command
    assert len({m.training.name for m in members}) == 8


def test_the_hash_is_that_of_what_is_run_not_of_the_file(tmp_path: Path, config: str) -> None:
    def hash_of(content: dict[str, Any], overrides: dict[str, str] | None = None) -> str:
        path = write(tmp_path, content)
        return sweep_hash(plan(read_sweep(path), path, config, overrides or {}, tmp_path))

    one = hash_of({"grid": {"num_steps": [5, 7]}, "seeds": 2})

    assert hash_of({"seeds": [1, 0], "grid": {"num_steps": [7, 5, 7]}}) == one
    assert hash_of({"zip": {"num_steps": [5, 7]}, "seeds": 2}) == one
    assert hash_of({"grid": {"num_steps": [5, 7]}, "seeds": 3}) != one
    assert hash_of({"grid": {"num_steps": [5, 7]}, "seeds": 2}, {"rate": "0.2"}) != one


def test_toml_is_the_same_sweep(tmp_path: Path, config: str) -> None:
    text = 'seeds = 2\n[grid]\nkind = ["a", "b"]\ndata.size = [1, 2]\n'
    toml, same = write(tmp_path, text, "s.toml"), {"kind": ["a", "b"], "data.size": [1, 2]}

    assert read_sweep(toml) == read_sweep(write(tmp_path, {"grid": same, "seeds": 2}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{'grid'", ("is not JSON",)),
        ([1], ("expected an object with grid, zip, seeds",)),
        ({}, ("is empty", "grid, zip, seeds")),
        ({"grids": {}}, ("'grids'", 'did you mean "grid"', "allowed: grid, zip, seeds")),
        ({"grid": [1]}, ("grid=[1]", "lists of values by config field")),
        ({"grid": {"rate": 3}}, ("grid.rate=3", "a list of values")),
        ({"grid": {"rate": []}}, ("grid.rate=[]", "a list of values")),
        ({"grid": {"seed": [1]}}, ("grid.seed=[1]", "in seeds")),
        ({"zip": {"rate": [1, 2], "kind": ["a"]}}, ("rate has 2, kind has 1", "one length")),
        ({"zip": {"rate": [1]}, "grid": {"rate": [2]}}, ("'rate' is in grid and in zip",)),
        ({"seeds": 0}, ("seeds=0", "such as 5")),
        ({"seeds": [1, 1]}, ("seeds=[1, 1]", "different")),
        ({"seeds": [True]}, ("seeds=[True]",)),
        ({"seeds": 2, "slurm": 3}, ("slurm=3", "options of submitit")),
        ({"grid": {"rat": [1]}}, ("'rat'", 'did you mean "rate"')),
        ({"grid": {"num_steps": [1, "many"]}}, ("num_steps='many'", "expected an integer")),
        ({"grid": {"num_steps": [1, 0]}}, ("num_steps", "at least 1")),
        ({"grid": {f"x{i}": [*range(100)] for i in range(6)}}, ("has 1,000,000,000,000 runs",)),
        ({"grid": {"rate": [1]}, "seeds": 10**9}, ("has 1,000,000,000 runs", "at most 10,000")),
        ({"seeds": [2**32]}, ("seeds=[4294967296]", "0 to 4294967295")),
        ({"seeds": 10**40}, ("seeds=1000", "such as 5")),
        ('{"grid": {"rate": [1], "rate": [2]}}', ("'rate' is there twice",)),
        ("[" * 100_000, ("is not JSON",)),
        ('{"seeds": ' + "9" * 5000 + "}", ("is not JSON",)),
        (f'{{"seeds": 2, "slurm": {{"a": "{"x" * 2**20}"}}}}', ("is longer than 1,048,576 bytes",)),
        ({"grid": {"kind": ["a", None]}}, ("kind=None", "type str", "'None'")),
        ({"grid": {"kind": [3]}}, ("kind=3", "type str")),
        ({"grid": {"limit": ["3"]}}, ("limit='3'", "type int")),
        ({"grid": {"num_steps": [True]}}, ("num_steps", "an integer")),
    ],
)
def test_a_mistake_in_the_file_is_named_before_anything_runs(
    tmp_path: Path, config: str, content: Any, words: tuple[str, ...]
) -> None:
    path = write(tmp_path, content)

    with pytest.raises(UserError) as caught:
        run(path, config, tmp_path)

    assert str(caught.value).startswith(f"--sweep={path}: ")
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []
    assert not (tmp_path / "runs").exists()


def test_files_that_cannot_be_read_are_named(tmp_path: Path, config: str) -> None:
    for path, words in (
        (tmp_path / "none.json", "No such file"),
        (write(tmp_path, "", "s.yaml"), "ends in .json or .toml"),
        (write(tmp_path, "a = ", "s.toml"), "is not TOML"),
    ):
        with pytest.raises(UserError, match=words):
            run(path, config, tmp_path)
    path = write(tmp_path, {"grid": {"rate": [1]}})
    with pytest.raises(UserError, match=r"'rate' is also given as --config\.rate"):
        run(path, config, tmp_path, overrides={"rate": "2"})


def test_values_arrive_in_the_type_they_have_in_the_file(tmp_path: Path, config: str) -> None:
    layers, limits = [[[4, 5], [6]], [[7]]], [None, 3, [1, [2]], "word"]
    path = write(tmp_path, {"grid": {"layers": layers, "limit": limits, "rate": [1]}})

    members = plan(read_sweep(path), path, config, {}, tmp_path, LAB)
    arrived = set()
    for member in members:
        _, values, overrides = cli.parse("train", member.training.command[len(LAB) + 1 :])
        settings = load_config(values["config"], overrides)
        arrived.add((settings.layers, settings.limit, settings.rate))

    made = [((4, 5), (6,)), ((7,),)], [None, 3, (1, (2,)), "word"], [1.0]
    assert arrived == set(itertools.product(*made))


def test_a_pipe_is_no_sweep_file(tmp_path: Path, config: str) -> None:
    os.mkfifo(tmp_path / "s.json")

    with pytest.raises(UserError, match=r"s\.json: is no file"):
        run(tmp_path / "s.json", config, tmp_path)


def test_preparing_a_sweep_makes_every_set_of_data_once_and_trains_nothing(
    tmp_path: Path, config: str
) -> None:
    path = write(tmp_path, {"grid": {"data.size": [1, 2], "rate": [1, 2]}, "seeds": 2})
    options = dict(config=config, overrides={}, workdir=tmp_path / "runs", lab=LAB)

    made = prepare_sweep(path, flags=["--devices=2"], **options)

    assert [outcome.status for outcome in made.outcomes] == ["done", "done"]
    assert all(
        outcome.job.command[-2:] == ("--devices=2", "--prepare") for outcome in made.outcomes
    )
    assert trained(tmp_path) == []


@pytest.mark.slow  # a failed cell of a table: test_runner.py
def test_a_failing_member_stops_nobody_and_a_second_call_runs_only_what_is_missing(
    tmp_path: Path, config: str
) -> None:
    path = write(tmp_path, {"grid": {"kind": ["a", "broken", "b", "silent"]}, "seeds": 1})

    first = run(path, config, tmp_path)
    calls = trained(tmp_path)
    (tmp_path / "more.json").write_text('{"grid": {"kind": ["a", "c", "broken"]}, "seeds": 2}')
    again = run(path, config, tmp_path)
    called_again = trained(tmp_path)

    assert calls == ["a 0", "b 0", "broken 0", "silent 0"]
    assert called_again == ["broken 0", "silent 0"]
    assert (first.num_run, again.num_run) == (4, 2)
    assert sorted(first.problems.values()) == [
        "ended without a result",
        "exit code 3: lab: error: this kind is broken",
    ]
    assert first.problems == again.problems
    assert "2 of 4 done (4 run now), 2 failed" in first.summary()
    assert "kind=b seed 0: accuracy 0.2 loss 20" in first.summary()
    assert "kind=broken seed 0: FAILED, exit code 3" in first.summary()
    assert first.folder == again.folder == tmp_path / "runs" / "sweeps" / sweep_hash(first.members)
    listed = json.loads((first.folder / "jobs.json").read_text())
    assert [entry["overrides"] for entry in listed] == [
        {"kind": kind} for kind in ("a", "broken", "b", "silent")
    ]
    state = {
        name: entry["status"] for name, entry in read_state(first.folder / "state.jsonl").items()
    }
    assert sorted(state.values()) == ["done", "done", "done", "failed"]
    # Another sweep with members in common: their results are used.
    more = run(tmp_path / "more.json", config, tmp_path)
    lines = more.summary().splitlines()
    assert "  kind=a: accuracy 0.1050 ± 0.0071  loss 10.50 ± 0.71" in lines  # 10 and 11
    assert "  kind=c: accuracy 0.3050 ± 0.0071  loss 30.50 ± 0.71" in lines
    assert trained(tmp_path) == ["a 1", "broken 0", "broken 1", "c 0", "c 1"]


class FakeJob:
    """What a submitit job offers, done at once."""

    def __init__(self, code: int):
        self.code, self.job_id = code, "17"
        self.paths = types.SimpleNamespace(stderr="log")

    def done(self) -> bool:
        return True

    def exception(self) -> None:
        return None

    def result(self) -> int:
        return self.code

    def stderr(self) -> str:
        return "why" if self.code else ""


class FakeExecutor:
    """What submitit's AutoExecutor offers; runs on the spot."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, folder: Path, cluster: str):
        FakeExecutor.options = {"folder": folder, "cluster": cluster}

    def update_parameters(self, **options: Any) -> None:
        if "nonsense" in options:
            raise NameError("no such parameter:\n nonsense")
        FakeExecutor.options.update(options)

    def submit(self, function: Any, *words: Any) -> FakeJob:
        return FakeJob(function(*words))


def test_slurm_gets_the_options_of_the_file_and_runs_what_is_missing(
    tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = types.SimpleNamespace(AutoExecutor=FakeExecutor)
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.0)
    options = {"timeout_min": 5, "slurm_partition": "p"}
    path = write(tmp_path, {"grid": {"kind": ["a", "broken"]}, "slurm": options})

    result = run(path, config, tmp_path, slurm=True)

    assert FakeExecutor.options["cluster"] == "slurm"
    assert FakeExecutor.options["timeout_min"] == 5
    assert FakeExecutor.options["slurm_partition"] == "p"
    assert list(result.problems.values()) == ["exit code 3: why"]
    assert "kind=a seed 0: accuracy 0.1" in result.summary()
    trained(tmp_path)
    run(path, config, tmp_path, slurm=True)
    assert trained(tmp_path) == ["broken 0"]
    wrong = write(tmp_path, {"grid": {"kind": ["a"]}, "slurm": {"nonsense": 1}}, "wrong.json")
    with pytest.raises(UserError, match="no such parameter: nonsense"):
        run(wrong, config, tmp_path, slurm=True)


class WaitingJob(FakeJob):
    """Runs until it is cancelled; looking at it is when Ctrl-C is pressed."""

    cancelled = False

    def cancel(self, check: bool) -> None:
        self.cancelled = True

    def done(self) -> bool:
        if not self.cancelled:
            os.kill(os.getpid(), signal.SIGINT)
        return self.cancelled


def test_stopping_cancels_the_slurm_jobs(
    tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [WaitingJob(1), WaitingJob(1)]
    fake = types.SimpleNamespace(AutoExecutor=FakeExecutor)
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setattr(FakeExecutor, "submit", lambda *_: waiting.pop())
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.0)

    with pytest.raises(Interrupted, match=r"0 of 2 done, 2 stopped halfway; the same command"):
        run(write(tmp_path, {"seeds": 2}), config, tmp_path, slurm=True)


def test_slurm_without_submitit_names_the_extra(
    tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)

    with pytest.raises(UserError, match=r"submitit is missing.*extra: slurm"):
        run(write(tmp_path, {"seeds": 1}), config, tmp_path, slurm=True)
