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
    to, member = weights.check_target(to, overwrite=overwrite), _member(run, seed)
    check_unchanged(run, allow_changed_code=allow_changed_code)
    with Checkpoints(run.path / "checkpoints", read_only=True) as checkpoints:
        newest = manifest.newest(run.path / "checkpoints")
        wanted = {leaf.path: _abstract(leaf) for leaf in newest.leaves} if newest else {}
        restored = checkpoints.restore(wanted, step=chosen_step(run, checkpoints, step))
    if newest is None or restored is None:
        raise DataError(f"{run.path}: has no valid checkpoint")
    names = weights.names(wanted)
    arrays = {name: np.asarray(restored.state[path]) for name, path in names.items()}
    for name, path in names.items():
        if arrays[name].dtype != wanted[path].dtype:
            raise UserError(
                f"{run.path}: {name} is {wanted[path].dtype}, which JAX holds only if "
                "jax_enable_x64 is set"
            )
    if run.config.seed_group > 1:
        arrays = {name: array[member] for name, array in arrays.items()}
    facts = {
        "format": FORMAT,
        "experiment": run.config.experiment,
        "config": {k: v for k, v in run.config.to_dict().items() if k != "config_dir"},
        "config_hash": config_hash(run.config),
        "seed": run.config.seed + member,
        "step": restored.step,
        "state_sha256": snapshot.digest_of(newest.leaves, snapshot.take(restored.state)[1]),
        "code": restored.extra.get("code"),
        "environment": {k: run.environment[k] for k in _SESSION if k in run.environment},
    }
    weights.save(to, arrays, facts, overwrite=overwrite)
    return restored.step


def _member(run: Run, seed: int | None) -> int:
    """Returns the place of a seed in its group, 0 for a run of one seed."""
    first, count = run.config.seed, run.config.seed_group
    if seed is None and count > 1:
        raise UserError(
            f"{run.path}: --seed says which of the seeds {first} to {first + count - 1}"
        )
    if seed is not None and seed not in range(first, first + count):
        has = f"seed {first}" if count == 1 else f"the seeds {first} to {first + count - 1}"
        raise UserError(f"--seed={seed}: {run.path} has {has}")
    return 0 if seed is None else seed - first


def _abstract(leaf: Leaf) -> jax.ShapeDtypeStruct:
    """Returns shape and dtype of a leaf that was saved."""
    keys = (jax.eval_shape(lambda impl=impl: jax.random.key(0, impl=impl)) for impl in _KEYS)
    dtype: Any = next((k.dtype for k in keys if str(k.dtype) == leaf.dtype), leaf.dtype)
    return jax.ShapeDtypeStruct(leaf.shape, dtype)
