"""Run folders: where a run lives, what it says about itself, and loading it for inference.

    <workdir>/<paper>/<experiment>/<hash12>/seed<k>/
        config.json environment.json metrics.jsonl result.json checkpoints/

A seed group trains in `seeds<a>-<b>/` and writes one result.json into each `seed<k>/`. Importing
this module does not import JAX.
"""

import contextlib
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from common import machine, manifest
from common.config import config_hash, describe_diff, from_json
from common.data.storage import publish, storage_errors
from common.errors import DataError, UserError
from common.jobs import locked
from common.papers import REPOSITORY

if TYPE_CHECKING:
    from common.experiment import Experiment

PyTree = Any
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "ml-collections", "numpy")


class Run(NamedTuple):
    """What a run folder says; `result` is None until the run is complete."""

    path: Path
    config: ConfigDict
    environment: dict[str, Any]
    result: dict[str, Any] | None


class Loaded(NamedTuple):
    """A run made ready for use: the best state (or another) and the functions of its experiment.

    Attributes:
        config: Its config.
        experiment: Its pure functions.
        step: Step of the state.
        state: The state on the devices; `state.params` are the parameters of a trained network.
        data: The experiment's data on the devices.
    """

    config: ConfigDict
    experiment: "Experiment"
    step: int
    state: PyTree
    data: PyTree

    def evaluate(self) -> dict[str, Any]:
        """Returns the metrics of `evaluate` and `final`, as the run's result.json has them."""
        from common import program

        functions = [self.experiment.evaluate, self.experiment.final]
        key = program.root_key(self.config)
        values: dict[str, Any] = {}
        for function in functions:
            if function is not None:
                values.update(program.evaluate(function, self.state, self.data, key))
        return values

    def predict(self, inputs: PyTree) -> PyTree:
        """Returns the outputs of the trained model for new inputs.

        Raises:
            UserError: If the experiment does not say how to predict.
        """
        import jax

        predict = self.experiment.predict
        if predict is None:
            raise UserError(f"{self.config.experiment}: its Experiment has no `predict`")
        return jax.jit(predict)(self.state, self.data, inputs)


def run_directory(workdir: str | Path, config: ConfigDict) -> Path:
    """Returns the folder in which this config trains with its seed (or seed group)."""
    left, _, name = config.experiment.partition(":")
    paper = Path(config.config_dir).name if left.endswith(".py") else left
    seeds = f"seed{config.seed}"
    if config.seed_group > 1:
        seeds = f"seeds{config.seed}-{config.seed + config.seed_group - 1}"
    return Path(workdir) / paper / name / config_hash(config) / seeds


def find(workdir: str | Path) -> list[Run]:
    """Returns the runs below `workdir`, the most recently started last.

    A run folder with a damaged file is left out, with a warning.
    """
    files = Path(workdir).glob("*/*/*/seed*/config.json")
    found = []
    for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path)):
        try:
            found.append(read(path.parent))
        except DataError as error:
            logging.warning("run left out: %s", error)
    return found


def read(path: str | Path) -> Run:
    """Returns what a run folder says about itself.

    Raises:
        UserError: If it is no run folder.
        DataError: If one of its files is damaged.
    """
    path = Path(path)
    if not (path / "config.json").is_file():
        member = read_json(path / "result.json") if (path / "result.json").is_file() else {}
        if "group" in member:
            group = path.parent / member["group"]
            raise UserError(f"{path}: is a seed of the group {group}; give that folder")
        raise UserError(f"{path}: is no run folder, it has no config.json; see `lab runs list`")
    settings = read_json(path / "config.json")
    try:
        config = from_json(json.dumps(settings))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path / 'config.json'}: is damaged: {error}") from error
    files = {name: path / f"{name}.json" for name in ("environment", "result")}
    parts = {name: read_json(file) if file.exists() else None for name, file in files.items()}
    return Run(path, config, parts["environment"] or {}, parts["result"])


def load(path: str | Path, step: Any = "best") -> Loaded:
    """Returns a run's state with everything to evaluate it or to predict.

    Args:
        path: Run folder.
        step: "best" (the last if the run has no best), "last", or the number of a checkpoint.

    Raises:
        UserError: If it is no run folder.
        DataError: If there is no such checkpoint, or it is corrupt.
    """
    import jax
    import numpy as np

    from common import program, sharding
    from common.checkpoint import Checkpoints
    from common.experiment import build

    run = read(path)
    experiment = build(run.config)
    mesh = sharding.make_mesh({"data": 1}, jax.local_devices()[:1])
    host_data = jax.tree.map(np.asarray, experiment.data())
    # Rules are about many devices; here everything lies whole on one.
    layout = program.layout(experiment._replace(rules=()), run.config, mesh, data=host_data)
    with Checkpoints(run.path / "checkpoints", read_only=True) as checkpoints:
        chosen = step
        if step == "best":  # of a complete run the step that its result names
            named = run.result["best_step"] if run.result else checkpoints.best_step()
            chosen = "last" if named is None else named
        restored = checkpoints.restore(layout.state, step=chosen)
    if restored is None:
        raise DataError(f"{run.path}: has no valid checkpoint")
    data = sharding.place(host_data, jax.tree.map(lambda leaf: leaf.sharding, layout.data))
    return Loaded(run.config, experiment, restored.step, restored.state, data)


def compare(a: Run, b: Run) -> str:
    """Returns the config fields in which two runs differ, and their last and best metrics."""
    lines = [f"a: {a.path}", f"b: {b.path}", ""]
    rows = [
        (name, _text(x), _text(y)) for name, (x, y) in describe_diff(a.config, b.config).items()
    ]
    results = [run.result["metrics"] if run.result else {} for run in (a, b)]
    for which in ("last", "best"):
        values = [metrics.get(which) or {} for metrics in results]
        names = dict.fromkeys([*values[0], *values[1]])
        rows += [(f"{which} {n}", _text(values[0].get(n)), _text(values[1].get(n))) for n in names]
    widths = [max([len(row[i]) for row in rows] + [1]) for i in range(2)]
    lines += [f"{name:{widths[0]}}  {x:{widths[1]}}  {y}" for name, x, y in rows]
    return "\n".join(lines)


def verify(path: str | Path) -> dict[int, str | None]:
    """Returns {step: None if every byte is as written, else the reason} of a run's checkpoints."""
    return manifest.verify(Path(path) / "checkpoints")


def prune(path: str | Path, *, keep: int = 1) -> tuple[int, ...]:
    """Removes a run's checkpoints but the newest `keep` and the best; returns the removed steps.

    The newest valid checkpoint always stays. What a restore refused, and what dead processes left,
    is removed too.

    Raises:
        UserError: If it is no run folder, or another process trains this run.
        DataError: If something cannot be removed.
    """
    path = read(path).path
    checkpoints = path / "checkpoints"
    with locked(path, f"the run {path}"), storage_errors(checkpoints):
        manifest.clean(checkpoints)
        for folder in manifest.refused(checkpoints):
            logging.info("removed %s", folder)
            shutil.rmtree(folder)
        return manifest.prune(checkpoints, keep)


@contextlib.contextmanager
def claim(directory: Path) -> Iterator[None]:
    """Holds the run folder, made if it is missing, so that no second process trains the same run.

    Raises:
        UserError: If another process holds it.
        DataError: If the folder cannot be written.
    """
    from common import distributed

    if not distributed.is_lead():
        yield
        return
    with locked(directory, f"the run {directory}"):
        yield


def environment(command: Sequence[str]) -> dict[str, Any]:
    """Returns what a result depends on besides its config: versions, commit, machine, command."""
    facts: dict[str, Any] = {
        "command": list(command),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git(REPOSITORY, "rev-parse", "HEAD"),
        "dirty": has_changes(REPOSITORY),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": machine.cpu(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    if os.environ.get("XLA_FLAGS"):
        facts["xla_flags"] = os.environ["XLA_FLAGS"]
    jax = sys.modules.get("jax")
    if jax is not None:
        devices = jax.devices()
        facts["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    return facts


def has_changes(repository: Path) -> bool:
    """Returns whether tracked files differ from the commit, or Python files are not in it.

    Files under `results/` do not count: one table writes them before the next one runs.
    """
    changed = ("--untracked-files=no", "--", ".", ":(exclude,glob)**/results/**")
    untracked = ("--others", "--exclude-standard", "--", "*.py")
    return bool(
        _git(repository, "status", "--porcelain", *changed)
        or _git(repository, "ls-files", *untracked)
    )


def record_environment(directory: Path, command: Sequence[str]) -> None:
    """Writes environment.json; of a run that is continued, with the sessions before this one.

    Raises:
        DataError: If the file cannot be written.
    """
    path, facts = directory / "environment.json", environment(command)
    if path.exists() and manifest.steps(directory / "checkpoints"):
        try:
            before = read_json(path)
            facts["earlier_sessions"] = [*before.pop("earlier_sessions", []), before]
        except DataError as error:
            logging.warning("earlier sessions are not recorded: %s", error)
    write_json(path, facts)


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON so that readers see the old file or all of the new one.

    Raises:
        DataError: If the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(value, indent=1) + "\n")
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_json(path: str | Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        DataError: If it cannot be read or is no JSON object.
    """
    path = Path(path)
    with storage_errors(path):
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: is damaged, no JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: is damaged: expected a JSON object")
    return value


def _git(repository: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # no git, or no checkout
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
