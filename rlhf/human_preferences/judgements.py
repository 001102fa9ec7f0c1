"""What claims of the tables compare: gains over the untrained policy, medians, shares of seeds."""

import statistics

from common.aggregates import Aggregate, Results, aggregate
from common.comparisons import fact
from common.verdicts import Verdict

RETURN, SOLVED, CORRELATION, SHOWN = "return", "solved", "correlation", "% of steps shown"
UNTRAINED = "untrained"


def gain(results: Results, row: str, column: str = RETURN) -> Aggregate:
    """Returns by how much every seed of a row exceeds the mean of the untrained policy."""
    floor = results[UNTRAINED, column].mean
    values = {seed: value - floor for seed, value in results[row, column].values.items()}
    return aggregate(values, row, f"gain in {column}")


def median(cell: Aggregate) -> float:
    """Returns the median of the seeds."""
    return statistics.median(cell.values.values())


def median_above(a: Aggregate, b: Aggregate, share: float = 1.0) -> Verdict:
    """Returns whether the median of `a` exceeds `share` times that of `b`."""
    first, second = median(a), median(b)
    times = "" if share == 1 else f"{share:g} times "
    detail = f"median of {a.label} {first:.4g}, wanted above {times}{b.label} {second:.4g}"
    return fact(first > share * second, detail, row=a.row, column=a.column)
