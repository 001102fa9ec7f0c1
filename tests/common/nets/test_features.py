"""Features at named places: the values that the network itself goes through, and no others."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from common.nets.features import features, keep, places_of
from common.networks import from_linen, from_stateful_linen

TOKENS, WIDTH = 3, 5
PLACES = ("inner/tokens", "maps", "out")


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return keep(self, "tokens", x * self.param("scale", nn.initializers.ones, ()))


class Small(nn.Module):
    """Tokens [n, 3, 5], maps [n, 3, 5, 1] and a row of 5."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        del train
        x = Inner(name="inner")(x)
        keep(self, "maps", jnp.sin(x)[..., None])
        return keep(self, "out", jnp.exp(x).sum(1).astype(jnp.bfloat16))


X = jnp.asarray(np.random.default_rng(0).normal(size=(7, TOKENS, WIDTH)).astype(np.float32))
PARAMS: Any = {"inner": {"scale": jnp.float32(2)}}


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("chunk", [None, 3])
def test_rows_are_the_values_at_the_places_whatever_the_chunk(
    stateful: bool, chunk: int | None
) -> None:
    network = (from_stateful_linen if stateful else from_linen)(Small(), X)
    read = partial(features, network, PARAMS, {}, places=PLACES, chunk=chunk)
    kinds = ("first", "mean", "all")
    found = jax.jit(lambda x: {kind: read(inputs=x, tokens=kind) for kind in kinds})(X)
    first, mean, whole = (found[kind] for kind in kinds)

    x = 2 * np.asarray(X)
    # Sums of three numbers up to 10, and of a bfloat16 nothing is lost.
    close = partial(np.testing.assert_allclose, rtol=1e-6)
    close(first["inner/tokens"], x[:, 0])
    close(mean["inner/tokens"], x.mean(1), atol=1e-6)
    close(whole["inner/tokens"], x.reshape(7, -1))
    close(mean["maps"], np.sin(x).reshape(7, -1), rtol=1e-5)
    out = jax.jit(network.apply)(PARAMS, *[{}] * stateful, X)
    np.testing.assert_array_equal(first["out"], np.float32(out[0] if stateful else out))
    assert {value.dtype for value in first.values()} == {jnp.dtype(jnp.float32)}


def test_a_program_that_asks_for_no_place_is_the_one_without_any() -> None:
    network = from_linen(Small(), X)
    few = jax.jit(lambda p, x: features(network, p, None, x, ["inner/tokens"]))
    none, first = (
        str(function.lower(PARAMS, X).compile().as_text())
        for function in (jax.jit(network.apply), few)
    )

    assert "sine(" not in none and "exponential(" in none
    assert "sine(" not in first and "exponential(" not in first  # nothing behind the place
    both = jax.jit(lambda p, x: features(network, p, None, x, PLACES)).lower(PARAMS, X).compile()
    assert "sine(" in str(both.as_text())
    assert list(network.init(jax.random.key(0))) == ["inner"]


def test_places_are_listed_with_their_shapes_and_unknown_ones_refused() -> None:
    network = from_linen(Small(), X)

    found = places_of(network, PARAMS, None, X)
    assert found == {"inner/tokens": (7, 3, 5), "maps": (7, 3, 5, 1), "out": (7, 5)}
    with pytest.raises(ValueError, match="no place 'map' in this network.*maps"):
        features(network, PARAMS, None, X, ["map"])
    with pytest.raises(ValueError, match="tokens='last'; expected one of first, mean, all"):
        features(network, PARAMS, None, X, ["out"], tokens="last")
