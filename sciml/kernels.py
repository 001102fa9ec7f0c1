"""Linear kernel layers z = K v of fields on a grid, able to say what K does near the boundary.

Fields are [*grid, batch, channel] here, grid axes first: transforms along them are then plain
matrix products. A kernel offers what a boundary correction needs (sciml/boon): its value at a few
points without the whole field, its answer to a source at a boundary point, and both together as
small matrices. `kernel_of` makes all of that from any linear function by calling it;
`sciml.spectral` and `sciml.multiwavelet` know cheaper ways.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.boundary import apply_functionals

PyTree = Any
# Weights that turn the values along one grid axis into numbers: an end value, a one-sided slope.
# Plain NumPy: they are a part of the program, and kernels look at which points they read.
Functionals = Float[np.ndarray, "ends points"]


class LinearKernel(NamedTuple):
    """A linear map K of fields [*grid, batch, c_in] to fields [*grid, batch, c_out].

    A *face* is what a field is at the ends of one grid axis, [ends, *other axes, batch, c]. Its
    coefficients [blocks, batch, ends, parts, c] are in a basis along the other axes in which K has
    no entries between different blocks; in one dimension they are the face itself.

    Attributes:
        analyse: field -> state, the part of K before its last transform.
        evaluate: state -> field; `evaluate(analyse(v))` is K v.
        face: (face of a field, axis) -> its coefficients, truncated to what K can produce.
        read: (state, axis, functionals) -> coefficients of the functionals of K v, in place of the
            end values.
        impulse: (coefficients, axis) -> the change of state by a source at the ends of the axis.
        blocks: (axis, functionals, dtype) -> `read` after `impulse` as matrices.
    """

    analyse: Callable[[Array], PyTree]
    evaluate: Callable[[PyTree], Array]
    face: Callable[[Array, int], Float[Array, "blocks batch ends parts c"]]
    read: Callable[[PyTree, int, np.ndarray], Float[Array, "blocks batch ends parts c"]]
    impulse: Callable[[Array, int], PyTree]
    blocks: Callable[
        [int, np.ndarray, Any],
        Float[Array, "blocks ends_in parts_in c_in ends_out parts_out c_out"],
    ]


def kernel_of(
    apply: Callable[[Array], Array], grid: tuple[int, ...], *, channels: int
) -> LinearKernel:
    """Returns any linear function of fields [*grid, batch, channels] as a LinearKernel.

    Nothing is known of its structure: the face is one block, found by applying the function to a
    unit source at every boundary point and channel. Exact, and meant for one dimension and for
    small grids; it is also the reference that the structured kernels are tested against.

    Args:
        apply: The function; must be linear (no bias) and act on every batch entry alike.
        grid: Points of every grid axis.
        channels: Of inputs and outputs.
    """

    def face(field: Array, axis: int) -> Array:
        ends, others = field.shape[0], math.prod(grid) // grid[axis]
        rows = jnp.moveaxis(field, -2, 0)  # [batch, ends, *other axes, c]
        return rows.reshape(1, rows.shape[0], ends, others, channels)

    def read(state: Array, axis: int, functionals: Functionals) -> Array:
        return face(apply_functionals(functionals, apply(state), axis), axis)

    def impulse(delta: Array, axis: int) -> Array:
        others = grid[:axis] + grid[axis + 1 :]
        rows = delta[0].reshape(delta.shape[1], 2, *others, channels)
        ends = jnp.moveaxis(rows, 0, -2)  # [ends, *other axes, batch, c]
        source = jnp.zeros((grid[axis], *ends.shape[1:]), delta.dtype)
        return jnp.moveaxis(source.at[0].set(ends[0]).at[-1].add(ends[1]), 0, axis)

    def blocks(axis: int, functionals: Functionals, dtype: Any) -> Array:
        others = math.prod(grid) // grid[axis]
        size = 2 * others * channels
        units = jnp.eye(size, dtype=dtype).reshape(1, size, 2, others, channels)
        out = read(impulse(units, axis), axis, functionals)[0]
        return out.reshape(1, 2, others, channels, *out.shape[1:])

    return LinearKernel(lambda v: v, apply, face, read, impulse, blocks)


def add_states(a: PyTree, b: PyTree) -> PyTree:
    """Returns the state of the sum of two inputs."""
    return jax.tree.map(jnp.add, a, b)


class Layer(NamedTuple):
    """A kernel with a pointwise linear map beside it: v -> K v + v W + b."""

    kernel: LinearKernel
    pointwise: Float[Array, "c_in c_out"] | None = None
    bias: Float[Array, " c_out"] | None = None


def local_part(layer: Layer, v: Float[Array, "*any c_in"]) -> Float[Array, "*any c_out"] | None:
    """Returns v W, or None if the layer has no pointwise map."""
    return None if layer.pointwise is None else v @ layer.pointwise


def finish_layer(
    layer: Layer, nonlocal_part: Float[Array, "*any c_out"], v: Float[Array, "*any c_in"]
) -> Float[Array, "*any c_out"]:
    """Returns K v + v W + b, given K v."""
    local = local_part(layer, v)
    z = nonlocal_part if local is None else nonlocal_part + local
    return z if layer.bias is None else z + jnp.broadcast_to(layer.bias, z.shape)


def apply_layer(
    layer: Layer, v: Float[Array, "*grid batch c_in"]
) -> Float[Array, "*grid batch c_out"]:
    """Returns K v + v W + b."""
    return finish_layer(layer, layer.kernel.evaluate(layer.kernel.analyse(v)), v)
