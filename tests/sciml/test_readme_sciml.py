"""The README of this topic does what it says: a stranger's operator gets exact boundary values."""

import re
from typing import Any

import jax
import jax.numpy as jnp

from tests.processes import REPOSITORY

(CODE,) = re.findall(
    r"```python\n(.*?)```", (REPOSITORY / "sciml/README.md").read_text(), re.DOTALL
)


def test_the_readme_gives_a_strangers_operator_exact_ends() -> None:
    lines = [line for line in CODE.splitlines() if line.strip()]
    assert len(lines) <= 20
    names: dict[str, Any] = {}
    exec(CODE, names)
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        "lift": jax.random.normal(keys[0], (1, 1, 3)),
        "layers": list(jax.random.normal(keys[1], (2, 10, 10, 3, 3)) / 10),
        "out": jax.random.normal(keys[2], (3, 1)),
    }
    u, (low, high) = jax.random.normal(keys[3], (4, 10)), jax.random.normal(keys[4], (2, 4))

    def loss(params):
        return jnp.mean(names["network"](params, u, low, high) ** 2)

    out = jax.jit(names["network"])(params, u, low, high)
    grads = jax.jit(jax.grad(loss))(params)

    assert (out[:, 0] == low).all() and (out[:, -1] == high).all()
    assert jnp.std(out[:, 1:-1]) > 1e-2
    assert all(jnp.isfinite(g).all() and jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))
