"""What table decomposition says: SAM's step taken apart, all along a training.

A function `config -> metrics` of cells. The run is trained as a stage (`common.stages`), once, and
every evaluation of its log is read.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from common import stages


class Course(NamedTuple):
    """What a training has logged.

    Attributes:
        updates: How many there had been at every evaluation.
        values: What evaluations found, by name.
        num_first: Updates of the half in which SAM climbs.
    """

    updates: np.ndarray
    values: dict[str, np.ndarray]
    num_first: float


def course(config: ConfigDict) -> Course:
    """Returns the course of the run of a config, which is trained if it was not."""
    evaluations = [line for line in stages.metrics_of(config) if line["kind"] == "eval"]
    names = [name for name in evaluations[0] if name not in ("step", "kind")]
    column = lambda name: np.array([line[name] for line in evaluations], np.float64)
    num_first = config.gradient.stop * config.num_steps
    return Course(column("step"), {name: column(name) for name in names}, num_first)


def decomposition(config: ConfigDict) -> dict[str, float]:
    """Returns what SAM's steps do to pre-activations: means over the first half, worst of all.

    Source: Andriushchenko et al. (2023), Sec. 5.
    """
    found = course(config)
    is_first = found.updates <= found.num_first
    values, early = found.values, {name: x[is_first] for name, x in found.values.items()}
    drop = -early["regularization_change"]
    return {
        "regularization_highest": float(values["regularization_highest"].max()),
        "drop": float(drop.mean()),
        "drop_over_fit": float((drop / early["fit_change"]).mean()),
        "remainder": float(early["remainder"].mean()),
        "remainder_order": float(early["remainder_order"].mean()),
        "exact_apart": float(values["exact_apart"].max()),
        "still_share": float(values["still_share"].min()),
        "active_first": float(early["active"][0]),
        "active_half": float(early["active"][-1]),
        "active_end": float(values["active"][-1]),
    }
