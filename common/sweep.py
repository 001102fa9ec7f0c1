"""Sweeps: a file of grid, zip and seeds becomes a list of runs with a state folder of its own.

`common.sweep_file` says what the file holds. The state is in `<workdir>/sweeps/<hash>/`:
jobs.json, state.jsonl and logs/; the hash is that of the resolved configs and seeds, so the same
sweep is found again and an edited one is not mistaken for it. Whether a member is done is read from
its run folder alone.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import jobs as job_list
from common import runs, source, train_jobs
from common.aggregates import measured
from common.config import canonical_json, config_hash, load_config
from common.errors import Interrupted, UserError
from common.sweep_file import Sweep, check_arrived, read_sweep
from common.tables import aggregate
from common.train_jobs import LAB, Training


class Member(NamedTuple):
    """One child process of a sweep and where its results appear, by seed."""

    overrides: dict[str, Any]
    config_hash: str
    training: Training
    results: dict[int, Path]

    def found(self) -> dict[int, dict[str, Any]]:
        """Returns the results that are complete, by seed."""
        read = {s: train_jobs.read_result(p, self.config_hash) for s, p in self.results.items()}
        return {seed: result for seed, result in read.items() if result is not None}

    def is_done(self) -> bool:
        """Returns whether every seed has a complete result."""
        return len(self.found()) == len(self.results)


class SweepResult(NamedTuple):
    """How a sweep stands: `problems` says by member name why it has no result."""

    folder: Path
    members: tuple[Member, ...]
    num_run: int
    problems: dict[str, str]

    def summary(self) -> str:
        """Returns one line for each member with its metrics or its problem, and the counts."""
        lines = [f"  {member.training.label}: {self._ending(member)}" for member in self.members]
        spreads = self._spreads()
        lines += ["mean ± standard deviation over seeds:", *spreads] if spreads else []
        done = sum(member.is_done() for member in self.members)
        counts = f"{done} of {len(self.members)} done ({self.num_run} run now)"
        failed = f", {len(self.problems)} failed; logs in {self.folder / 'logs'}"
        return "\n".join(["sweep members:", *lines, counts + (failed if self.problems else "")])

    def _spreads(self) -> list[str]:
        """Returns a line for every config with results of several seeds."""
        values: dict[str, list[dict[str, float]]] = {}
        for member in self.members:
            label = " ".join(f"{k}={v}" for k, v in train_jobs.texts(member.overrides).items())
            values.setdefault(label or "all", []).extend(map(_metrics, member.found().values()))
        lines = []
        for label, rows in values.items():
            if len(rows) > 1:
                means = [
                    f"{name} {measured(aggregate(dict(enumerate(row[name] for row in rows))))}"
                    for name in itertools.islice(rows[0], 4)
                    if all(name in row for row in rows)
                ]
                lines.append(f"  {label}: {'  '.join(means)}")
        return lines

    def _ending(self, member: Member) -> str:
        problem = self.problems.get(member.training.name)
        return f"FAILED, {problem}" if problem else metrics_text(member)


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
        jobs: Runs at a time; default: `common.jobs.default_workers()`.
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
    fields = {**(overrides or {}), **train_jobs.texts(sweep.points[0])}
    here = source.digests(load_config(config, fields))  # of all members
    found = [(m.results[s], result, here) for m in members for s, result in m.found().items()]
    train_jobs.check_code(found, allowed=allow_changed_code)
    if allow_changed_code:
        members = tuple(m._replace(training=train_jobs.allowing(m.training)) for m in members)
    members = tuple(m._replace(training=m.training.with_flags(flags)) for m in members)
    folder = Path(workdir) / "sweeps" / sweep_hash(members)
    with job_list.locked(folder, f"sweep {path}"):
        listed = [
            {"job": m.training.name, "overrides": m.overrides, "command": m.training.command}
            for m in members
        ]
        runs.write_json(folder / "jobs.json", listed)
        missing = [member for member in members if not member.is_done()]
        if slurm:
            from common.slurm import run_on_slurm

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
    with job_list.locked(folder, f"sweep {path}"):
        trainings = [member.training.with_flags(flags) for member in members]
        result = train_jobs.prepare(trainings, folder / "logs")
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
        fields = {**overrides, **train_jobs.texts(point)}
        try:
            settings = load_config(config, fields)
            check_arrived(path, point, settings)
            seeds = (settings.seed,) if sweep.seeds is None else sweep.seeds
            groups = train_jobs.seed_groups(seeds, settings.seed_group)
        except UserError as error:
            said = str(error).removeprefix(f"--sweep={path}: ")
            raise UserError(f"--sweep={path}: {said}") from error
        folder, key = runs.run_directory(workdir, settings).parent, config_hash(settings)
        for group in groups:
            name = f"{key}.seed{group[0]}"
            shown = " ".join(f"{k}={text}" for k, text in train_jobs.texts(point).items())
            label = f"{shown} seed {','.join(map(str, group))}".strip()
            command = train_jobs.train_command(lab, config, fields, group[0], workdir)
            training = Training(name, label, command, group, train_jobs.data_key(settings))
            results = {seed: folder / f"seed{seed}" / "result.json" for seed in group}
            members.setdefault(name, Member(point, key, training, results))
    return tuple(members.values())


def sweep_hash(members: Sequence[Member]) -> str:
    """Returns 12 hex digits of the resolved configs and seeds, whatever their order."""
    names = sorted(member.training.name for member in members)
    return hashlib.sha256(canonical_json({"members": names}).encode()).hexdigest()[:12]


def metrics_text(member: Member) -> str:
    """Returns "name value" of the first metrics of a member, by seed where there are several."""
    texts = []
    for result in member.found().values():
        shown = itertools.islice(_metrics(result).items(), 4)
        texts.append(" ".join(f"{k} {v:.4g}" for k, v in shown))
    return "; ".join(texts) or "no complete result"


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    values = train_jobs.shown_metrics(result)
    return {name: float(value) for name, value in values.items()}  # "NaN" is written as a string


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

    result, problems = train_jobs.run(
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


def lost(members: Sequence[Member]) -> dict[str, str]:
    """Returns, by name, the members that ended without a complete result."""
    return {m.training.name: "ended without a result" for m in members if not m.is_done()}
