"""The weights of a run as a file for others: `lab export`. No code of the run is executed."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from common.checkpoints import manifest, snapshot, weights
from common.checkpoints.checkpoint import Checkpoints, Step
from common.checkpoints.manifest import Leaf
from common.config import config_hash
from common.errors import DataError, UserError
from common.loop.loading import chosen_step
from common.run_folders.records import Run
from common.run_folders.trust import check_unchanged
from common.seeds import in_words, is_group, of_seed, seeds_of

FORMAT = 1  # of the metadata
_KEYS = ("threefry2x32", "rbg", "unsafe_rbg")
_SESSION = ("commit", "dirty", "python", "platform", "packages")  # of environment.json


def export(
    run: Run,
    to: str | Path,
    step: Step = "best",
    *,
    seed: int | None = None,
    overwrite: bool = False,
    allow_changed_code: bool = False,
) -> int:
    """Writes parameters and statistics of a run's checkpoint to a file; returns the step.

    Args:
        run: What its folder says.
        to: The file (`common.checkpoints.weights`).
        step: "best" (the last if the run has no best), "last", or the number of a checkpoint.
        seed: Which seed of a seed group.
        overwrite: Whether a file that is there is replaced.
        allow_changed_code: Whether code that has changed since is only warned of.

    Raises:
        UserError: If the state has no params, the seed is none of the run's, its code has changed,
            JAX does not hold 64 bits and the run does, or the file is there or lacks a type.
        DataError: If there is no such checkpoint, it is damaged, or the file cannot be written.
    """
    to, seed = weights.check_target(to, overwrite=overwrite), _seed(run, seed)
    check_unchanged(run, allow_changed_code=allow_changed_code)
    with Checkpoints(run.path / "checkpoints", read_only=True) as checkpoints:
        newest = manifest.newest(run.path / "checkpoints")
        wanted = {leaf.path: _abstract(leaf) for leaf in newest.leaves} if newest else {}
        restored = checkpoints.restore(wanted, step=chosen_step(run, checkpoints, step))
    if newest is None or restored is None:
        raise DataError(f"{run.path}: has no valid checkpoint")
    names = weights.names(wanted)
    stored = {name: np.asarray(restored.state[path]) for name, path in names.items()}
    for name, path in names.items():
        if stored[name].dtype != wanted[path].dtype:
            raise UserError(
                f"{run.path}: {name} is {wanted[path].dtype}, which JAX holds only if "
                "jax_enable_x64 is set"
            )
    arrays = of_seed(run.config, seed, stored)
    facts = {
        "format": FORMAT,
        "experiment": run.config.experiment,
        "config": {k: v for k, v in run.config.to_dict().items() if k != "config_dir"},
        "config_hash": config_hash(run.config),
        "seed": seed,
        "step": restored.step,
        "state_sha256": snapshot.digest_of(newest.leaves, snapshot.take(restored.state)[1]),
        "code": restored.extra.get("code"),
        "environment": {k: run.environment[k] for k in _SESSION if k in run.environment},
    }
    weights.save(to, arrays, facts, overwrite=overwrite)
    return restored.step


def _seed(run: Run, seed: int | None) -> int:
    """Returns a seed of the run, its only one if none is named."""
    if seed is None and is_group(run.config):
        raise UserError(f"{run.path}: --seed says which of {in_words(run.config)}")
    if seed is not None and seed not in seeds_of(run.config):
        raise UserError(f"--seed={seed}: {run.path} has {in_words(run.config)}")
    return run.config.seed if seed is None else seed


def _abstract(leaf: Leaf) -> jax.ShapeDtypeStruct:
    """Returns shape and dtype of a leaf that was saved."""
    keys = (jax.eval_shape(lambda impl=impl: jax.random.key(0, impl=impl)) for impl in _KEYS)
    dtype: Any = next((k.dtype for k in keys if str(k.dtype) == leaf.dtype), leaf.dtype)
    return jax.ShapeDtypeStruct(leaf.shape, dtype)
