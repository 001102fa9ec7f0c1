"""How many parameters a module has, without drawing one."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from common.networks import from_stateful_linen


def images(side: int, channels: int = 3) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)


def shapes_of(module: nn.Module, *example: Any) -> tuple[Any, Any]:
    """Returns the shapes of parameters and model state."""
    return jax.eval_shape(from_stateful_linen(module, *example).init, jax.random.key(0))


def size(params: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def drawn(module: nn.Module, *example: Any, seed: int = 0) -> tuple[Any, Any]:
    """Returns parameters that keep sizes about 1, and statistics, in which nothing is 0 or 1."""
    generator = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> jax.Array:
        values = generator.normal(size=leaf.shape) / math.sqrt(max(1, math.prod(leaf.shape[:-1])))
        values = abs(values) + 0.5 if path[-1].key in ("var", "scale") else values
        return jnp.asarray(values.astype(np.float32))

    params, state = jax.tree_util.tree_map_with_path(draw, shapes_of(module, *example))
    return params, state
