"""Surfaces evaluated in parts that are kept: what a part is known by, and where it comes from.

A part is known by the bytes of parameters, directions, data and coordinates, and by the program
that measures: its operations and constants, as JAX traces them. Change any, and the parts are made
again; chunks and devices change roundings only, and are no part of it.
"""

import contextvars
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from common.data.cache import Arrays, cached, cached_parts, in_cache
from common.fingerprint import data_digest
from landscape.traced import program_text
from landscape.vectors import PyTree

Evaluate = Callable[[int, int], Arrays]
_EVALUATE: contextvars.ContextVar[Evaluate] = contextvars.ContextVar("evaluate")


class Part(NamedTuple):
    """Points `start` to `stop` of the surface with this digest."""

    surface: str
    start: int
    stop: int
    version: int = 1


def evaluate(digest: str, bounds: Sequence[tuple[int, int]], function: Evaluate) -> list[Arrays]:
    """Returns `function(start, stop)` for all bounds, from the cache where it was done before.

    The processes of a pod evaluate a part together if it is missing in the cache of any of them.
    """
    parts = [Part(digest, start, stop) for start, stop in bounds]
    token = _EVALUATE.set(function)
    try:
        if jax.process_count() == 1:
            return cached_parts(parts, surface_part)
        return [_in_all_processes(part, function) for part in parts]
    finally:
        _EVALUATE.reset(token)


def _in_all_processes(part: Part, function: Evaluate) -> Arrays:
    """Returns a part as `cached` does; nobody holds its lock while all evaluate it."""
    arrays = in_cache(part, surface_part)
    if np.all(multihost_utils.process_allgather(np.array(arrays is not None))):
        assert arrays is not None
        return arrays
    found = function(part.start, part.stop)
    _EVALUATE.set(lambda start, stop: found)
    return cached(part, surface_part)


def surface_part(part: Part) -> Arrays:
    """Returns the values of some points of the surface that is being evaluated."""
    return _EVALUATE.get()(part.start, part.stop)


def digest(functions: Sequence[tuple[Any, tuple[PyTree, ...], PyTree]], arrays: PyTree) -> str:
    """Returns what a surface is known by.

    Args:
        functions: Each with its first arguments and the model state, if there is one.
        arrays: Everything else.
    """
    total = hashlib.sha256(data_digest(jax.tree.map(np.asarray, arrays)).encode())
    for function, arguments, model_state in functions:
        if function is not None:
            extra = () if model_state is None else (model_state,)
            total.update(program_text(function, *arguments, *extra).encode())
    return total.hexdigest()
