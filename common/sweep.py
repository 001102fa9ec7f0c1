"""Sweeps: a file of grid, zip and seeds becomes a list of runs with a state folder of its own.

    {"grid": {"optimizer.learning_rate": [1e-3, 3e-4]},
     "zip": {"model.channels": [16, 32], "batch_size": [64, 32]},
     "seeds": [0, 1, 2]}

Every line of `zip` is combined with every point of `grid` and every seed: 12 runs here. The file is
JSON or TOML. The state is in `<workdir>/sweeps/<hash>/`: jobs.json, state.jsonl and logs/; the hash
is that of the resolved configs and seeds, so the same sweep is found again and an edited one is not
mistaken for it. Whether a member is done is read from its run folder alone.
"""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import jobs as job_list
from common import runs, source, train_jobs
from common.config import canonical_json, config_hash, flatten, load_config
from common.errors import Interrupted, UserError, nearest
from common.train_jobs import LAB, Training

FIELDS = ("grid", "zip", "seeds", "slurm")


class Sweep(NamedTuple):
    """A sweep file as read: `points` are the overrides of its members, seeds apart."""

    points: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...] | None
    slurm: dict[str, Any]


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
        done = sum(member.is_done() for member in self.members)
        counts = f"{done} of {len(self.members)} done ({self.num_run} run now)"
        failed = f", {len(self.problems)} failed; logs in {self.folder / 'logs'}"
        return "\n".join(["sweep members:", *lines, counts + (failed if self.problems else "")])

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
        lab: The `lab` command, another one in tests.
        allow_changed_code: Take and continue runs that other code began, with a warning.

    Raises:
        UserError: For a mistake in the file, or runs of other code, before anything runs.
        Interrupted: After a signal; the same command continues.
    """
    sweep = read_sweep(Path(path))
    members = plan(sweep, Path(path), config, overrides or {}, Path(workdir), lab)
    here = source.digests(load_config(config, overrides))  # of all members
    found = [(m.results[s], result, here) for m in members for s, result in m.found().items()]
    train_jobs.check_code(found, allowed=allow_changed_code)
    if allow_changed_code:
        members = tuple(m._replace(training=train_jobs.allowing(m.training)) for m in members)
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


def read_sweep(path: Path) -> Sweep:
    """Returns a sweep file's content, checked as far as no config is needed.

    Raises:
        UserError: Naming file, field, value and what is allowed.
    """
    data = _read(path)
    unknown = next((key for key in data if key not in FIELDS), None)
    if unknown is not None:
        allowed = ", ".join(FIELDS)
        raise UserError(
            f"--sweep={path}: no field {unknown!r}{nearest(unknown, FIELDS)}; allowed: {allowed}"
        )
    grid, zipped = _axes(path, data, "grid"), _axes(path, data, "zip")
    twice = sorted(grid.keys() & zipped.keys())
    if twice:
        raise UserError(f"--sweep={path}: {twice[0]!r} is in grid and in zip; allowed: one of them")
    lengths = {key: len(values) for key, values in zipped.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{key} has {n}" for key, n in lengths.items())
        raise UserError(f"--sweep={path}: zip={text} values; expected lists of one length")
    seeds = _seeds(path, data["seeds"]) if "seeds" in data else None
    if not grid and not zipped and seeds is None:
        raise UserError(f"--sweep={path}: is empty; expected at least one of grid, zip, seeds")
    slurm = data.get("slurm", {})
    if not isinstance(slurm, dict):
        raise UserError(f"--sweep={path}: slurm={slurm!r}: expected options of submitit by name")
    rows = [dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=True)]
    products = [dict(zip(grid, row, strict=True)) for row in itertools.product(*grid.values())]
    points = [{**row, **point} for row in rows or [{}] for point in products]
    return Sweep(tuple(points), seeds, slurm)


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
            seeds = (settings.seed,) if sweep.seeds is None else sweep.seeds
            groups = train_jobs.seed_groups(seeds, settings.seed_group)
        except UserError as error:
            raise UserError(f"--sweep={path}: {error}") from error
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
        metrics = result["metrics"].get("best") or result["metrics"]["last"]
        texts.append(" ".join(f"{k} {v:.4g}" for k, v in itertools.islice(metrics.items(), 4)))
    return "; ".join(texts) or "no complete result"


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


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return tomllib.loads(text)
        if path.suffix != ".json":
            raise UserError(f"--sweep={path}: expected a file that ends in .json or .toml")
        data = json.loads(text)
    except OSError as error:
        raise UserError(f"--sweep={path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        kind = path.suffix.removeprefix(".").upper()
        raise UserError(f"--sweep={path}: is not {kind}: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"--sweep={path}: expected an object with {', '.join(FIELDS)}")
    return data


def _axes(path: Path, data: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    axes = data.get(name, {})
    if not isinstance(axes, dict):
        raise UserError(
            f"--sweep={path}: {name}={axes!r}: expected lists of values by config field"
        )
    flat = flatten(axes)  # TOML reads a.b = [...] as nested tables
    for key, values in flat.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"--sweep={path}: {name}.{key}={values!r}: expected a list of values")
        if key == "seed":
            raise UserError(f"--sweep={path}: {name}.seed={values!r}: expected in seeds, not here")
    return flat


def _seeds(path: Path, seeds: Any) -> tuple[int, ...]:
    if type(seeds) is int and seeds >= 1:
        return tuple(range(seeds))
    is_list = isinstance(seeds, list) and bool(seeds)
    if is_list and all(type(s) is int and s >= 0 for s in seeds) and len(set(seeds)) == len(seeds):
        return tuple(seeds)
    raise UserError(
        f"--sweep={path}: seeds={seeds!r}: expected how many seeds, such as 5, or a list of "
        "different ones, such as [0, 3]"
    )
