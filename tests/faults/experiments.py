"""Four unlike experiments, as small as they get, for runs that are to be harmed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import runs
from common.checkpoints import manifest
from common.run_folders.records import Run
from tests.faults import papers

# A perceptron with noise from the key of each step; eight seeds as one program, with SAM in the
# first half; a neural operator with an exact boundary condition.
SUPERVISED, POPULATION, OPERATOR = "supervised", "population", "operator"
IMAGES = "images"
SPECS: Mapping[str, str] = {
    SUPERVISED: "tests/tiny/slow.py:cpu",
    POPULATION: "landscape/sam_rank/configs/two_layer.py:cpu",
    OPERATOR: papers.PAPERS["sciml.boon"].spec,
    IMAGES: papers.PAPERS["landscape.visualizing"].spec,
}
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    SUPERVISED: {"num_steps": 60, "eval_every": 30, "checkpoint_every": 10, "milliseconds": 5},
    POPULATION: {
        "num_steps": 60,
        "eval_every": 20,
        "checkpoint_every": 10,
        "gradient.rho": 0.4,
        "gradient.stop": 0.5,
    },
    OPERATOR: {
        "num_steps": 40,
        "eval_every": 20,
        "checkpoint_every": 5,
        "seed_group": 1,
        **papers.PAPERS["sciml.boon"].fields,
    },
    IMAGES: {
        "num_steps": 60,
        "eval_every": 30,
        "checkpoint_every": 10,
        **papers.PAPERS["landscape.visualizing"].fields,
    },
}


def train(name: str, workdir: Path, **changes: Any) -> list[str]:
    """Returns the words after `lab` that train an experiment of this file.

    Args:
        name: "supervised", "population", "operator" or "images".
        workdir: Of all runs.
        changes: Further fields of the config.
    """
    fields = {"steps_per_call": 1, "log_every": 1, **_FIELDS[name], **changes}
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    return ["train", f"--config={SPECS[name]}", f"--workdir={workdir}", *overrides]


def only_run(workdir: Path) -> Run:
    """Returns the one run below a folder."""
    (run,) = runs.find(workdir)
    return run


def outcome(workdir: Path) -> dict[str, Any]:
    """Returns what must be the same of two runs: last state, metrics, every line of the log."""
    run = only_run(workdir)
    result = run.result
    assert result is not None and result["status"] == "complete", run.path
    names = ("step", "best_step", "state_sha256", "metrics")
    log = (run.path / "metrics.jsonl").read_text()
    return {**{name: result[name] for name in names}, "log": log}


def newest_step(workdir: Path) -> int:
    """Returns the newest step that is saved and valid; -1 where there is none."""
    folders = list(workdir.glob("*/*/*/*/checkpoints"))
    if not folders:
        return -1
    (folder,) = folders
    return max((step for step, bad in manifest.verify(folder).items() if bad is None), default=-1)
