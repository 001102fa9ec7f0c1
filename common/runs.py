"""Run folders: where a run lives, what it says about itself, and loading it for inference.

    <workdir>/<paper>/<experiment>/<hash12>/seed<k>/
        config.json environment.json metrics.jsonl result.json checkpoints/

A seed group trains in `seeds<a>-<b>/` and writes one result.json into each `seed<k>/`. Importing
this module does not import JAX.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from common import json_files, manifest, nonfinite, provenance, source
from common.config import config_hash, describe_diff, from_json
from common.data.storage import publish, storage_errors, user_path
from common.errors import DataError, LabError, UserError
from common.jobs import locked
from common.json_files import NUMBER, PLAIN
from common.locate import locate
from common.places import FOLDER_FROM_RUN, moved_along

if TYPE_CHECKING:
    from common.experiment import Experiment

PyTree = Any
FILES = "*/*/*/seed*"  # where run folders are in a work folder
_METRIC = (float, int, str, None)  # what is not finite may be a word
_METRICS = {str: (*_METRIC, [_METRIC])}  # of a seed group a list
# Form of every result; `common.json_files` says how to read it.
RESULT = {
    "status": str,
    "config_hash": str,
    "metrics": {"last": _METRICS, "best?": (_METRICS, None)},
    "step?": int,
    "best_step?": (int, None),
    "seed?": int,
    "group?": str,
    "wall_time_s?": NUMBER,
    "code?": {str: str},
    "earlier_code?": [{str: str}],
    "config?": {str: PLAIN},
    "data?": {str: PLAIN},
    "environment?": {"earlier_sessions?": [{str: PLAIN}]},
}


class Run(NamedTuple):
    """What a run folder says; `result` is None until the run is complete."""

    path: Path
    config: ConfigDict
    environment: dict[str, Any]
    result: dict[str, Any] | None

    def __repr__(self) -> str:
        return f"<run {self.path}>"


class Loaded(NamedTuple):
    """A run made ready for use: the best state (or another) and the functions of its experiment.

    Attributes:
        state: The state on the devices, of this `step`; `state.params` are the parameters.
        data: The experiment's data on the devices.
    """

    config: ConfigDict
    experiment: "Experiment"
    step: int
    state: PyTree
    data: PyTree

    def __repr__(self) -> str:
        return f"<{self.config.experiment}, seed {self.config.seed}, step {self.step}>"

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
    left, _, name = config.experiment.rpartition(":")
    paper = Path(config.config_dir).name or "root" if left.endswith(".py") else left
    seeds = f"seed{config.seed}"
    if config.seed_group > 1:
        seeds = f"seeds{config.seed}-{config.seed + config.seed_group - 1}"
    return user_path(workdir) / paper / name / config_hash(config) / seeds


def find(workdir: str | Path) -> list[Run]:
    """Returns the runs below `workdir`, the most recently started last.

    A run folder with a damaged file is left out, with a warning.
    """
    started = {path: _started(path) for path in user_path(workdir).glob(FILES)}
    found = []
    for path in sorted(started, key=lambda path: (started[path], path)):
        if started[path] or manifest.steps(
            path / "checkpoints"
        ):  # else a member, or a failed start
            try:
                found.append(read(path))
            except LabError as error:
                logging.warning("run left out: %s", error)
    return found


def read(path: str | Path) -> Run:
    """Returns what a run folder says about itself.

    Raises:
        UserError: If it is no run folder.
        DataError: If one of its files is damaged or was edited.
    """
    path = user_path(path)
    if not os.path.isfile(path / "config.json"):  # Path.is_file raises for long names
        member = read_result(path) or {}
        if "group" in member:
            group = path.parent / member["group"]
            raise UserError(f"{path}: is a seed of the group {group}; give that folder")
        raise UserError(f"{path}: is no run folder, it has no config.json; see `lab runs list`")
    settings = read_json(path / "config.json")
    try:
        config = from_json(json.dumps(settings))
    except (ValueError, TypeError, KeyError, AttributeError, UserError) as error:
        raise DataError(f"{path / 'config.json'}: is damaged: {error}") from error
    file = path / "environment.json"
    environment = read_json(file) if file.exists() else {}
    config = moved_along(config, path, settings.get(FOLDER_FROM_RUN))
    return Run(path, config, environment, read_result(path))


def read_result(path: Path) -> dict[str, Any] | None:
    """Returns the result.json of a run folder, None if there is none.

    Raises:
        DataError: If it is damaged or was edited.
    """
    file = path / "result.json"
    if not file.exists():
        return None
    result = read_json(file)
    wrong = json_files.fault(result, {**RESULT, "step": int})
    if not wrong and json_files.is_edited(result):
        wrong = "it was changed after the run had written it"
    if wrong:
        raise DataError(
            f"{file}: is damaged: {wrong}; remove it, and the command that trained the run "
            "writes it again from the checkpoints"
        )
    return result


def check(run: Run, *, allow_changed_code: bool = False) -> None:
    """Checks that config and code of a run are those it was made with, before the code is run.

    Args:
        run: What its folder says now.
        allow_changed_code: Only warn of code that has changed.

    Raises:
        DataError: If config.json is not that of the run.
        UserError: If the code has changed, or lies in the run folder itself.
    """
    made = _check_config(run)
    place = source.builder(run.config)
    if place is not None and run.path.resolve() in place.resolve().parents:
        raise UserError(
            f"{run.path}: names code in its own folder, {place}, which is not run: a run may come "
            "from others; move the code elsewhere if you trust it"
        )
    if made:
        code = source.Code(source.digests(run.config), allow_changed_code)
        code.check(run.path, made.get("code"))


def finished(directory: Path, config: ConfigDict, code: source.Code) -> dict[str, Any] | None:
    """Returns the result of a run of this config that is complete, None if something is to be done.

    That is also so if its code has changed, which is allowed: its metrics are to be computed again.

    Args:
        directory: Run folder, which may be missing.
        config: Config of the run.
        code: Its code now, and whether it may be other code than that of the run.

    Raises:
        UserError: If it was made by other code and that is not allowed.
        DataError: If one of its files is damaged or was edited.
    """
    result = read_result(directory)
    if result is None or result["status"] != "complete":
        return None
    if result["config_hash"] != config_hash(config):
        return None
    if (directory / "config.json").is_file():
        _check_config(Run(directory, config, {}, result))
    began = result.get("code")
    same_place = result.get("config", {}).get("config_dir") == config.config_dir
    if began is None and ".py:" in config.experiment and not same_place:
        began = {}  # of two users' "experiment.py:build" it may be either
    has_last = config.num_steps in manifest.steps(directory / "checkpoints")
    if code.may_change and has_last and source.changes(began or code.files, code.files):
        logging.info("its metrics are computed again by the code of now")
        return None
    if code.check(directory, began):
        logging.warning("its last checkpoint is gone: these are its old metrics")
    return result


def load(path: str | Path, step: Any = "best", *, allow_changed_code: bool = False) -> Loaded:
    """Returns a run's state with everything to evaluate it or to predict.

    Args:
        path: Run folder, or its hash below the folder `runs` (`common.locate`).
        step: "best" (the last if the run has no best), "last", or the number of a checkpoint.
        allow_changed_code: Whether code that has changed since is only warned of.

    Raises:
        UserError: If it is no run folder, or its code has changed.
        DataError: If there is no such checkpoint, it is corrupt, config.json was edited, or the
            data are not those of the run.
    """
    import jax
    import numpy as np

    from common import checks, program, sharding
    from common.checkpoint import Checkpoints
    from common.experiment import build

    run = read(locate(str(path)))
    check(run, allow_changed_code=allow_changed_code)
    experiment = build(run.config)
    mesh = sharding.make_mesh({"data": 1}, jax.local_devices()[:1])
    host_data = jax.tree.map(np.asarray, experiment.data())
    # Rules are about many devices; here everything lies whole on one.
    layout = program.layout(experiment._replace(rules=()), run.config, mesh, data=host_data)
    with Checkpoints(run.path / "checkpoints", read_only=True) as checkpoints:
        chosen = step
        if step == "best":  # of a complete run the step that its result names
            named = run.result.get("best_step") if run.result else checkpoints.best_step()
            chosen = "last" if named is None else named
        restored = checkpoints.restore(layout.state, step=chosen)
    if restored is None:
        raise DataError(f"{run.path}: has no valid checkpoint")
    checks.data_are_those_of(run.path, restored.extra, host_data, experiment)
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


def _check_config(run: Run) -> dict[str, Any]:
    """Returns what a run recorded of itself, having checked that its config.json agrees."""
    made = run.result or manifest.newest_extra(run.path / "checkpoints")
    written = read_json(run.path / "config.json")  # without fields that the loop gained since
    settings = {k: v for k, v in written.items() if not k.startswith("config_dir")}  # may move
    now = {"seed": settings.get("seed"), "config_hash": config_hash(settings)}
    if any(made.get(name, value) != value for name, value in now.items()):
        before = made.get("config", {})
        changed = describe_diff(before, written) if before else {}
        fields = f": {', '.join(changed)}" if changed else ""
        raise DataError(
            f"{run.path / 'config.json'}: was edited, it is not the config of this run{fields}; "
            "bring it back"
        )
    return made


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


def record_environment(directory: Path, command: Sequence[str]) -> None:
    """Writes environment.json; of a run that is continued, with the sessions before this one.

    Raises:
        DataError: If the file cannot be written.
    """
    path, facts = directory / "environment.json", provenance.environment(command)
    if path.exists() and manifest.steps(directory / "checkpoints"):
        try:
            before = read_json(path)
            earlier = before.pop("earlier_sessions", [])
            facts["earlier_sessions"] = [*(earlier if isinstance(earlier, list) else []), before]
        except DataError as error:
            logging.warning("earlier sessions are not recorded: %s", error)
    write_json(path, facts)


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON so that readers see the old file or all of the new one.

    What is not finite is written as a string (`nonfinite`), and is a number for `read_json`.

    Raises:
        DataError: If the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            text = json.dumps(nonfinite.to_json(value), indent=1, allow_nan=False)
            temporary.write_text(f"{text}\n")
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
        value = json_files.parse(content)
        wrong = json_files.fault(value, {str: PLAIN})
    except ValueError as error:
        value, wrong = {}, f"no JSON: {error}"
    if wrong:
        raise DataError(f"{path}: is damaged: {wrong}")
    return nonfinite.from_json(value)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _started(path: Path) -> int:
    """Returns when the run in a folder was started last, 0 if it has no config."""
    try:
        return (path / "config.json").lstat().st_mtime_ns
    except OSError:
        return 0
