"""The refinement as the released 1-D code computes it, for audits of what its numbers rest on.

It divides by scalars: a unit source in all channels at once, read off channel 0. With more than one
channel that is no elimination; that the condition holds comes from the end values, which are
written into each branch of a layer, kernel and pointwise map (so a Dirichlet layer ends in twice
the value). The activation then acts on the end values too. The rows of the tables use
`sciml.boon.refinement`; this is a row of its own.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml.boundary import BoundaryCondition, FaceData, apply_functionals, functionals, impose
from sciml.kernels import Layer, LinearKernel, add_states, finish_layer

Correct = Callable[[LinearKernel, Array, BoundaryCondition], Array]
TOLERANCE = 1e-7  # released code: smaller scalars are replaced by it


def scalar_elimination(
    kernel: LinearKernel, v: Float[Array, "points batch c"], condition: BoundaryCondition
) -> Float[Array, "points batch c"]:
    """Returns the kernel's output for sources at the ends; of slopes at the last point only."""
    return kernel.evaluate(_sourced(kernel, v, condition))


def no_elimination(
    kernel: LinearKernel, v: Float[Array, "points batch c"], condition: BoundaryCondition
) -> Float[Array, "points batch c"]:
    """Returns the kernel's output: end values are written into it, and that is all."""
    del condition
    return kernel.evaluate(kernel.analyse(v))


def released_layer(
    layer: Layer,
    v: Float[Array, "points batch c"],
    condition: BoundaryCondition,
    faces: FaceData,
    activation: Callable[[Array], Array],
    *,
    correct: Correct = scalar_elimination,
) -> Float[Array, "points batch c"]:
    """Returns the activated output of a layer whose two branches are corrected one by one.

    Source: Saad et al. (2023), released code: corrections.py, single_step/BOON_1d.py. The released
    left end of a slope has a difference of two points; here both ends have the condition's.

    Args:
        layer: A layer on a grid of one axis.
        v: Its input.
        condition: Of the axis.
        faces: Values or slopes at its ends.
        activation: Acts on all points, ends included.
        correct: What becomes of the kernel before its end values are written.
    """
    spread = correct(layer.kernel, v, condition)
    # Its pointwise branch is eliminated too, which changes nothing: what a source does there stays
    # at the end, where it is overwritten.
    local = finish_layer(layer, jnp.zeros_like(spread), v)
    out = impose(spread, condition, faces) + impose(local, condition, faces)
    return activation(out / 2 if condition.kind == "neumann" else out)


def _sourced(kernel: LinearKernel, v: Array, condition: BoundaryCondition) -> Array:
    state = kernel.analyse(v)
    if condition.kind == "periodic":
        return state
    rows = functionals(BoundaryCondition("dirichlet"), v.shape[0])
    answers = kernel.blocks(0, rows, v.dtype)[0, :, 0, :, :, 0]  # [end in, c_in, end out, c_out]
    scalars = answers[..., 0].sum(1)
    first, last = scalars[0, 0], _away_from_zero(scalars[1, 1])
    to_last, to_first = scalars[0, 1], scalars[1, 0]
    low, high = apply_functionals(rows, v, 0)
    found = kernel.read(state, 0, rows)[0, :, :, 0]
    at_low, at_high = found[:, 0], found[:, 1]
    first_source = jnp.zeros_like(low)
    if condition.kind == "dirichlet":
        schur = _away_from_zero(_away_from_zero(first) - to_last * to_first / last)
        first_source = low - (at_low - at_high * to_first / last + to_first * high) / schur
    last_source = high - (at_high + first_source @ answers[0, :, 1]) / last
    source = jnp.stack([first_source, last_source], axis=1)[None, :, :, None]
    return add_states(state, kernel.impulse(source, 0))


def _away_from_zero(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(jnp.abs(x) < TOLERANCE, TOLERANCE, x)
