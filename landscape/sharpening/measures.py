"""What the tables say of full-batch training: where the sharpness goes, and what goes with it.

A function `config -> metrics` of cells. The run is trained as a stage (`common.stages`), once, and
its log is read: every measurement of the sharpness, and every evaluation.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from common import stages
from landscape.sharpening.correlations import spearman
from landscape.stability import AT

LAST = 0.75  # from this share of the training on is the last quarter
LEVEL = 0.15  # training loss at which sharpening is compared
ENOUGH = 6  # evaluations for a rank correlation
AT_END = (  # of what evaluations find
    "train_loss",
    "train_error",
    "test_loss",
    "test_error",
    "output_jacobian",
    "output_jacobian_max",
    "softmax_jacobian",
    "cost_curvature",
    "first_share",
    "last_share",
    "alignment",
)


class Course(NamedTuple):
    """What a training has logged.

    Attributes:
        updates: How many there had been whenever the sharpness was tracked.
        cost: Mean training loss of the updates after each.
        sharpness: The sharpness there.
        residual: An eigenvalue lies within so much of each.
        limit: The largest stable sharpness, the same at all of them.
        evaluated: How many updates there had been at every evaluation.
        values: What evaluations found, by name.
    """

    updates: np.ndarray
    cost: np.ndarray
    sharpness: np.ndarray
    residual: np.ndarray
    limit: float
    evaluated: np.ndarray
    values: dict[str, np.ndarray]


def course(config: ConfigDict) -> Course:
    """Returns the course of the run of a config, which is trained if it was not."""
    lines = stages.metrics_of(config)
    steps = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "eval"]
    column = lambda lines, name: np.array([line[name] for line in lines])
    names = [name for name in evaluations[0] if name not in ("step", "kind")]
    return Course(
        # A step looks at the parameters before its first update.
        updates=(column(steps, "step") - 1) * config.tracking.every,
        cost=column(steps, "cost"),
        sharpness=column(steps, "sharpness"),
        residual=column(steps, "sharpness_residual"),
        limit=float(steps[0]["limit"]),
        evaluated=column(evaluations, "step") * config.tracking.every,
        values={name: column(evaluations, name) for name in names},
    )


def edge(config: ConfigDict) -> dict[str, float]:
    """Returns where the sharpness of a training goes, and which Jacobian goes with it."""
    found = course(config)
    return {
        **of_limit(found, config.optimizer.weight_decay),
        **of_jacobians(found),
        **at_loss(found),
        **at_end(found),
    }


def of_limit(found: Course, weight_decay: float) -> dict[str, float]:
    """Returns how near to its limit the sharpness is over the last quarter of the training.

    Source: Cohen et al. (2021), Sec. 3: sharpness over limit, both with the weight decay.
    """
    ratio = (found.sharpness + weight_decay) / (found.limit + weight_decay)
    late = found.updates > LAST * found.updates[-1]
    last = ratio[late]
    reached = np.flatnonzero(ratio >= AT[0])
    return {
        "limit": found.limit,
        "sharpness_start": float(found.sharpness[0]),
        "sharpness_lowest": float(np.min(found.sharpness)),
        "sharpness": float(np.median(found.sharpness[late])),
        "ratio": float(np.mean(last)),
        "ratio_least": float(np.min(last)),
        "ratio_most": float(np.max(last)),
        "reached": float(found.updates[reached[0]] / found.updates[-1]) if len(reached) else 1.0,
        "residual": float(np.median(found.residual / found.sharpness)),
    }


def of_jacobians(found: Course) -> dict[str, float]:
    """Returns rank correlations of the sharpness with Jacobians, and what they are made of.

    Source: MacDonald et al. (2023), Fig. 1, as numbers. "rising": from the lowest sharpness until
    the edge, if that are enough evaluations; there the sharpness is held, whatever a Jacobian does.
    """
    values = found.values
    sharpness = values["sharpness"]
    ratio = sharpness / found.limit
    begin = int(np.argmin(sharpness))
    at_edge = np.flatnonzero(ratio[begin:] >= AT[0])
    end = begin + int(at_edge[0]) + 1 if len(at_edge) else len(sharpness)
    parts = {"": slice(None)}
    if end - begin >= ENOUGH:
        parts["_rising"] = slice(begin, end)
    numbers: dict[str, float] = {}
    for name in ("output", "softmax"):
        jacobian = values[f"{name}_jacobian"]
        for when, chosen in parts.items():
            rank = spearman(sharpness[chosen], jacobian[chosen])
            numbers |= {
                f"{name}_rank{when}": rank.value,
                f"{name}_rank{when}_low": rank.low,
                f"{name}_rank{when}_high": rank.high,
            }
    apart = np.abs(values["gauss_newton"] / sharpness - 1)
    return {
        **numbers,
        "gauss_newton_apart": float(np.median(apart)),
        "bound_share": float(np.max(values["bound_share"])),
    }


def at_loss(found: Course) -> dict[str, float]:
    """Returns by how much the loss has been sharpened once it is `LEVEL`; nothing if it is not yet.

    Networks that learn at different speeds are compared where they have learned as much, and below
    the edge, which would hold all of them at one sharpness.
    """
    sharpness, reached = found.values["sharpness"], found.values["train_loss"] <= LEVEL
    if not np.any(reached):
        return {}
    place = int(np.argmax(reached))
    return {"sharpened": float(sharpness[place] / np.min(sharpness[: place + 1]))}


def at_end(found: Course) -> dict[str, float]:
    """Returns what the last evaluation found, and the gaps between training and test."""
    values = {name: float(found.values[name][-1]) for name in AT_END if name in found.values}
    return {
        **values,
        "loss_gap": values["test_loss"] - values["train_loss"],
        "error_gap": values["test_error"] - values["train_error"],
    }
