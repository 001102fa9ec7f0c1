"""Sweeps: a file of grid, zip and seeds becomes a list of runs with a state folder of its own.

`common.jobs.sweep_file` says what the file holds. The state is in `<workdir>/sweeps/<hash>/`:
jobs.json, state.jsonl and logs/; the hash is that of the resolved configs and seeds, so the same
sweep is found again and an edited one is not mistaken for it. Whether a member is done is read from
its run folder alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config import canonical_json, config_hash, load_config
from common.errors import Interrupted, UserError
from common.files.json_files import write_json
from common.files.storage import locked
from common.jobs import pool as job_list
from common.jobs import trainings
from common.jobs.members import Member, SweepResult, lost, metrics_text
from common.jobs.slurm import run_on_slurm
from common.jobs.sweep_file import Sweep, check_arrived, read_sweep
from common.jobs.trainings import LAB, Training
from common.provenance import source
from common.run_folders.records import run_directory
from common.seeds import in_groups, result_name


def run_sweep(
    path: str | Path,
    *,
    config: str,
    overrides: Mapping[str, str] | None = None,
    workdir: str | Path = "runs",
    jobs: int | None = None,
    slurm: bool = False,
    flags: Sequence[str] = (),
    lab: Sequence[str] = LAB,
    allow_changed_code: bool = False,
) -> SweepResult:
    """Returns how a sweep stands after running the members that have no complete result.

    One member that fails does not stop the others.

    Args:
        path: The sweep file, .json or .toml.
        config: Config of all members, "file.py:preset".
        overrides: Config fields set for all members.
        workdir: Where runs and the sweep's state are.
        jobs: Runs at a time; default: `common.jobs.pool.default_workers()`.
        slurm: Submit to Slurm with the options in the file's "slurm" instead of running here.
        flags: More words for every `lab train`, such as "--tensorboard".
        lab: The `lab` command, another one in tests.
        allow_changed_code: Take and continue runs that other code began, with a warning.

    Raises:
        UserError: For a mistake in the file, or runs of other code, before anything runs.
        Interrupted: After a signal; the same command continues.
    """
    sweep = read_sweep(Path(path))
    members = plan(sweep, Path(path), config, overrides or {}, Path(workdir), lab)
    fields = {**(overrides or {}), **trainings.texts(sweep.points[0])}
    here = source.digests(load_config(config, fields))  # of all members
    found = [(m.results[s], result, here) for m in members for s, result in m.found().items()]
    trainings.check_code(found, allowed=allow_changed_code)
    if allow_changed_code:
        members = tuple(m._replace(training=trainings.allowing(m.training)) for m in members)
    members = tuple(m._replace(training=m.training.with_flags(flags)) for m in members)
    folder = Path(workdir) / "sweeps" / sweep_hash(members)
    with locked(folder, f"sweep {path}"):
        listed = [
            {"job": m.training.name, "overrides": m.overrides, "command": m.training.command}
            for m in members
        ]
        write_json(folder / "jobs.json", listed)
        missing = [member for member in members if not member.is_done()]
        if slurm:
            result, problems = run_on_slurm(missing, folder, sweep.slurm)
        else:
            result, problems = _run_here(missing, folder, jobs, f"sweep {Path(path).name}")
    if result.interrupted:
        raise Interrupted(f"{job_list.stopped(result, len(missing))}; the same command continues")
    return SweepResult(folder, members, len(missing), problems)


def prepare_sweep(
    path: str | Path,
    *,
    config: str,
    overrides: Mapping[str, str],
    workdir: str | Path,
    flags: Sequence[str] = (),
    lab: Sequence[str] = LAB,
) -> job_list.JobsResult:
    """Returns how making the data of all members ended, each distinct set once; trains nothing.

    The arguments are those of `run_sweep`.

    Raises:
        UserError: For a mistake in the file, before anything runs.
        Interrupted: After a signal; the same command continues.
    """
    members = plan(read_sweep(Path(path)), Path(path), config, overrides, Path(workdir), lab)
    folder = Path(workdir) / "sweeps" / sweep_hash(members)
    with locked(folder, f"sweep {path}"):
        runs_to_prepare = [member.training.with_flags(flags) for member in members]
        result = trainings.prepare(runs_to_prepare, folder / "logs")
    if result.interrupted:
        raise Interrupted("stopped while data were made; the same command continues")
    return result


def plan(
    sweep: Sweep,
    path: Path,
    config: str,
    overrides: Mapping[str, str],
    workdir: Path,
    lab: Sequence[str] = LAB,
) -> tuple[Member, ...]:
    """Returns the members of a sweep; points with equal resolved configs are one member.

    Raises:
        UserError: If a config does not take a value.
    """
    both = sorted(set(overrides) & {key for point in sweep.points for key in point})
    if both:
        raise UserError(f"--sweep={path}: {both[0]!r} is also given as --config.{both[0]}")
    members: dict[str, Member] = {}
    for point in sweep.points:
        fields = {**overrides, **trainings.texts(point)}
        try:
            settings = load_config(config, fields)
            check_arrived(path, point, settings)
            seeds = (settings.seed,) if sweep.seeds is None else sweep.seeds
            groups = in_groups(seeds, settings.seed_group)
        except UserError as error:
            said = str(error).removeprefix(f"--sweep={path}: ")
            raise UserError(f"--sweep={path}: {said}") from error
        folder, key = run_directory(workdir, settings).parent, config_hash(settings)
        for group in groups:
            name = f"{key}.seed{group[0]}"
            shown = " ".join(f"{k}={text}" for k, text in trainings.texts(point).items())
            label = f"{shown} seed {','.join(map(str, group))}".strip()
            command = trainings.train_command(lab, config, fields, group[0], workdir)
            training = Training(name, label, command, group, trainings.data_key(settings))
            results = {seed: folder / result_name(seed) / "result.json" for seed in group}
            members.setdefault(name, Member(point, key, training, results))
    return tuple(members.values())


def sweep_hash(members: Sequence[Member]) -> str:
    """Returns 12 hex digits of the resolved configs and seeds, whatever their order."""
    names = sorted(member.training.name for member in members)
    return hashlib.sha256(canonical_json({"members": names}).encode()).hexdigest()[:12]


def _run_here(
    missing: Sequence[Member], folder: Path, workers: int | None, label: str
) -> tuple[job_list.JobsResult, dict[str, str]]:
    members = {member.training.name: member for member in missing}
    state = folder / "state.jsonl"

    def finished(outcome: job_list.Outcome) -> None:
        facts = {"seconds": round(outcome.seconds, 3), "message": outcome.message}
        job_list.record(
            state, outcome.job.name, outcome.status, returncode=outcome.returncode, **facts
        )

    result, problems = trainings.run(
        [member.training for member in missing],
        logs=folder / "logs",
        workers=workers,
        label=label,
        measured=lambda training: metrics_text(members[training.name]),
        on_start=lambda job: job_list.record(state, job.name, "started"),
        on_finish=finished,
    )
    if not result.interrupted:
        problems = {**lost(missing), **problems}
    return result, problems
