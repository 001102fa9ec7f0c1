"""Measured cells of a table: one metric over seeds, its mean, spread and standard error."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.errors import LabError


class Aggregate(NamedTuple):
    """One metric over seeds, in the unit of the table.

    `std` is the sample standard deviation (n - 1) and `stderr` = std / sqrt(n); both are None for
    fewer than two seeds.
    """

    values: dict[int, float]
    mean: float
    std: float | None
    n: int
    stderr: float | None
    row: str = ""
    column: str = ""

    @property
    def label(self) -> str:
        """Returns "row, column"."""
        return ", ".join(filter(None, (self.row, self.column)))


class NotMeasured(LabError):
    """A claim asked for a cell, or for a number of seeds, that no run has given."""


class Results:
    """Measured cells: `results[row, column]` is an `Aggregate`.

    Asking for a cell with a missing seed raises `NotMeasured`: a claim is never judged on the seeds
    that happened to survive.
    """

    def __init__(self, aggregates: Mapping[tuple[str, str], Aggregate], seeds: Sequence[int]):
        self._aggregates = dict(aggregates)
        self.seeds = tuple(seeds)

    @property
    def rows(self) -> tuple[str, ...]:
        """Returns the row labels in table order."""
        return tuple(dict.fromkeys(row for row, _ in self._aggregates))

    @property
    def columns(self) -> tuple[str, ...]:
        """Returns the column labels in table order."""
        return tuple(dict.fromkeys(column for _, column in self._aggregates))

    def __getitem__(self, place: tuple[str, str]) -> Aggregate:
        if place not in self._aggregates:
            raise KeyError(f"the table has no cell {place!r}; cells: {sorted(self._aggregates)}")
        found = self._aggregates[place]
        missing = [seed for seed in self.seeds if seed not in found.values]
        if missing or not found.values:
            seeds = ", ".join(map(str, missing)) or "any"
            raise NotMeasured(f"{', '.join(place)}: no value for seed {seeds}")
        return found


def aggregate(values: Mapping[int, float], row: str = "", column: str = "") -> Aggregate:
    """Returns mean, sample standard deviation and standard error over seeds."""
    numbers = list(values.values())
    n = len(numbers)
    mean = statistics.fmean(numbers) if n else math.nan
    std = statistics.stdev(numbers) if n > 1 else None
    stderr = None if std is None else std / math.sqrt(n)
    return Aggregate(dict(values), mean, std, n, stderr, row, column)


def by_seed(a: Aggregate, b: Aggregate) -> dict[int, float]:
    """Returns a - b of every seed.

    Raises:
        NotMeasured: If the two have different seeds.
    """
    if a.values.keys() != b.values.keys():
        raise NotMeasured(f"{a.label} has seeds {sorted(a.values)}, {b.label} {sorted(b.values)}")
    return {seed: a.values[seed] - b.values[seed] for seed in a.values}


def standard_error(a: Aggregate) -> float:
    """Returns the standard error of the mean.

    Raises:
        NotMeasured: If there are fewer than two seeds.
    """
    if a.stderr is None:
        raise NotMeasured(f"{a.label or 'difference'}: a standard error needs two seeds, got {a.n}")
    return a.stderr


def in_words(a: Aggregate) -> str:
    """Returns "row, column mean ± std (n=3)"."""
    spread = "" if a.std is None else f" ± {a.std:.2g}"
    return f"{a.label} {a.mean:.4g}{spread} (n={a.n})".strip()


def measured(a: Aggregate) -> str:
    """Returns "mean ± std": two digits of the standard deviation decide the decimals."""
    if float(a.mean).is_integer() and not a.std:
        return number(a.mean) + ("" if a.std is None else " ± 0")
    size = abs(a.mean) or a.std or 1.0
    exponent = math.floor(math.log10(size))
    scale, suffix = (1.0, "") if -3 <= exponent < 6 else (10.0**-exponent, f"e{exponent:+03d}")
    mean, std = a.mean * scale, None if a.std is None else a.std * scale
    most = 5 - math.floor(math.log10(abs(mean) or std or 1.0))  # six digits of the mean say enough
    decimals = 1 - math.floor(math.log10(std)) if std else most - 2
    decimals = max(0, min(decimals, most))
    text = f"{mean:.{decimals}f}" + ("" if std is None else f" ± {std:.{decimals}f}")
    return f"({text}){suffix}" if suffix else text


def number(value: float) -> str:
    """Returns a number as a paper prints it: no trailing zeros, thousands separated."""
    return f"{value:,.10g}"


def number_of(count: int, noun: str) -> str:
    """Returns "3 seeds", "1 seed"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
