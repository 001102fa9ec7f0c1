"""Starting a run from the parameters of another one: `config.init_from`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from common import sharding
from common.errors import LabError, UserError
from common.loop.loading import load
from common.run_folders.records import read
from common.run_folders.trust import check_unchanged

PyTree = Any


def check_source(source: str, allow_changed_code: bool = False) -> None:
    """Checks that `config.init_from` names a run folder that is as it was, if it names anything.

    Raises:
        UserError: If it is no run folder, or its code has changed and may not.
        DataError: If one of its files is damaged or was edited.
    """
    if source:
        with _named(source):
            check_unchanged(read(source), allow_changed_code=allow_changed_code)


def warm_start(state: PyTree, source: str, allow_changed_code: bool = False) -> PyTree:
    """Returns `state` with `state.params` replaced by the best parameters of the run `source`.

    Raises:
        UserError: If `state` has no params, or they have other names, shapes or dtypes; if the code
            of `source` has changed and may not.
        DataError: If the run has no valid checkpoint, or its data are others now.
    """
    if not source:
        return state
    with _named(source):
        run = load(source, allow_changed_code=allow_changed_code)
        loaded = getattr(run.state, "params", None)
        params = getattr(state, "params", None)
        if params is None or loaded is None:
            raise UserError("the state of both experiments needs a field `params`")
        old, new = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (params, loaded))
        if old != new:
            raise UserError("its parameters have other names or shapes")
    # Over the host: every process holds all of the other run, but only its part of this one.
    host = jax.tree.map(np.asarray, loaded)
    return state._replace(params=sharding.place(host, jax.tree.map(lambda x: x.sharding, params)))


@contextlib.contextmanager
def _named(source: str) -> Iterator[None]:
    """Puts the field before the message of an error."""
    try:
        yield
    except LabError as error:
        raise type(error)(f"config.init_from={source!r}: {error}") from error
