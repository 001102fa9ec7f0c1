"""What table regularization says: families of networks that one regularizer tells apart.

A function `config -> metrics` of cells. Each member of a family is a run of the same config file
(`lab train`), trained as a stage, once, whatever families it is in.
"""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from common import stages
from landscape.sharpening.correlations import spearman

RATES = (0.05, 0.2)  # learning rates at which every family is trained
QUANTITIES = (  # what may follow the gap between training and test, as evaluations call it
    "sharpness",
    "output_jacobian",
    "output_jacobian_max",
    "softmax_jacobian",
)
Fields = dict[str, Any]


def families_of(config: ConfigDict) -> dict[str, tuple[Fields, ...]]:
    """Returns by family the fields in which its members differ from the config, the plain first."""
    size, updates = config.batch_size, config.num_steps
    one = lambda field, *values: tuple({field: value} for value in values)
    sizes = ((size, 1), (size // 4, 4), (4 * size, 0.25))  # and what makes epochs equal
    sam = ({"gradient.name": "sam", "gradient.rho": rho} for rho in (0.05, 0.1, 0.2))
    return {
        "learning_rate": one("optimizer.learning_rate", 0.05, 0.025, 0.1, 0.2, 0.4),
        "batch_size": one("batch_size", *(n for n, _ in sizes)),
        "batch_size_epochs": tuple(
            {"batch_size": n, "num_steps": int(updates * times)} for n, times in sizes
        ),
        "weight_decay": one("optimizer.weight_decay", 0.0, 1e-3, 3e-3, 1e-2),
        "smoothing": one("smoothing", 0.0, 0.1, 0.3, 0.5),
        "sam": ({"gradient.name": "plain"}, *sam),
        "mixup": one("mixup", 0.0, 0.2, 1.0),
        "augment": one("augment", False, True),
    }


def members(config: ConfigDict, name: str) -> list[ConfigDict]:
    """Returns the configs of the runs of a family, the plain ones first at every learning rate."""
    rates = (None,) if name == "learning_rate" else RATES
    fields = families_of(config)[name]
    return [
        _member(config, {**one, **({} if rate is None else {"optimizer.learning_rate": rate})})
        for rate in rates
        for one in fields
    ]


def regularization(config: ConfigDict) -> dict[str, float]:
    """Returns how Jacobians and sharpness of a family go with its gaps, and what its end changes.

    Source: MacDonald et al. (2023), Fig. 2-5. With `config.family="all"` the networks of all
    families count together, each once.
    """
    names = tuple(families_of(config)) if config.family == "all" else (config.family,)
    configs = {repr(member): member for name in names for member in members(config, name)}
    measured = [numbers_of(member) for member in configs.values()]
    names = (*QUANTITIES, "train_loss", "test_loss", "train_error", "test_error")
    columns = {name: np.array([one[name] for one in measured]) for name in names}
    gaps = {
        "loss_gap": columns["test_loss"] - columns["train_loss"],
        "error_gap": columns["test_error"] - columns["train_error"],
    }
    found = {"members": float(len(measured))}
    for quantity in QUANTITIES:
        for gap, values in gaps.items():
            rank = spearman(columns[quantity], values)
            found |= {
                f"{quantity}_{gap}": rank.value,
                f"{quantity}_{gap}_low": rank.low,
                f"{quantity}_{gap}_high": rank.high,
            }
    return found if config.family == "all" else {**found, **_changes(config, measured)}


def numbers_of(member: ConfigDict) -> dict[str, float]:
    """Returns what the last evaluation of a member found, which is trained if it was not."""
    return [line for line in stages.metrics_of(member) if line["kind"] == "eval"][-1]


def _changes(config: ConfigDict, measured: list[dict[str, float]]) -> dict[str, float]:
    """Returns by how much the last member of a family differs from the plain one.

    At the first learning rate; where that is what differs, the last rate from the first one.
    """
    count = len(measured) if config.family == "learning_rate" else len(measured) // len(RATES)
    plain, last = measured[0], measured[count - 1]
    times = {
        f"{name}_times": last[name] / plain[name]
        for name in ("sharpness", "output_jacobian", "softmax_jacobian")
    }
    gap = lambda one: one["test_loss"] - one["train_loss"]
    return {
        **times,
        "loss_gap_times": gap(last) / gap(plain),
        "test_error_change": last["test_error"] - plain["test_error"],
    }


def _member(config: ConfigDict, fields: Fields) -> ConfigDict:
    member = ConfigDict(config.to_dict())
    del member["family"]
    member.update_from_flattened_dict(fields)
    if "num_steps" in fields or "batch_size" in fields:
        member.eval_every = member.num_steps
        member.steps_per_call = int(np.gcd(member.num_steps, member.steps_per_call))
    return member.lock()
