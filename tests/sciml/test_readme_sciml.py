"""The READMEs do what they say: a stranger's operator gets exact ends, a predictor conserves."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.processes import REPOSITORY


def code_of(path: str, *, examples: int = 1) -> str:
    """Returns the examples, each of which is to be short, one after the other."""
    found = re.findall(r"```python\n(.*?)```", (REPOSITORY / path).read_text(), re.DOTALL)
    assert len(found) == examples
    assert all(len([line for line in code.splitlines() if line.strip()]) <= 20 for code in found)
    return "\n".join(found)


@pytest.mark.slow  # the other example is run by default
def test_the_readme_gives_a_strangers_operator_exact_ends() -> None:
    names: dict[str, Any] = {}
    exec(code_of("sciml/README.md"), names)
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        "lift": jax.random.normal(keys[0], (1, 1, 3)),
        "layers": list(jax.random.normal(keys[1], (2, 10, 10, 3, 3)) / 10),
        "out": jax.random.normal(keys[2], (3, 1)),
    }
    u, (low, high) = jax.random.normal(keys[3], (4, 10)), jax.random.normal(keys[4], (2, 4))

    def loss(params):
        out = names["network"](params, u, low, high)
        return jnp.mean(out**2), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    assert (out[:, 0] == low).all() and (out[:, -1] == high).all()
    assert jnp.std(out[:, 1:-1]) > 1e-2
    assert all(jnp.isfinite(g).all() and jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_the_readme_makes_a_strangers_prediction_conserve() -> None:
    names: dict[str, Any] = {}
    exec(code_of("sciml/probconserv/README.md", examples=2), names)
    keys = jax.random.split(jax.random.key(0), 3)
    x = jnp.sort(jax.random.uniform(keys[0], (30,)))
    mean, variance = jax.random.normal(keys[1], (2, 30)) ** 2

    @jax.jit
    def both(mean):
        conserved = names["conserve"](x, mean, variance, jnp.asarray(0.7), keys[2])
        return *conserved, *names["conserve_within"](x, mean - 1, variance, jnp.asarray(0.7))

    moved, left, samples, positive, above = both(mean)

    assert positive.min() == 0 and (positive > 0).sum() > 5
    assert jnp.allclose(above, left)
    for field in (moved, positive, *samples[:5]):
        assert abs(float(jnp.trapezoid(field, x)) - 0.7) < 1e-6
    assert (left <= variance).all() and (left < 0.999 * variance).any()
    assert jnp.abs(moved - mean).max() > 1e-3
    assert jnp.std(samples, axis=0).max() > 0.1
