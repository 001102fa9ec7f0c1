"""The random keys of a run: one root for its seed, one stream for each purpose."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from common.seeds import is_group, seeds_of

INIT, STEP, EVALUATE = 0, 1, 2  # streams; step i of a run sees stream(stream(root, STEP), i)


def root_key(config: ConfigDict) -> jax.Array:
    """Returns the key of the seed; of a seed group, the keys of its members, stacked."""
    if not is_group(config):
        return jax.random.key(config.seed)
    return jax.vmap(jax.random.key)(np.array(seeds_of(config)))


def stream(key: jax.Array, number: Any) -> jax.Array:
    """Returns fold_in(key, number), for each key of a seed group."""
    fold = jax.random.fold_in
    return fold(key, number) if key.ndim == 0 else jax.vmap(fold, in_axes=(0, None))(key, number)


def split_apart(key: jax.Array, count: int) -> list[jax.Array]:
    """Returns the keys of `jax.random.split`, taken apart on the host.

    To iterate over them on a device is a program of `count` outputs, slow to compile.
    """
    keys = jax.random.split(key, count)
    impl = jax.random.key_impl(keys)
    rows = np.asarray(jax.random.key_data(keys))
    return [jax.random.wrap_key_data(row, impl=impl) for row in rows]


def is_key(leaf: Any) -> bool:
    """Returns whether an array, or the shape of one, holds typed random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def bits_of(leaf: Any) -> Any:
    """Returns the bits of typed random keys; other arrays, old keys among them, as they are."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def with_bits(bits: Any, like: Any) -> Any:
    """Undoes `bits_of`: typed keys where `like` has them."""
    return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(like)) if is_key(like) else bits
