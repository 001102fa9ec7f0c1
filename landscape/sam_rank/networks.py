"""Networks of two layers as pure functions of their inputs."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "tanh": jnp.tanh,
}


class TwoLayer(NamedTuple):
    """Parameters of f(x) = sum_j a_j phi(<w_j, x> + b_j) + c, in the letters of the paper."""

    w: Float[Array, "units d"]
    b: Float[Array, " units"]
    a: Float[Array, " units"]
    c: Float[Array, ""]


def init_two_layer(key: PRNGKeyArray, *, units: int, inputs: int, scale: float) -> TwoLayer:
    """Draws all weights and biases from N(0, scale^2).

    Source: Andriushchenko et al. (2023), released code of two-layer networks, for the draws.
    """
    keys = jax.random.split(key, 4)
    shapes = ((units, inputs), (units,), (units,), ())
    return TwoLayer(
        *(scale * jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))
    )


def pre_activations(params: TwoLayer, x: Float[Array, "n d"]) -> Float[Array, "n units"]:
    """Returns z_ij = <w_j, x_i> + b_j."""
    return x @ params.w.T + params.b[None]


def hidden(params: TwoLayer, x: Float[Array, "n d"], activation: str) -> Float[Array, "n units"]:
    """Returns the features phi(z) whose rank is measured."""
    return ACTIVATIONS[activation](pre_activations(params, x))


def two_layer(params: TwoLayer, x: Float[Array, "n d"], activation: str) -> Float[Array, " n"]:
    """Returns f of every row."""
    return hidden(params, x, activation) @ params.a + params.c
