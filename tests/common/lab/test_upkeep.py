"""`lab runs`: what is running is left alone, what failed at its start can be removed."""

import json
from pathlib import Path

import pytest

from common.checkpoints import manifest
from common.lab import cli
from common.run_folders.records import FILES, claim


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """Three runs: two with checkpoints at 1, 2 and 3, and one that ended before its first step."""
    for seed in range(3):
        run = tmp_path / "paper" / "experiment" / "abcdef012345" / f"seed{seed}"
        run.mkdir(parents=True)
        config = {"experiment": "paper:experiment", "num_steps": 9, "seed": seed}
        (run / "config.json").write_text(json.dumps(config))
        for step in (1, 2, 3) if seed < 2 else ():
            folder = run / "checkpoints" / str(step)
            folder.mkdir(parents=True)
            manifest.write(folder, step=step, best=False, leaves=(), extra={})
    return tmp_path


def lab(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    code = cli.main(["runs", *words])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out.splitlines()


def test_prune_goes_on_past_a_running_run_and_can_only_say_what_it_would_do(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running, other, failed = sorted(workdir.glob(FILES))
    everything = sorted(workdir.rglob("*"))
    where = f"--workdir={workdir}"
    with claim(running):
        would = lab(capsys, "prune", where, "--dry-run")
        assert sorted(workdir.rglob("*")) == sorted([*everything, running / "lock"])
        did = lab(capsys, "prune", where)
        listed = lab(capsys, "list", where)
    for lines, word in ((would, "would remove"), (did, "removed")):
        assert f"{other}: {word}: 2, 1" in lines
        assert any("left alone" in line and str(running) in line for line in lines)
    assert manifest.steps(other / "checkpoints") == (3,)
    assert manifest.steps(running / "checkpoints") == (1, 2, 3)
    for run, state in (
        (running, "running, saved at step 3 of 9"),
        (other, "not complete, saved at step 3 of 9"),
        (failed, "ended before its first step"),
    ):
        assert any(run.name in line and state in line for line in listed)
    assert str(running.parent.parent) in listed


def test_failed_starts_are_listed_and_removed_alone(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *good, failed = sorted(workdir.glob(FILES))
    where = f"--workdir={workdir}"
    assert lab(capsys, "list", where, "--failed-starts") == [str(failed)]
    assert lab(capsys, "prune", where, "--failed-starts", "--dry-run") == [f"would remove {failed}"]
    assert failed.exists()
    assert lab(capsys, "prune", where, "--failed-starts") == [f"removed {failed}"]
    assert sorted(workdir.glob(FILES)) == good
    assert lab(capsys, "prune", where, "--failed-starts") == [f"no failed starts below {workdir}"]
