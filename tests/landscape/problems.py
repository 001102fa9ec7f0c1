"""Losses whose curvature is known: quadratics, a deep linear network, a small ReLU network."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from landscape.products import averaged
from landscape.vectors import Layout, layout_of, to_direction

PyTree = Any
N = 40
EPS = float(np.finfo(np.float64).eps)
VALUES = np.r_[-5.0, -1.0, np.linspace(0, 1, N - 6), 7.0, 8.0, 9.0, 20.0]  # eigenvalues


def rounding(size: Any, terms: int) -> float:
    """Returns what float64 may leave of sums of that many terms, the largest of them `size`.

    A sum of n terms up to s is known to n eps s in any order, with fused multiply-adds and without.
    What is compared here takes some dozens of such sums, one after another: a hundred times that
    holds on every CPU, and is far below what a mistake would leave.

    Args:
        size: The largest number, or arrays with it, such as the norm of a matrix.
        terms: How many are added up, such as the dimensions of a product.
    """
    return 100 * terms * EPS * float(np.max(np.abs(size)))


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


def params_of(n: int = N) -> dict:
    """Returns n numbers in two leaves, and a counter."""
    return {"a": jnp.ones((n - 10) // 2), "b": jnp.ones((n - (n - 10) // 2,)), "count": 3}


def quadratic_without_count(params: Any, batch: Any) -> jax.Array:
    return quadratic({"a": params["a"], "b": params["b"]}, batch)


def dense(function: Any, params: Any, batches: list, **options: Any) -> np.ndarray:
    """Returns the whole matrix of an operator, column by column."""
    operator = averaged(function, params, batches, **options)
    rows = np.eye(operator.layout.size, dtype=operator.layout.dtype)
    return np.stack([operator.apply(jnp.asarray(row)) for row in rows])


@partial(jax.jit, static_argnames=("function", "layout"))
def hessian_of(function: Any, layout: Layout, vector: jax.Array, batch: Any) -> jax.Array:
    return jax.hessian(lambda v: function(to_direction(layout, v), batch))(vector)


def by_definition(function: Any, params: Any, batch: Any) -> np.ndarray:
    """Returns the Hessian as JAX's own, of all parameters as one vector."""
    layout = layout_of(params)
    pairs = zip(jax.tree.leaves(params), layout.moves, strict=True)
    vector = np.concatenate([np.ravel(leaf) for leaf, moves in pairs if moves])
    return np.asarray(hessian_of(function, layout, vector, batch))


def entry_paths(params: Any) -> list[str]:
    layout = layout_of(params)
    return [p for p, n in zip(layout.moving_paths, layout.sizes, strict=True) for _ in range(n)]


def assert_close(found: Any, wanted: Any, rtol: float) -> None:
    """Compares relative to the largest number."""
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=rtol * np.abs(wanted).max())
