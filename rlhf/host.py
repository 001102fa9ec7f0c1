"""Calls from a compiled program to the host: simulators that are no JAX, one call for a batch."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

PyTree = Any
OnHost = Callable[..., tuple[np.ndarray, ...]]


def host_call(
    function: OnHost, results: tuple[jax.ShapeDtypeStruct, ...], *arguments: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns what a NumPy function says, inside a compiled program.

    Under `vmap`, over environments and over seeds of a group, there is one call for all of them.
    The function has to be pure: the compiler may call it again, or not at all. What it has to
    remember comes in as an argument and goes out as a result, so that it is in the state of a run
    and in its checkpoints.

    Args:
        function: Arrays [batch, ...] -> arrays [batch, ...], a tuple of them.
        results: Shapes and types of its results for one member of the batch.
        arguments: Arrays of one member of the batch.
    """
    ndims = [x.ndim for x in arguments]
    dtypes = [x.dtype for x in arguments]

    def of_batch(*given: Any) -> tuple[np.ndarray, ...]:
        arrays = [np.asarray(x, dtype) for x, dtype in zip(given, dtypes, strict=True)]
        lead = arrays[0].shape[: arrays[0].ndim - ndims[0]]
        size = math.prod(lead)
        rows = (
            np.ascontiguousarray(x).reshape(size, *x.shape[x.ndim - ndim :])
            for x, ndim in zip(arrays, ndims, strict=True)
        )
        found = function(*rows)
        return tuple(
            np.asarray(x, result.dtype).reshape(*lead, *result.shape)
            for x, result in zip(found, results, strict=True)
        )

    return jax.pure_callback(of_batch, results, *arguments, vmap_method="broadcast_all")
