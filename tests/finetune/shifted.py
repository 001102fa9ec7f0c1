"""A small trained network and a shift of its labels, which tests of tuning share."""

from functools import cache
from typing import Any

import jax
import numpy as np

from common.nets.dense import DenseParams
from finetune.adaptation import Examples, Target
from finetune.blocks import Blocks, blocks_by_path

PyTree = Any
SIZES = (4, 6, 5, 3)
COUNTS = {"train": 10, "valid": 8, "test": 6}


def apply(params: PyTree, x: Any) -> jax.Array:
    """Returns logits of a perceptron; of one example and of many."""
    for layer in params[:-1]:
        x = jax.numpy.tanh(x @ layer.kernel + layer.bias[None])
    return x @ params[-1].kernel + params[-1].bias[None]


@cache
def network() -> PyTree:
    random = np.random.default_rng(0)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32) * shape[0] ** -0.5
    sizes = zip(SIZES[:-1], SIZES[1:], strict=True)
    return tuple(DenseParams(draw(n, m), 0.1 * draw(1, m)[0]) for n, m in sizes)


def blocks() -> Blocks:
    return blocks_by_path(network(), [("block1", "^0/"), ("block2", "^1/"), ("last", "^2/")])


@cache
def flipped() -> Target:
    """Returns examples whose labels are 2 minus what the network says."""
    random = np.random.default_rng(1)
    parts = []
    for count in COUNTS.values():
        x = random.normal(size=(count, SIZES[0])).astype(np.float32)
        parts.append(Examples(x, 2 - np.argmax(logits(x), axis=-1)))
    return Target(*parts)


def logits(x: np.ndarray) -> np.ndarray:
    """Returns what `apply` does, without a program."""
    *hidden, last = network()
    for layer in hidden:
        x = np.tanh(x @ layer.kernel + layer.bias[None])
    return x @ last.kernel + last.bias[None]
