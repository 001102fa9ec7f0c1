"""Losses whose curvature is known: quadratics, a deep linear network, a small ReLU network."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

PyTree = Any


def quadratic(params: PyTree, batch: PyTree) -> Array:
    """Returns theta^T A theta / 2 for the matrix A of the batch."""
    theta = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])
    return theta @ batch["matrix"] @ theta / 2


def symmetric(values: Any, seed: int = 0) -> np.ndarray:
    """Returns a symmetric matrix of given eigenvalues."""
    normal = np.random.default_rng(seed).normal(size=(len(values), len(values)))
    basis = np.linalg.qr(normal)[0]
    return basis @ np.diag(values) @ basis.T


def relu_network(params: PyTree, x: Array) -> Array:
    """Returns the outputs of dense layers with ReLUs between them; biases where there are some."""
    for i in range(len(params)):
        layer = params[f"dense_{i}"]
        x = x @ layer["kernel"]
        x = x + layer["bias"][None] if "bias" in layer else x
        x = jax.nn.relu(x) if i < len(params) - 1 else x
    return x


def init_relu(seed: int, sizes: tuple[int, ...], *, has_bias: bool = False) -> PyTree:
    """Returns Gaussian weights of `relu_network`."""
    random, params = np.random.default_rng(seed), {}
    for i, (c_in, c_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layer = {"kernel": jnp.asarray(random.normal(size=(c_in, c_out)) / np.sqrt(c_in))}
        if has_bias:
            layer["bias"] = jnp.asarray(random.normal(size=c_out) / 10)
        params[f"dense_{i}"] = layer
    return params


def cross_entropy(logits: Array, batch: PyTree) -> Array:
    """Returns the mean cross-entropy of logits."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["y"][:, None], axis=1)
    return -jnp.mean(chosen)


def predicted(params: PyTree, batch: PyTree) -> Array:
    return relu_network(params, batch["x"])


def classification(params: PyTree, batch: PyTree) -> Array:
    """Returns the cross-entropy of `relu_network`."""
    return cross_entropy(predicted(params, batch), batch)


def labelled(seed: int, rows: int, *, features: int = 4, classes: int = 3) -> PyTree:
    """Returns Gaussian inputs with random labels."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, features))
    return {"x": jnp.asarray(x), "y": jnp.asarray(random.integers(0, classes, rows))}
