"""Edits of an image that are exact maps of the weights of its SIREN: no training, no rendering.

Weights as in `nfn.siren`: f(x) = W_L sin(omega (... W_1 x + b_1 ...)) + b_L with kernels [in, out]
and x = (row, column) in [-1, 1]^2. All maps are linear in the weights (`rescale`: affine) and
commute with permutations of hidden neurons.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from nfn.siren import SirenParams


def translate(params: SirenParams, offset: Float[Array, " d"]) -> SirenParams:
    """Returns the SIREN of the image moved by `offset`: f'(x) = f(x - offset).

    The bias becomes b_1 - W_1 offset. A pixel of n in a row is 2 / (n - 1) wide.
    """
    first = params["dense_0"]
    bias = first["bias"] - jnp.tensordot(offset, first["kernel"], axes=([0], [-2]))
    return {**params, "dense_0": {**first, "bias": bias}}


def rotation_matrix(angle: float) -> Float[Array, "2 2"]:
    """Returns R with R (1, 0) = (cos, sin) of the angle in radians."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])


def rotate(params: SirenParams, angle: float) -> SirenParams:
    """Returns the SIREN of the image turned about its center: f'(x) = f(R^-1 x).

    The kernel becomes W_1 R^-1. `angle` is in radians; the row axis turns towards the column axis,
    which is counterclockwise on a screen with rows from top to bottom.
    """
    first = params["dense_0"]
    kernel = jnp.einsum("de,...eo->...do", rotation_matrix(angle), first["kernel"])
    return {**params, "dense_0": {**first, "kernel": kernel}}


def rescale(params: SirenParams, *, gain: float, offset: float = 0.0) -> SirenParams:
    """Returns the SIREN of the image with values gain f(x) + offset in the [-1, 1] scale."""
    name = f"dense_{len(params) - 1}"
    last = params[name]
    edited = {"kernel": gain * last["kernel"], "bias": gain * last["bias"] + offset}
    return {**params, name: edited}


def stretch(params: SirenParams, factors: Float[Array, " d"]) -> SirenParams:
    """Returns the SIREN of the image on scaled axes: f'(x) = f(factors x); (1, -1) mirrors columns.

    The rows of W_1 are multiplied by the factors.
    """
    first = params["dense_0"]
    kernel = factors[:, None] * first["kernel"]
    return {**params, "dense_0": {**first, "kernel": kernel}}
