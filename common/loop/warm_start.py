"""Starting a run from weights that are there: `config.init_from` and `config.init_from_names`.

They are those of a run folder, its best, or of a file (`common.checkpoints.weights`), which others
may have made. A run takes its parameters from there, all of them, and `model_state` if it is there;
the optimizer, the step and the keys start anew. Importing this module does not import JAX.
"""

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from common.checkpoints import renames, weights
from common.config import config_hash
from common.errors import LabError, UserError
from common.files.storage import user_path
from common.run_folders.records import read
from common.run_folders.trust import WEIGHTS, check_unchanged

PyTree = Any
MOST_NAMES = 4  # of one kind in a message


def check_source(config: ConfigDict, allow_changed_code: bool = False) -> None:
    """Checks that `config.init_from` names a run folder or a file that is as it was, if anything.

    Raises:
        UserError: If it is neither, its code has changed and may not, or a rename is none.
        DataError: If one of its files is damaged or was edited.
    """
    source = config.init_from
    if renames.parse(config.init_from_names) and not source:
        raise UserError(f"{renames.FIELD} does nothing without config.init_from")
    with _named(source):
        if weights.is_weights(source):
            weights.load(source)
        elif os.path.isfile(user_path(source)):
            expected = " or ".join(weights.SUFFIXES)
            raise UserError(f"is a file; expected a run folder, or a file {expected}")
        elif source:
            check_unchanged(read(source), allow_changed_code=allow_changed_code)


def warm_start(
    state: PyTree, config: ConfigDict, allow_changed_code: bool = False
) -> tuple[PyTree, dict[str, Any]]:
    """Returns `state` with the weights that `config.init_from` names, and the record of them.

    Raises:
        UserError: If `state` has no params, or those there have other names, shapes or types; if
            the code of the run there has changed and may not.
        DataError: If what is there is damaged, or the data of the run are others now.
    """
    if not config.init_from:
        return state, {}
    import jax

    from common import sharding
    from common.checkpoints.snapshot import flatten

    with _named(config.init_from):
        found, record = _read(config.init_from, allow_changed_code)
        found = renames.renamed(found, renames.parse(config.init_from_names))
        leaves = flatten(state)
        paths = weights.names(leaves)
        if not any(name.startswith(weights.STATISTICS) for name in found):
            paths = {k: path for k, path in paths.items() if not k.startswith(weights.STATISTICS)}
        _check_fit(found, {name: leaves[path] for name, path in paths.items()})
    # From the host: every process holds all of what is there, but only its part of this state.
    for name, path in paths.items():
        leaves[path] = sharding.place(found[name], leaves[path].sharding)
    return jax.tree.unflatten(jax.tree.structure(state), leaves.values()), {WEIGHTS: record}


def _read(source: str, allow_changed_code: bool) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
    """Returns weights by name, and which they are."""
    if weights.is_weights(source):
        file = weights.load(source)
        return file.arrays, {"sha256": file.sha256}
    from common.checkpoints.snapshot import flatten
    from common.loop.loading import load

    run = load(source, allow_changed_code=allow_changed_code)
    leaves = flatten(run.state)
    arrays = {name: np.asarray(leaves[path]) for name, path in weights.names(leaves).items()}
    which = {"config_hash": config_hash(run.config), "seed": run.config.seed, "step": run.step}
    return arrays, which


def _check_fit(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses weights that differ from those of the run in a name, a shape or a type."""
    missing, surplus = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    others = [
        f"{name} is {_kind(found[name])} there, {_kind(wanted[name])} here"
        for name in wanted.keys() & found.keys()
        if _kind(found[name]) != _kind(wanted[name])
    ]
    problems = [f"it has no {_first(missing)}"] if missing else []
    problems += [f"this run has no {_first(surplus)}"] if surplus else []
    problems += [_first(others)] if others else []
    if problems:
        raise UserError(f"{'; '.join(problems)}; {renames.FIELD} renames and transposes")


def _first(texts: Collection[str]) -> str:
    """Returns the first few of some texts."""
    more = f" and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else ""
    return ", ".join(sorted(texts)[:MOST_NAMES]) + more


def _kind(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


@contextlib.contextmanager
def _named(source: str) -> Iterator[None]:
    """Puts the field before the message of an error."""
    try:
        yield
    except LabError as error:
        raise type(error)(f"config.init_from={source!r}: {error}") from error
