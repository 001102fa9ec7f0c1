"""What stops a run: numbers that are not finite, and what is not as it was when the run began."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from common import fingerprint, metric_names, sharding
from common.errors import DataError, NumericalError, UserError, nearest
from common.files import json_files
from common.fingerprint import Fingerprint

if TYPE_CHECKING:
    from common.experiment import Experiment

PyTree = Any
# Form of what the loop saves with a state; `common.files.json_files` says how to read it.
NOTES = {
    "metrics_offset": int,
    "seconds": json_files.NUMBER,
    "best": ({"step": int, "value": json_files.NUMBER}, None),
}
Values = Mapping[str, Any]  # numbers, or lists of numbers for a seed group
DIVERGING = ("loss", "grad_norm")  # what `common.steps.gradient_step` takes and follows


def require_notes(directory: Path, step: int, extra: Mapping[str, Any]) -> None:
    """Checks what a checkpoint says besides its arrays, which the loop goes on from.

    Raises:
        DataError: Naming the checkpoint and the first note that is missing or of another type.
    """
    wrong = json_files.fault(dict(extra), NOTES)
    if wrong:
        raise DataError(
            f"{directory / 'checkpoints' / str(step)}: is no checkpoint of the loop: {wrong}; "
            "remove it, and the run goes on from the one before"
        )


def require_finite_metrics(
    values: Values,
    step: int,
    nan_in_state: Callable[[], str],
    labels: Callable[[], str] = str,
) -> None:
    """Checks the metrics of a training step.

    What the gradient is taken of, "loss" and "grad_norm" (`common.steps`), has to be finite. Any
    other metric may be undefined at a step, a class that is not in the batch for example, unless
    the state is lost as well.

    Args:
        values: The metrics, of a seed group lists of them.
        step: Their step.
        nan_in_state: Returns the name of an array of the state that holds NaN, "" without one;
            called only if a metric is not finite.
        labels: Returns what is wrong with labels, "" if nothing is; called only before raising.

    Raises:
        NumericalError: Naming metric and step.
    """
    found = not_finite(values)
    if not found:
        return
    lost = "" if set(found) & set(DIVERGING) else nan_in_state()
    name = next((name for name in found if name in DIVERGING), found[0] if lost else "")
    if not name:
        return
    cure = "Lower config.optimizer.learning_rate or look at metrics.jsonl"
    if step == 1:
        cure = "Nothing was learned before it: look at the data, their labels and the loss"
    cure = labels() or cure
    also = f", {lost} holds NaN" if lost else ""
    raise NumericalError(
        f"metric {name!r} is not finite at step {step}{also}; nothing was saved after the last "
        f"checkpoint. {cure}"
    )


def not_finite(values: Values) -> list[str]:
    """Returns the names of the metrics that are NaN or infinite, in any seed of a group."""
    return [name for name, value in values.items() if not np.isfinite(value).all()]


class Undefined:
    """Says once of each metric that it is not finite while the state is: nothing is lost by it."""

    def __init__(self, best_metric: str) -> None:
        self._best = metric_names.goal(best_metric).name
        self._told: set[str] = set()
        self.labels = ""  # what was wrong with labels, if that is why

    def note(self, values: Values, step: int, labels: Callable[[], str] = str) -> None:
        """Warns of the metrics that are not finite for the first time.

        `labels`, called for these only, returns what is wrong with labels, "" if nothing is.
        """
        new = [name for name in not_finite(values) if name not in self._told]
        self._told.update(new)
        self.labels = self.labels or (labels() if new else "")
        for name in new if not self.labels else ():  # which `refuse_strange_labels` refuses
            logging.warning(
                "metric %r is %s at step %d, as 0 / 0 is where nothing was counted; the state "
                "is finite and the run goes on%s; this is said once",
                name,
                values[name],
                step,
                ", without a best checkpoint at such a step" if name == self._best else "",
            )


def refuse_strange_labels(undefined: Undefined, step: int) -> None:
    """Checks that no metric was undefined because of labels: it says nothing, now and later.

    Raises:
        DataError: Naming the labels, once the state of `step` is saved.
    """
    if undefined.labels:
        raise DataError(
            f"{undefined.labels}; the state of step {step} is saved. Number the classes from 0, or "
            "mask labels that are none: jnp.where(labels >= 0, loss, 0)"
        )


def nan_in(state: PyTree, first_nan: Callable[[PyTree], jax.Array]) -> str:
    """Returns the name of the first array of a state that holds NaN, "" without one.

    Args:
        state: The state on its devices.
        first_nan: `program.lower_first_nan`, compiled.
    """
    bad = int(first_nan(state))
    if bad < 0:
        return ""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    floats = [path for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return sharding.path_name("state", floats[bad])


def require_finite_state(
    state: PyTree, first_nan: Callable[[PyTree], jax.Array], step: int
) -> None:
    """Checks that no array of the state holds NaN; infinities may be meant.

    Args:
        state: The state on its devices.
        first_nan: `program.lower_first_nan`, compiled.
        step: Step after which it is the state.

    Raises:
        NumericalError: Naming the first array that does, and the step.
    """
    name = nan_in(state, first_nan)
    if name:
        raise NumericalError(f"{name} holds NaN after step {step}; this state was not saved")


def require_best_metric(metric: str, known: Sequence[str]) -> None:
    """Checks `config.best_metric` against the metrics that `evaluate` gives.

    Raises:
        UserError: If it is none of them.
    """
    name = metric_names.goal(metric).name
    if metric and name not in known:
        raise UserError(
            f"config.best_metric={metric!r}: evaluate gives no {name!r}{nearest(name, known)}; "
            f"allowed: {', '.join(known)}"
        )


def require_same_data(
    began: Fingerprint,
    here: Fingerprint,
    advice: str = "bring them back, or start again with another --workdir",
) -> None:
    """Checks the data of a resumed run; warns of data that were made again with other bits.

    What both sides say they are made of decides (`Experiment.identity`); if one side says nothing,
    arrays of floats may differ by rounding, all others not at all.

    Raises:
        DataError: If the run began with other data.
    """
    other = fingerprint.contradiction(began, here)
    if other:
        raise DataError(f"the run began with other data: {other}; {advice}")
    if began.sha256 == here.sha256:
        return
    machines = f"on {began.cpu or 'an unknown CPU'}, now on {here.cpu or 'an unknown CPU'}"
    logging.warning(
        "the data were made again with other bits, first %s: %s; the run goes on, but not to the "
        "bits of one left alone",
        machines,
        _how_far(fingerprint.differences(began, here)),
    )


def require_data_of_run(
    run: Path, extra: dict[str, Any], data: PyTree, experiment: "Experiment"
) -> None:
    """Checks the data made for a run that is loaded, as `require_same_data` those of a resumed one.

    Args:
        run: Its folder.
        extra: What was saved with its checkpoint.
        data: What the experiment's `data()` gives now, on the host.
        experiment: Its experiment.

    Raises:
        DataError: If the run was trained with other data; names the run.
    """
    if "data_sha256" not in extra:  # a checkpoint of other code than the loop
        return
    identity = experiment.identity() if experiment.identity else None
    try:
        require_same_data(
            fingerprint.from_record(extra),
            fingerprint.fingerprint(data, identity),
            "bring them back",
        )
    except DataError as error:
        raise DataError(f"{run}: {error}") from error


def _how_far(found: Sequence[fingerprint.Difference]) -> str:
    if not found:
        return "their numbers agree"
    worst = found[0]
    if np.isinf(worst.distance):
        return f"{worst.name} has other values, as sets of networks trained again have"
    text = f"{worst.name} differs most, by {worst.distance:.1e} of its size"
    if worst.distance <= worst.allowed:
        return f"{text}, as by rounding"
    return f"{text}, more than by rounding, as sets of networks trained again do"
