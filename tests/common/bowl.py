"""A loss of five parameters whose gradient can be written down, for tests of SAM."""

from typing import Any

import jax.numpy as jnp
import numpy as np

PyTree = Any
Array = np.ndarray

MATRIX = np.array(
    [[3, 1, 0, 0, 1], [1, 2, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 4, 1], [1, 0, 0, 1, 2]]
)
START = np.array([0.5, -1.0, 2.0, 0.0, 0.3])  # an entry of 0, where adaptive SAM has least room


def slope(w: Array) -> Array:
    """The gradient of `bowl`, of the entries in one vector."""
    return MATRIX @ w + w**3


def bowl(params: PyTree, data: Any, batch: Any, key: Any) -> Any:
    """w^T A w / 2 + sum w^4 / 4 of five entries in two leaves."""
    del data, batch, key
    w = jnp.concatenate([params["a"], params["b"]])
    return w @ jnp.asarray(MATRIX, w.dtype) @ w / 2 + jnp.sum(w**4) / 4, {}


def leaves(w: Array) -> PyTree:
    return {"a": jnp.asarray(w[:3]), "b": jnp.asarray(w[3:])}


def entries(tree: PyTree) -> Array:
    return np.concatenate([np.asarray(tree["a"]), np.asarray(tree["b"])])
