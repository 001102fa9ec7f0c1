"""What names of metrics say: by which one a checkpoint is the best, and of which step a number is.

config.best_metric = "valid_accuracy"    the best checkpoint is that where it is highest
config.best_metric = "-valid_loss"       the best checkpoint is that where it is lowest
Cell(metric="test_accuracy")             of the best checkpoint if there is one, else the last
Cell(metric="last/test_accuracy")        of the last; "best/test_accuracy": of the best
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

LAST, BEST = "last", "best"


class Goal(NamedTuple):
    """What makes a checkpoint the best: a metric, "" if none is, and 1 or -1 if less is better."""

    name: str
    sign: int

    def is_better(self, value: float, best: float | None) -> bool:
        """Returns whether a value beats the best so far; one that is not finite beats none."""
        return math.isfinite(value) and (best is None or self.sign * value > self.sign * best)


def goal(best_metric: str) -> Goal:
    """Returns what `config.best_metric` asks for."""
    return Goal(best_metric.removeprefix("-"), -1 if best_metric.startswith("-") else 1)


def shown(best_metric: str, known: Collection[str]) -> str:
    """Returns the metric that stands for a run: that of its best checkpoint, else the first known.

    "" if none is known.
    """
    name = goal(best_metric).name
    return name if name in known else next(iter(known), "")


def of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics of the best checkpoint if a result has one, else those of the last."""
    return result["metrics"].get(BEST) or result["metrics"][LAST]


def place(metric: str, result: Mapping[str, Any]) -> tuple[str, str]:
    """Returns which checkpoint of a result a metric of a cell is of, "best" or "last"; its name."""
    which, separator, name = metric.partition("/")
    if separator and which in (LAST, BEST):
        return which, name
    return BEST if result["metrics"].get(BEST) else LAST, metric
