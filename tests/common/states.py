"""A small state with all kinds of leaves, for tests of checkpoints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class State(NamedTuple):
    params: dict[str, Any]
    opt_state: Any
    key: jax.Array
    step: jax.Array
    empty: jax.Array


def make_state(value: float = 0.0) -> State:
    """A state with all kinds of leaves; `value` is in every one that is not empty."""
    params = {
        "dense": {"kernel": value + jnp.arange(200.0).reshape(10, 20), "bias": jnp.full(3, value)},
        "half": [jnp.full((2, 3), value, jnp.bfloat16), jnp.asarray(value > 1)],
    }
    keys = jax.random.split(jax.random.key(int(value)), 2)
    return State(params, optax.adam(0.1).init(params), keys, jnp.int32(value), jnp.zeros((0, 4)))


def abstract(state: Any) -> Any:
    return jax.eval_shape(lambda: state)


def assert_same(found: Any, wanted: Any) -> None:
    """Same tree, dtypes and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert new.dtype == old.dtype
        if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
            new, old = jax.random.key_data(new), jax.random.key_data(old)
        assert np.asarray(new).tobytes() == np.asarray(old).tobytes()
