"""The case of `landscape_vs_torch`: images, a small trained CNN and a plane, in a file for all.

1,000 synthetic images of 16 x 16 x 3 in 10 classes, a tenth of the labels random; 3x3 convolutions
of 8, 16 and 16 channels with biases and ReLUs, mean pools after the first two, the mean over all
pixels, and a dense layer: 3,882 parameters, after 60 steps of Adam.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common.nets import batch_last
from common.nets.convolution import convolution
from landscape.directions import random_plane

PyTree = Any
ROWS, STEPS, GRID = 1000, 60, 51
SLICE = 100  # rows of a product with the Hessian that are in the cache together
WIDTHS = {
    "conv_0": (3, 3, 3, 8),
    "conv_1": (3, 3, 8, 16),
    "conv_2": (3, 3, 16, 16),
    "dense": (16, 10),
}


def images() -> dict[str, np.ndarray]:
    """Returns noisy patterns of 4 x 4 blocks, one a class, with their labels."""
    random = np.random.default_rng(0)
    patterns = random.normal(size=(10, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    labels = random.integers(0, 10, ROWS)
    x = patterns[labels] + 1.5 * random.normal(size=(ROWS, 16, 16, 3))
    is_random = random.random(ROWS) < 0.1
    y = np.where(is_random, random.integers(0, 10, ROWS), labels)
    return {"x": x.astype(np.float32), "y": y.astype(np.int32)}


def init(key: jax.Array) -> PyTree:
    """Returns Gaussian kernels that keep the variance of rectified inputs, and biases of 0."""
    params = {}
    for name, shape in WIDTHS.items():
        key, draw = jax.random.split(key)
        scale = (2 / np.prod(shape[:-1])) ** 0.5
        kernel = scale * jax.random.normal(draw, shape)
        params[name] = {"kernel": kernel, "bias": jnp.zeros(shape[-1])}
    return params


def first(params: PyTree, rows: PyTree) -> jax.Array:
    """Returns the first layer before its ReLU: [n, h, w, c]."""
    return convolution(rows["x"], params["conv_0"]["kernel"]) + params["conv_0"]["bias"]


def rest(params: PyTree, h: jax.Array, rows: PyTree) -> jax.Array:
    """Returns the cross-entropy of every row."""
    for name in ("conv_1", "conv_2"):
        n, height, width, c = h.shape
        h = jax.nn.relu(h).reshape(n, height // 2, 2, width // 2, 2, c).mean((2, 4))
        h = convolution(h, params[name]["kernel"]) + params[name]["bias"]
    logits = jax.nn.relu(h).mean((1, 2)) @ params["dense"]["kernel"] + params["dense"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows["y"])


def first_batch_last(params: PyTree, rows: PyTree) -> jax.Array:
    """Returns the first layer before its ReLU: [c, h, w, n]."""
    x = rows["x"].transpose(3, 1, 2, 0)
    return _with_bias(batch_last.convolution(x, params["conv_0"]["kernel"]), params["conv_0"])


def rest_batch_last(params: PyTree, h: jax.Array, rows: PyTree) -> jax.Array:
    """Returns the cross-entropy of every row, as `rest` does."""
    for name in ("conv_1", "conv_2"):
        h = batch_last.mean_pool(jax.nn.relu(h))
        h = _with_bias(batch_last.convolution(h, params[name]["kernel"]), params[name])
    logits = jax.nn.relu(h).mean((1, 2)).T @ params["dense"]["kernel"] + params["dense"]["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows["y"])


def _with_bias(h: jax.Array, layer: PyTree) -> jax.Array:
    return h + layer["bias"][:, None, None, None]


def values(params: PyTree, rows: PyTree) -> jax.Array:
    """Returns the cross-entropy of every row."""
    return rest(params, first(params, rows), rows)


def loss(params: PyTree, rows: PyTree) -> jax.Array:
    """Returns the mean over all rows, a slice that fits into the cache after the other."""
    slices = jax.tree.map(lambda x: x.reshape(-1, SLICE, *x.shape[1:]), rows)
    return jnp.mean(jax.lax.map(lambda rows: values(params, rows), slices))


def make(path: Path) -> None:
    """Trains the network, draws a plane, and writes all arrays; a tree under its own name."""
    rows, optimizer = images(), optax.adam(1e-2)

    @jax.jit
    def step(params: PyTree, moments: PyTree, rows: PyTree) -> tuple[PyTree, PyTree]:
        updates, moments = optimizer.update(jax.grad(loss)(params, rows), moments)
        return optax.apply_updates(params, updates), moments

    params = init(jax.random.key(0))
    moments = optimizer.init(params)
    for _ in range(STEPS):
        params, moments = step(params, moments, rows)
    d, e = random_plane(jax.random.key(1), params)
    trees = {"params": params, "d": d, "e": e}
    named = {
        f"{tree}/{name}/{part}": np.asarray(leaf)
        for tree, layers in trees.items()
        for name, layer in layers.items()
        for part, leaf in layer.items()
    }
    np.savez(path, allow_pickle=False, x=rows["x"], y=rows["y"], **named)


def load(path: Path) -> tuple[dict[str, PyTree], PyTree]:
    """Returns the trees "params", "d" and "e", and the rows."""
    found = np.load(path)
    trees = {
        tree: {
            name: {p: jnp.asarray(found[f"{tree}/{name}/{p}"]) for p in ("kernel", "bias")}
            for name in WIDTHS
        }
        for tree in ("params", "d", "e")
    }
    return trees, {name: jnp.asarray(found[name]) for name in ("x", "y")}
