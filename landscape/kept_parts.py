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

from common.data.cache import Arrays, cached_parts
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
    """Returns `function(start, stop)` for all bounds, from the cache where it was done before."""
    token = _EVALUATE.set(function)
    try:
        return cached_parts([Part(digest, start, stop) for start, stop in bounds], surface_part)
    finally:
        _EVALUATE.reset(token)


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
