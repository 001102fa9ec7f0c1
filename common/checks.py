"""What stops a run: numbers that are not finite, and what is not as it was when the run began."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common import sharding
from common.errors import DataError, NumericalError, UserError, nearest

PyTree = Any


def metrics_are_finite(values: dict[str, Any], step: int) -> None:
    """Checks the metrics of a step or an evaluation.

    Raises:
        NumericalError: Naming the first that is not finite, and the step.
    """
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise NumericalError(
                f"metric {name!r} is not finite at step {step}; nothing was saved after the last "
                "checkpoint. Lower config.optimizer.learning_rate or look at metrics.jsonl"
            )


def state_is_finite(state: PyTree, first_nan: Callable[[PyTree], jax.Array], step: int) -> None:
    """Checks that no array of the state holds NaN; infinities may be meant.

    Args:
        state: The state on its devices.
        first_nan: `program.lower_first_nan`, compiled.
        step: Step after which it is the state.

    Raises:
        NumericalError: Naming the first array that does, and the step.
    """
    bad = int(first_nan(state))
    if bad >= 0:
        leaves = jax.tree_util.tree_leaves_with_path(state)
        floats = [path for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        name = sharding.path_name("state", floats[bad])
        raise NumericalError(f"{name} holds NaN after step {step}; this state was not saved")


def best_metric_exists(metric: str, known: Sequence[str]) -> None:
    """Checks `config.best_metric` against the metrics that `evaluate` gives.

    Raises:
        UserError: If it is none of them.
    """
    name = metric.removeprefix("-")
    if metric and name not in known:
        raise UserError(
            f"config.best_metric={metric!r}: evaluate gives no {name!r}{nearest(name, known)}; "
            f"allowed: {', '.join(known)}"
        )


def data_are_the_same(began_with: str, here: str) -> None:
    """Checks the digest of the data of a resumed run.

    Raises:
        DataError: If the run began with other data.
    """
    if began_with != here:
        raise DataError(
            f"the run began with data of sha256 {began_with[:12]}, but {here[:12]} are here now; "
            "bring them back, or start again with another --workdir"
        )


def experiment_is_the_same(directory: Path, done: ConfigDict, config: ConfigDict) -> None:
    """Checks that a finished run is not that of a namesake: two users' "experiment.py:build".

    Raises:
        UserError: If its config file lay in another folder.
    """
    if ".py:" in config.experiment and done.config_dir != config.config_dir:
        raise UserError(
            f"{directory}: is the run of an experiment in {done.config_dir}, which has the name "
            f"and config of the one in {config.config_dir}; choose another --workdir"
        )
