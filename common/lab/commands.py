"""What the verbs of `lab` do: each function is one verb, called with plain values by `lab.cli`.

Modules that import JAX are imported inside the functions, after the config has been found good and
after `start_jax`, which sets devices and precision; those that import NumPy inside them, too.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from common import papers, runs
from common.checkpoints import manifest
from common.config import load_config
from common.devices import rendezvous
from common.errors import DataError, LabError, UserError
from common.files import storage
from common.lab import index, listing, new_paper, upkeep
from common.lab.run_list import run_list, text_of
from common.lab.saved_runs import checkpoint
from common.loop import metrics
from common.pods import chips
from common.run_folders.locate import locate
from common.run_folders.records import run_directory
from common.seeds import in_words

StartJax = Callable[..., None]
FAILED_START = "ended before its first step; `lab runs prune --failed-starts` removes it"


def list_papers(
    *, paper: str | None, markdown: bool, scores: bool, tables: bool, equations: bool, parts: bool
) -> None:
    """Prints papers, experiments, presets, tables and the status of their claims."""
    chosen = (papers.find_paper(paper),) if paper else papers.papers()
    if parts:
        say(index.parts_markdown())
        return
    if equations:
        say(index.equations_markdown(chosen))
        return
    if tables:
        for info in chosen:
            for name in papers.tables(info):
                say(f"{info.name} {name}")
        return
    if scores:
        say(listing.scores_markdown(chosen))
        return
    say(
        listing.list_markdown(chosen)
        if markdown
        else listing.list_text(chosen, details=bool(paper))
    )


def new(name: str) -> None:
    """Writes the skeleton of a paper and says what to do next."""
    files = new_paper.create(name)
    say("\n".join(map(str, files)))
    say(f"next: lab table {name} fit; the rest is in WORKSPACE.md, Add a paper")


def train(
    *,
    config: str,
    overrides: Mapping[str, str],
    workdir: str,
    tensorboard: bool,
    wandb: bool,
    sweep: str | None,
    slurm: bool,
    jobs: int,
    prepare: bool,
    distributed: bool,
    allow_changed_code: bool,
    passed_on: Sequence[str],
    start_jax: StartJax,
) -> None:
    """Trains one config, or every member of a sweep; or only makes its data."""
    metrics.check_installed(tensorboard=tensorboard, wandb=wandb)
    if sweep:
        shared = dict(config=config, overrides=overrides, workdir=workdir, flags=passed_on)
        if prepare:
            _prepare_sweep(sweep, shared)
        else:
            _sweep(sweep, jobs, slurm, {**shared, "allow_changed_code": allow_changed_code})
        return
    settings = load_config(config, overrides)
    directory = run_directory(workdir, settings)
    if distributed:
        rendezvous.read_environment(os.environ)
    if not prepare:
        _check_start(settings, directory, allow_changed_code)
        say(f"run folder: {directory}")
        say(_plan(settings))
    start_jax(x64=settings.x64)
    from common.experiment import build

    with _joined(distributed):
        experiment = build(settings)
        if prepare:
            experiment.data()
            say(f"data of {settings.experiment} are ready")
            return
        from common.loop.train import fit

        result = fit(
            experiment,
            settings,
            directory,
            tensorboard=tensorboard,
            wandb=wandb,
            command=["lab", *sys.argv[1:]],
            allow_changed_code=allow_changed_code,
        )
    best = "" if result.best_step is None else f", best at step {result.best_step}"
    say(f"{result.status}: step {result.step}{best}")
    for name, values in result.metrics.items():
        say(f"  {name:4}  {_metrics(values)}")


@contextlib.contextmanager
def _joined(distributed: bool) -> Iterator[None]:
    """While inside, this process is one of those of the run, if there are several."""
    if not distributed:
        yield
        return
    from common.devices import lifeline
    from common.devices.distributed import initialize_from_environment

    with lifeline.held(initialize_from_environment()):
        yield


def evaluate(
    *, run: str, step: str, workdir: str, allow_changed_code: bool, start_jax: StartJax
) -> None:
    """Prints the metrics of a saved run, computed again from its checkpoint."""
    found, chosen = checkpoint(run, step, workdir, allow_changed_code)
    start_jax(x64=found.config.x64)
    loaded = runs.load(found.path, chosen, allow_changed_code=allow_changed_code)
    say(_metrics(loaded.evaluate()))


def export(
    *,
    run: str,
    to: str,
    step: str,
    seed: int,
    overwrite: bool,
    workdir: str,
    allow_changed_code: bool,
    start_jax: StartJax,
) -> None:
    """Writes the weights of a saved run to a file."""
    from common.checkpoints import weights

    weights.check_target(to, overwrite=overwrite)
    found, chosen = checkpoint(run, step, workdir, allow_changed_code)
    start_jax(x64=found.config.x64)
    from common.loop.export import export

    number = None if seed < 0 else seed
    written = export(
        found, to, chosen, seed=number, overwrite=overwrite, allow_changed_code=allow_changed_code
    )
    say(f"{to}: the weights of step {written} of {found.path}")


def runs_list(*, workdir: str, failed_starts: bool, metrics: bool) -> None:
    """Prints the runs of every experiment, the latest last; or those that never made a step."""
    failed = upkeep.failed_starts(_existing(workdir))
    if failed_starts:
        say("\n".join(map(str, failed)) or f"no failed starts below {workdir}")
        return
    found = runs.find(workdir)
    if found:
        width = shutil.get_terminal_size((100, 24)).columns
        state = lambda run: _state(run, failed)
        say(run_list(found, state, width=width, metrics=metrics))
    for folder in set(failed) - {run.path for run in found}:
        say(f"{folder}  {FAILED_START}")
    if not found and not failed:
        say(f"no runs below {workdir}")


def runs_compare(a: str, b: str, *, workdir: str) -> None:
    """Prints the config fields and metrics in which two runs differ."""
    say(runs.compare(*(runs.read(locate(name, workdir)) for name in (a, b))))


def runs_verify(*, workdir: str, run: str | None) -> None:
    """Prints the state of every checkpoint; fails if one is damaged."""
    bad = []
    for folder in _folders(workdir, run):
        for step, problem in runs.verify(folder).items():
            say(f"{folder} step {step}: {problem or 'good'}")
            bad += [f"{folder} step {step}: {problem}"] if problem else []
    if bad:
        raise DataError(f"{len(bad)} damaged checkpoints, among them {bad[0]}")


def runs_prune(
    *, workdir: str, run: str | None, keep: int, dry_run: bool, failed_starts: bool
) -> None:
    """Removes checkpoints but the newest `keep` and the best of each run; or failed starts."""
    done = "would remove" if dry_run else "removed"
    if failed_starts:
        _remove_failed_starts(workdir, run, done, dry_run)
        return
    problems = []
    for folder in _folders(workdir, run):
        try:
            removed = ", ".join(upkeep.prune(folder, keep=keep, dry_run=dry_run)) or "nothing"
            say(f"{folder}: {done}: {removed}")
        except LabError as error:
            if run:
                raise
            say(f"left alone: {error}")
            problems += [error] if isinstance(error, DataError) else []  # not of a running one
    if problems:
        raise DataError(f"{len(problems)} run folders could not be pruned, first {problems[0]}")


def compile_step(
    *,
    config: str,
    overrides: Mapping[str, str],
    topology: str | None,
    quick: bool,
    evaluate: bool,
    json: bool,
    start_jax: StartJax,
) -> None:
    """Compiles the step of a config and prints memory, FLOPs and collectives of a device."""
    settings = load_config(config, overrides)
    environment = chips.environment(chips.parse_topology(topology)) if topology else {}
    start_jax(x64=settings.x64, environment=environment)
    from common.experiment import build
    from common.pods import aot, aot_report

    report = aot.compile_report(build(settings), settings, topology, evaluate=evaluate, quick=quick)
    say(aot_report.to_json(report) if json else aot_report.render(report))


def report(*, workdir: str, results: str | None, out: str) -> None:
    """Writes one HTML page of all tables, figures and claims."""
    from common.results.report import write_report

    say(f"written: {write_report(workdir, results, out)}")


def data_list() -> None:
    """Prints every image set, its size and where this machine has it."""
    from common.data import fetch

    say(fetch.list_text())


def data_fetch(name: str) -> None:
    """Downloads one image set and checks it."""
    from common.data import fetch

    say(f"{name}: {fetch.fetch(name)}")


def data_verify() -> None:
    """Prints the state of every image set found; fails if one is damaged."""
    from common.data import fetch

    checks = fetch.verify()
    for check in checks:
        say(str(check))
    bad = [check.problem for check in checks if check.problem]
    if bad:
        raise DataError(f"{len(bad)} of {len(checks)} places are damaged: {bad[0]}")


def _sweep(path: str, jobs: int, slurm: bool, shared: Mapping[str, Any]) -> None:
    """Trains every member of a sweep that has no result yet; fails if one did."""
    from common.jobs.sweep import run_sweep

    swept = run_sweep(path, jobs=jobs or None, slurm=slurm, **shared)
    say(swept.summary())
    if swept.problems:
        count = f"{len(swept.problems)} of {len(swept.members)} members of the sweep"
        raise failed(f"{count} failed; see above", swept.problems.values())


def _prepare_sweep(path: str, shared: Mapping[str, Any]) -> None:
    """Makes the data of a sweep; fails if some could not be made."""
    from common.jobs.sweep import prepare_sweep
    from common.jobs.trainings import reason

    made = prepare_sweep(path, **shared)
    if made.failed:
        problems = [reason(outcome) for outcome in made.failed]
        raise failed(f"{len(problems)} of {len(made.outcomes)} data sets failed", problems)
    say(f"data of the sweep {path} are ready: {len(made.outcomes)} sets")


def failed(message: str, problems: Iterable[str]) -> LabError:
    """Returns the error of a list of jobs, with the exit code of the failed ones if they agree."""
    found = [re.match(r"exit code (\d+)", problem) for problem in problems]
    codes = {int(match[1]) if match else 1 for match in found}
    error = LabError(message)
    error.exit_code = codes.pop() if len(codes) == 1 else 1
    return error


def _folders(workdir: str, run: str | None) -> list[Path]:
    """Returns the run folder asked for, or all of them."""
    if run:
        return [runs.read(locate(run, workdir)).path]
    return [found.path for found in runs.find(_existing(workdir))]


def _existing(workdir: str) -> str:
    """Returns the folder of all runs, if there is one."""
    if not Path(workdir).is_dir():
        raise UserError(f"--workdir={workdir}: no such folder; expected one that `lab train` made")
    return workdir


def _state(run: runs.Run, failed: Sequence[Path]) -> str:
    """Returns how far a run without a result has come."""
    if run.path in failed:
        return FAILED_START
    steps = manifest.steps(run.path / "checkpoints")
    saved = f"saved at step {steps[-1]}" if steps else "nothing saved"
    if upkeep.is_in_use(run.path):
        return f"running, {saved} of {run.config.num_steps}"
    return f"not complete, {saved} of {run.config.num_steps}"


def _remove_failed_starts(workdir: str, run: str | None, done: str, dry_run: bool) -> None:
    wanted = Path(run).resolve() if run else None
    place = str(wanted.parents[3]) if wanted and len(wanted.parents) > 3 else workdir
    found = upkeep.failed_starts(_existing(place))
    chosen = [folder for folder in found if wanted in (None, folder.resolve())]
    if run and not chosen:
        raise UserError(f"--run={run}: is no failed start; see `lab runs list --failed-starts`")
    for folder in chosen:
        if dry_run or upkeep.remove_failed_start(folder):
            say(f"{done} {folder}")
    if not chosen:
        say(f"no failed starts below {workdir}")


def _check_start(config: ConfigDict, directory: Path, allow_changed_code: bool) -> None:
    """Checks the folder of a run and what it starts from; no device is needed for that."""
    from common.loop import warm_start

    storage.check_writable(directory)
    begins = not manifest.steps(directory / "checkpoints")
    if begins and not allow_changed_code:  # before JAX is imported; the loop checks, and warns, too
        warm_start.check_source(config)


def _plan(config: ConfigDict) -> str:
    """Returns what a training run is about to do, in one line."""
    mesh = ", ".join(f"{axis}={size}" for axis, size in config.mesh.items())
    steps = f"{config.num_steps} steps, {in_words(config)}"
    return f"{config.experiment}: {steps}, mesh {mesh} (-1: all devices)"


def _metrics(values: Mapping[str, Any]) -> str:
    """Returns "name value" of every metric."""
    return "  ".join(f"{name} {text_of(value)}" for name, value in values.items())


def say(text: str) -> None:
    """Prints a text at once."""
    print(text, flush=True)
