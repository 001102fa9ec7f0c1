"""A two-layer regression of a few rows, for tests of gradients and steps."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
KEY = 7


def problem(rows: int = 24) -> tuple[PyTree, PyTree, PyTree]:
    """Params, data and batch of a two-layer regression."""
    random = np.random.default_rng(0)
    params = {
        "first": {"kernel": random.standard_normal((3, 5)), "bias": random.standard_normal(5)},
        "second": {"kernel": random.standard_normal((5, 2))},
    }
    batch = {"x": random.standard_normal((rows, 3)), "y": random.standard_normal((rows, 2))}
    return jax.tree.map(jnp.asarray, (params, {"scale": np.float64(0.5)}, batch))


def loss(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
    """The mean over the rows of a squared error; no noise."""
    del key
    hidden = jnp.tanh(batch["x"] @ params["first"]["kernel"] + params["first"]["bias"][None])
    error = jnp.sum((hidden @ params["second"]["kernel"] - batch["y"]) ** 2, axis=-1)
    return data["scale"] * jnp.mean(error), {"first_row_free": jnp.mean(jnp.abs(error))}


def noisy_loss(params: PyTree, data: PyTree, batch: PyTree, key: jax.Array) -> Any:
    """The same loss on inputs with noise from the key."""
    x = batch["x"] + jax.random.normal(key, batch["x"].shape)
    return loss(params, data, {**batch, "x": x}, key)


def close(one: PyTree, two: PyTree) -> None:
    """Float64 sums of a few dozen terms of order 1."""
    chex.assert_trees_all_close(one, two, rtol=1e-12, atol=1e-12)


def differ(one: PyTree, two: PyTree) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return any(bool(jnp.max(jnp.abs(a - b)) > 1e-3) for a, b in pairs)
