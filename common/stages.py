"""Stages: a run that another experiment stands on, such as the encoder whose arrays it reads.

A config may hold the whole config of an earlier stage as one of its sections. The experiment's
`data()` trains that stage to its end, once, and takes what it needs from the best state:

    loaded = stages.trained(stages.section(config, "encoder", seed=config.seed))

Stages are runs like any other, in `runs/` of the cache: resumable, verified, shared by all that
stand on the same config and seed; any of them may be deleted at any time.
"""

import contextlib
import sys
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from common.config import complete, config_hash
from common.devices import distributed
from common.errors import UserError
from common.experiment import build
from common.files.storage import lock, user_folder
from common.loop.loading import History, Loaded, history, load
from common.loop.metrics import read_metrics
from common.loop.train import fit
from common.run_folders.records import read, read_result, run_directory


def section(config: ConfigDict, name: str, **fields: Any) -> ConfigDict:
    """Returns the section `name` of a config as a config of its own, locked and checked.

    Args:
        config: The config that stands on it.
        name: Its section that is a config, with `experiment` and `num_steps`.
        **fields: New values of its fields, above all the seed.

    Raises:
        UserError: If a field of the loop is out of range; names section and field.
    """
    try:
        return complete(config[name], config.config_dir, **fields)
    except UserError as error:
        raise UserError(f"config.{name}: {error}") from error


def stage_directory(config: ConfigDict) -> Path:
    """Returns the run folder of a stage."""
    return run_directory(user_folder("LAB_CACHE", "cache") / "runs", config)


def trained(config: ConfigDict) -> Loaded:
    """Returns the best state of the run of `config` (the last without `best_metric`).

    Processes that ask for the same stage at the same time wait for the one that trains it; one
    that is stopped by a signal saves, and the next call goes on from there.

    Raises:
        UserError, NumericalError, DataError, Interrupted: As `common.loop.train.fit`.
    """
    return load(_finished(config), allow_changed_code=True)  # warns: any stage may be deleted


def path_of(config: ConfigDict) -> History:
    """Returns the states of a stage that was trained, from its beginning, as many as it kept.

    Raises:
        UserError: If it kept fewer than its config asks for, since another table had it trained.
    """
    folder = stage_directory(config)
    states = history(folder, allow_changed_code=True)
    last, every = config.num_steps, config.checkpoint_every or config.num_steps
    if len(states) < 1 + min(config.keep, last // every):
        raise UserError(
            f"{folder}: has {len(states)} states of its path, {last // every} are asked for by "
            f"config.checkpoint_every={every}, keep={config.keep}; remove the folder, and it is "
            "trained again"
        )
    return states


def metrics_of(config: ConfigDict) -> list[dict[str, Any]]:
    """Returns what a stage has logged, every line of its metrics; it is trained if it was not.

    Raises:
        UserError, NumericalError, DataError, Interrupted: As `trained`.
    """
    return read_metrics(_finished(config) / "metrics.jsonl")


def identity(config: ConfigDict) -> dict[str, Any]:
    """Returns what makes the run of a stage what it is, up to the CPU that trains it."""
    return {
        "experiment": config.experiment,
        "config_hash": config_hash(config),
        "seed": config.seed,
    }


def _finished(config: ConfigDict) -> Path:
    """Returns the run folder of a stage once it is trained to its end."""
    folder = stage_directory(config)
    with contextlib.ExitStack() as stack:
        if distributed.is_lead():
            stack.enter_context(lock(folder.with_name(f"{folder.name}.lock")))
        logging.info("stage %s: %s", config.experiment, folder)
        done = read_result(folder) or {"status": "missing"}
        if done["status"] != "complete" or done["config_hash"] != config_hash(config):
            fit(build(config), config, folder, command=sys.argv, allow_changed_code=True)
    return folder


def describe(config: ConfigDict) -> dict[str, Any]:
    """Returns which run a finished stage is, for result files."""
    result = read(stage_directory(config)).result or {}
    return {
        **identity(config),
        "step": result.get("best_step") or result.get("step"),
        "commit": result.get("environment", {}).get("commit"),
    }
