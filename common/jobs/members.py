"""Members of a sweep: what each one trains, what it measured, and the summary of them all."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import metric_names
from common.aggregates import aggregate, measured
from common.jobs import trainings
from common.jobs.trainings import Training


class Member(NamedTuple):
    """One child process of a sweep and where its results appear, by seed."""

    overrides: dict[str, Any]
    config_hash: str
    training: Training
    results: dict[int, Path]

    def found(self) -> dict[int, dict[str, Any]]:
        """Returns the results that are complete, by seed."""
        read = {s: trainings.read_result(p, self.config_hash) for s, p in self.results.items()}
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
            label = " ".join(f"{k}={v}" for k, v in trainings.texts(member.overrides).items())
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


def metrics_text(member: Member) -> str:
    """Returns "name value" of the first metrics of a member, by seed where there are several."""
    texts = []
    for result in member.found().values():
        shown = itertools.islice(_metrics(result).items(), 4)
        texts.append(" ".join(f"{k} {v:.4g}" for k, v in shown))
    return "; ".join(texts) or "no complete result"


def lost(members: Sequence[Member]) -> dict[str, str]:
    """Returns, by name, the members that ended without a complete result."""
    return {m.training.name: "ended without a result" for m in members if not m.is_done()}


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    values = metric_names.of_result(result)
    return {name: float(value) for name, value in values.items()}  # "NaN" is written as a string
