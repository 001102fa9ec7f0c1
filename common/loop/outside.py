"""What a step gets from outside its run, such as answers of people, once the loop has waited."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ml_collections import ConfigDict

from common.devices import distributed
from common.errors import UserError
from common.experiment import Batch, Experiment, Outside


@contextlib.contextmanager
def opened(
    experiment: Experiment, config: ConfigDict, run_directory: Path
) -> Iterator[Outside | None]:
    """Gives the run's `Experiment.outside`, None if it needs nothing from outside.

    Raises:
        UserError: If several steps, seeds or processes would have to share what comes.
    """
    if experiment.outside is None:
        yield None
        return
    for field in ("steps_per_call", "seed_group"):
        if config[field] > 1:
            raise UserError(
                f"config.{field}={config[field]}: this experiment waits for what comes from "
                "outside before every step; expected 1"
            )
    if not distributed.is_single():
        raise UserError(
            "--distributed: this experiment waits for what comes from outside; run it "
            "as one process"
        )
    with experiment.outside(run_directory) as given:
        yield given


def batch_of(
    outside: Outside | None, batch: Batch, step: int, state: object, is_stopping: Callable[[], bool]
) -> Batch:
    """Returns the batch of a step, with what came from outside in place of its own arrays.

    Raises:
        UserError: If that has names, types or shapes which the batch has not.
    """
    if outside is None:
        return batch
    given = outside(step, state, is_stopping)
    for name, value in given.items():
        wanted = batch.get(name)
        if wanted is None or (wanted.shape, wanted.dtype) != (value.shape, value.dtype):
            kind = "nothing" if wanted is None else f"{wanted.dtype}{wanted.shape}"
            raise UserError(
                f"outside gives {name!r} as {value.dtype}{value.shape}: batch has {kind} there"
            )
    return {**batch, **given}
