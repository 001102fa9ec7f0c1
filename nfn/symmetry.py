"""The symmetries of a SIREN beyond permutations, and how to be rid of them.

A hidden neuron computes sin(w x + b), w and b already multiplied by omega, and hands it on with
weights u. Two more changes of the weights leave what it computes alone: (w, b, u) -> (-w, -b, -u)
and (b, u) -> (b + pi, -u). Params are those of `nfn.siren`, with any leading batch axes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from nfn.siren import SirenParams


def canonical_siren(params: SirenParams, *, omega: float) -> SirenParams:
    """Returns the same function with |omega b| <= pi / 2 and a fixed sign of every hidden neuron.

    First hidden layer: the weight of the first input is positive; later ones: the sum of the
    outgoing weights is positive. Commutes with permutations of hidden neurons, and all weights
    that the two symmetries connect get the same form, except where such a sum is 0; it jumps
    there and at omega b = pi / 2. Renderings agree to rounding.
    """
    names = _layers(params)
    params = {name: dict(params[name]) for name in names}
    for name, after in zip(names[:-1], names[1:], strict=True):
        turns = jnp.round(omega * params[name]["bias"] / math.pi)
        params[name]["bias"] -= turns * (math.pi / omega)
        params[after]["kernel"] *= (1 - 2 * (turns % 2))[..., :, None]
    for i in reversed(range(len(names) - 1)):
        name, after = names[i], names[i + 1]
        if i == 0:
            decides = params[name]["kernel"][..., 0, :]
        else:
            decides = jnp.sum(params[after]["kernel"], axis=-1)
        _flip(params, name, after, jnp.where(decides < 0, -1.0, 1.0))
    return params


def random_sine_symmetry(key: PRNGKeyArray, params: SirenParams, *, omega: float) -> SirenParams:
    """Returns the same function with random signs and up to one half turn either way per neuron."""
    names = _layers(params)
    params = {name: dict(params[name]) for name in names}
    for name, after in zip(names[:-1], names[1:], strict=True):
        key, key_sign, key_turns = jax.random.split(key, 3)
        bias = params[name]["bias"]
        turns = jax.random.randint(key_turns, bias.shape, -1, 2).astype(bias.dtype)
        params[name]["bias"] = bias + turns * (math.pi / omega)
        params[after]["kernel"] *= (1 - 2 * (turns % 2))[..., :, None]
        _flip(params, name, after, jax.random.rademacher(key_sign, bias.shape, bias.dtype))
    return params


def _flip(params: dict[str, Any], name: str, after: str, signs: jax.Array) -> None:
    """Multiplies incoming weights, bias and outgoing weights of every neuron by its sign."""
    params[name]["kernel"] *= signs[..., None, :]
    params[name]["bias"] *= signs
    params[after]["kernel"] *= signs[..., :, None]


def _layers(params: SirenParams) -> list[str]:
    """Returns the names of the layers from input to output.

    Raises:
        ValueError: If the layers are not dense_0, dense_1, ...
    """
    names = [f"dense_{i}" for i in range(len(params))]
    if set(names) != set(params) or len(names) < 2:
        raise ValueError(
            f"the layers of a SIREN are dense_0, dense_1, ..., two or more; got {sorted(params)}"
        )
    return names
