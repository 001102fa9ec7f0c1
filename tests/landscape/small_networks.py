"""One normalized layer in the place of deep networks, where what is tested holds for any."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from common.nets.batch_norm import BatchNorm
from landscape.visualizing import networks


class Shallow(nn.Module):
    """A dense layer with batch normalization, and the logits of ten classes."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.Dense(4, use_bias=False, name="dense")(x.reshape(len(x), -1))
        x = nn.relu(BatchNorm(name="norm")(x, train=train))
        return nn.Dense(10, name="head")(x)


def drawn(shapes: Any) -> Any:
    """Returns a state of these shapes, its weights drawn by NumPy; without a program for it.

    Networks of the same shapes have the same weights. Scales and variances are 1, the rest is 0.
    """

    def leaf(path: Any, x: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if name == "kernel" and "opt_state" not in jax.tree_util.keystr(path):
            random, bound = np.random.default_rng(x.size), x.shape[0] ** -0.5
            return random.uniform(-bound, bound, x.shape).astype(x.dtype)
        is_one = name in ("scale", "var") and "opt_state" not in jax.tree_util.keystr(path)
        return np.full(x.shape, 1 if is_one else 0, x.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


@contextmanager
def shallow_networks() -> Iterator[None]:
    """Experiments that are built within have a `Shallow` network: it compiles in half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "_module", lambda spec: Shallow())
        yield
