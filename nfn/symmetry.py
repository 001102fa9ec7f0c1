"""The symmetries of a SIREN beyond permutations, and how to be rid of them.

A hidden neuron computes sin(w x + b), w and b already multiplied by omega, and hands it on with
weights u. Two more changes of the weights leave what it computes alone: (w, b, u) -> (-w, -b, -u)
and (b, u) -> (b + pi, -u). Params are those of `nfn.siren`, with any leading batch axes.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from nfn.siren import SirenParams


def canonical_siren(params: SirenParams, *, omega: float) -> SirenParams:
    """Returns the same function with |omega b| <= pi / 2 and a fixed sign of every hidden neuron.

    First hidden layer: the first weight that is not 0 is positive, in the order of the inputs;
    later ones: the sum of the outgoing weights is positive. Where all of this is 0, what is next
    of the bias, the sum of the outgoing weights and that of their cubes decides. Commutes with
    permutations of hidden neurons, and all weights that the two symmetries connect get the same
    form, except where all that decides is 0; it jumps where a sign changes and at omega b = pi / 2.
    Renderings agree to rounding.
    """
    names = _layers(params)
    params = {name: dict(params[name]) for name in names}
    for name, after in zip(names[:-1], names[1:], strict=True):
        turns = jnp.round(omega * params[name]["bias"] / math.pi)
        params[name]["bias"] -= turns * (math.pi / omega)
        params[after]["kernel"] *= (1 - 2 * (turns % 2))[..., :, None]
    for i in reversed(range(len(names) - 1)):
        name, after = names[i], names[i + 1]
        outgoing = params[after]["kernel"]
        rows = [params[name]["bias"], jnp.sum(outgoing, axis=-1), jnp.sum(outgoing**3, axis=-1)]
        if i == 0:
            rows = [*jnp.moveaxis(params[name]["kernel"], -2, 0), *rows]
        else:
            rows = [rows[1], rows[0], rows[2]]
        _flip(params, name, after, jnp.where(_first_not_zero(rows) < 0, -1.0, 1.0))
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


def _first_not_zero(rows: Sequence[jax.Array]) -> jax.Array:
    """Returns, entry by entry, the first of several arrays that is not 0 there."""
    found = rows[-1]
    for row in reversed(rows[:-1]):
        found = jnp.where(row != 0, row, found)
    return found


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
