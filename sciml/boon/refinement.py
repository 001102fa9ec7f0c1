"""Kernel refinement of BOON: linear layers whose outputs satisfy boundary conditions.

A layer z = K v + v W is changed to K (v + E δ) + v W with sources δ at the boundary points, chosen
so that the boundary rows become what the condition asks for; then the end values are written. In
matrices that is K' = T_1 K T_2 of the paper: T_2 eliminates the boundary rows, T_1 scales them.
By linearity K (v + E δ) = K v + (K E) δ, a low-rank correction; what W answers to δ stands at the
ends only, is a part of what is solved for, and is overwritten. How both are computed is the
kernel's matter: `sciml.kernels.kernel_of` calls the layer again, `sciml.spectral` and
`sciml.multiwavelet` correct the modes before their only inverse transform.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.boundary import (
    BoundaryCondition,
    FaceData,
    Given,
    apply_functionals,
    check_condition,
    check_face,
    constrained_ends,
    functionals,
    impose,
    impose_all,
)
from sciml.constraints import condition_number
from sciml.kernels import Layer, add_states, finish_layer, kernel_of
from sciml.linear_solve import damped_inverse
from sciml.numbers import Numbers, concrete, floating

PyTree = Any
TARGETS = ("kernel", "value")
SINGULAR = 1e-12  # reciprocal condition number below which a refinement has no meaning


class Refinement(NamedTuple):
    """How the boundary rows are eliminated.

    Attributes:
        target: What the boundary rows give before the end values are written. "kernel", as in the
            paper: v_0 times what elimination leaves of K_00 (both ends: its Schur complement, and
            K_NN). "value": the prescribed value or slope itself. Periodic conditions have no
            elimination: their ends get the mean of both.
        damping: Guards the solve, see `sciml.linear_solve.damped_inverse`; 0: none.
        axes: Grid axes whose rows are eliminated; on others the end values are only written.
    """

    target: Literal["kernel", "value"] = "kernel"
    damping: float = 1e-4
    axes: tuple[int, ...] = (0,)


def refine(
    layer: Layer, v: Float[Array, "*grid batch c"], given: Given, refinement: Refinement
) -> Float[Array, "*grid batch c"]:
    """Returns the output of the refined layer; all conditions hold in every channel.

    Source: Saad et al. (2023), Algorithms 1 to 3 (Dirichlet, Neumann, periodic), in block form for
    all channels.

    Args:
        layer: Any linear layer.
        v: Its input.
        given: One condition for each constrained grid axis, with its values or slopes, the same for
            all channels (c = 1) or for each. Where two meet, in corners, the last wins.
        refinement: What is eliminated, and how.

    Raises:
        ValueError: If conditions, data and grid do not fit together, or numbers that can be looked
            at make a singular boundary block (only without damping).
    """
    for condition, faces in given:
        check_condition(condition, v.shape[:-2])
        check_face(faces, condition, v.shape)
    check_refinement(refinement)
    return impose_all(eliminate(layer, v, given, refinement), given)


def refined(
    apply: Callable[[Array], Array],
    condition: BoundaryCondition,
    *,
    target: Literal["kernel", "value"] = "kernel",
    damping: float = 1e-4,
) -> Callable[[Float[Array, "batch *grid c"] | Numbers, FaceData], Float[Array, "batch *grid c"]]:
    """Returns any affine function of fields [batch, *grid, c] with a boundary condition.

    Source: Saad et al. (2023), Algorithms 1 to 3, by calls of the layer as in the paper.

    The reference form: everything by calling `apply`, on the input, on unit sources, on the changed
    input, and on 0 for what it adds to every field, which sources do not move. The result takes the
    field and the boundary data [batch, *other axes, c].

    Raises:
        ValueError: By the result, if things do not fit together as for `refine`, or (numbers known)
            the function is not affine.
    """

    def moved(v: Array) -> Array:
        return jnp.moveaxis(apply(jnp.moveaxis(v, -2, 0)), 0, -2)

    def call(v: Array | Numbers, data: FaceData) -> Array:
        field = jnp.moveaxis(floating(v), 0, -2)
        faces = FaceData(*(jnp.moveaxis(floating(x), 0, -2) for x in data))
        constant = moved(jnp.zeros_like(field, shape=(*field.shape[:-2], 1, field.shape[-1])))

        def linear(u: Array) -> Array:
            out = moved(u)
            return out - jnp.broadcast_to(constant, out.shape)

        check_condition(condition, field.shape[:-2])
        check_face(faces, condition, field.shape)
        _check_linear(linear, field)
        rows = functionals(condition, field.shape[condition.axis])
        ends = apply_functionals(rows, constant, condition.axis)
        left = FaceData(faces.low - ends[0], faces.high - ends[1])
        layer = Layer(kernel_of(linear, field.shape[:-2], channels=field.shape[-1]))
        how = Refinement(target, damping, (condition.axis,))
        out = refine(layer, field, [(condition, left)], how)
        out = impose(out + jnp.broadcast_to(constant, out.shape), condition, faces)
        return jnp.moveaxis(out, -2, 0)

    return call


def _check_linear(linear: Callable[[Array], Array], field: Float[Array, "*grid batch c"]) -> None:
    """Checks f(-2 v) = -2 f(v) of one sample, if numbers are known; an activation fails that."""
    one = field[..., :1, :]
    if not concrete(one) or one.size == 0:
        return
    wanted, found = -2 * linear(one), linear(-2 * one)
    if not concrete(found):
        return
    largest, missed = float(jnp.abs(wanted).max()), float(jnp.abs(found - wanted).max())
    if missed > 4 * float(jnp.finfo(field.dtype).eps) ** 0.5 * largest:
        raise ValueError(
            f"refined: the function is not affine: f(-2 v) - f(0) misses -2 (f(v) - f(0)) by "
            f"{missed:.3g} of {largest:.3g}; leave activations outside"
        )


def eliminate(
    layer: Layer, v: Float[Array, "*grid batch c"], given: Given, refinement: Refinement
) -> Float[Array, "*grid batch c"]:
    """Returns `refine` before the end values are written.

    Source: Saad et al. (2023), T_2 of K' = T_1 K T_2: Gauss elimination of the boundary rows.
    """
    state = layer.kernel.analyse(v)
    for condition, faces in given:
        if condition.axis in refinement.axes:
            state = _correct(layer, v, state, condition, faces, refinement)
    return finish_layer(layer, layer.kernel.evaluate(state), v)


def conditioning(
    layer: Layer, condition: BoundaryCondition, points: int, refinement: Refinement
) -> Float[Array, ""]:
    """Returns the largest condition number of the matrices that are inverted.

    Those are answers of the layer at the ends to sources there: K_NN and its Schur complement.
    """
    rows, ends = _rows(condition, points, refinement)
    matrix = _matrix(layer, condition, rows, ends, jnp.result_type(float))
    return _worst(_end_blocks(matrix, refinement.damping))


def check_refinement(refinement: Refinement) -> None:
    """Checks a refinement's fields.

    Raises:
        ValueError: Naming the field, the value and what is allowed.
    """
    if refinement.target not in TARGETS:
        raise ValueError(f"target={refinement.target!r}: expected one of {', '.join(TARGETS)}")
    if not 0 <= refinement.damping < 1:
        raise ValueError(f"damping={refinement.damping}: expected 0 <= damping < 1")


def _correct(
    layer: Layer,
    v: Array,
    state: PyTree,
    condition: BoundaryCondition,
    data: FaceData,
    refinement: Refinement,
) -> PyTree:
    """Returns the state with the sources at the ends of one axis that eliminate its rows."""
    is_kernel = refinement.target == "kernel"
    if condition.kind == "periodic":
        return state  # T_2 = 1: both ends get their mean
    kernel, axis = layer.kernel, condition.axis
    rows, ends = _rows(condition, v.shape[axis], refinement)
    blocks = _end_blocks(_matrix(layer, condition, rows, ends, v.dtype), refinement.damping)
    _check_regular(blocks, condition, refinement)
    found = _read(layer, v, state, axis, rows, with_bias=not is_kernel)[:, :, ends]
    if is_kernel:
        inputs = kernel.face(apply_functionals(rows, v, axis), axis)[:, :, ends]
        wanted = _kept(inputs, blocks)
    else:
        wanted = kernel.face(_prescribed(condition, data, v, layer), axis)[:, :, ends]
    solved = _solve(wanted - found, blocks)
    source = jnp.zeros_like(found, shape=(*found.shape[:2], 2, *found.shape[3:]))
    source = source.at[:, :, np.asarray(ends)].set(solved)
    return add_states(state, kernel.impulse(source, axis))


def _rows(
    condition: BoundaryCondition, points: int, refinement: Refinement
) -> tuple[np.ndarray, list[int]]:
    """Returns the functionals that are prescribed and which ends have one."""
    if refinement.target == "kernel":
        condition = condition._replace(kind="dirichlet")
    ends = [i for i, is_end in enumerate(constrained_ends(condition)) if is_end]
    return functionals(condition, points), ends


def _matrix(
    layer: Layer, condition: BoundaryCondition, rows: np.ndarray, ends: list[int], dtype: Any
) -> Float[Array, "blocks e p c f q d"]:
    """Returns functionals (last axes) of the answer to sources (first axes), pointwise part too."""
    matrix = layer.kernel.blocks(condition.axis, rows, dtype)
    chosen = np.asarray(ends)
    matrix = matrix[:, chosen][:, :, :, :, chosen]
    if layer.pointwise is None:
        return matrix
    at_ends = rows[:, [0, -1]].T[np.ix_(ends, ends)]  # weight of functional f at the end of e
    parts = matrix.shape[2]
    local = jnp.einsum(
        "ef,pq,cd->epcfqd",
        jnp.asarray(at_ends, dtype),
        jnp.eye(parts, dtype=dtype),
        layer.pointwise,
    )
    return matrix + jnp.broadcast_to(local, matrix.shape)


def _read(
    layer: Layer, v: Array, state: PyTree, axis: int, rows: np.ndarray, *, with_bias: bool
) -> Float[Array, "blocks batch ends parts c"]:
    """Returns functionals of the layer's output, without having computed that output."""
    found = layer.kernel.read(state, axis, rows)
    local = jnp.zeros((), v.dtype)
    if layer.pointwise is not None:
        local = apply_functionals(rows, v, axis) @ layer.pointwise
    if with_bias and layer.bias is not None:
        shape = (rows.shape[0], *v.shape[:axis], *v.shape[axis + 1 : -1], layer.bias.size)
        weight = jnp.asarray(rows.sum(1), v.dtype).reshape(-1, *(1,) * (len(shape) - 1))
        bias = layer.bias.reshape(*(1,) * (len(shape) - 1), -1)
        local = local + jnp.broadcast_to(weight * bias, shape)
    return found if local.ndim == 0 else found + layer.kernel.face(local, axis)


class _EndBlocks(NamedTuple):
    """What functionals (columns) answer to sources (rows) at one end or two, eliminated in blocks.

    Attributes:
        pivots: [K_00], or [S, K_NN] with the Schur complement S = K_00 - K_0N K_NN^-1 K_N0.
        inverses: Damped inverses of the pivots: what a solve divides by, as in the paper.
        across: [K_0N, K_N0], source first; empty for one end.
    """

    pivots: list[Float[Array, "blocks m m"]]
    inverses: list[Float[Array, "blocks m m"]]
    across: list[Float[Array, "blocks m m"]]


def _end_blocks(matrix: Float[Array, "blocks e p c f q d"], damping: float) -> _EndBlocks:
    blocks, ends, parts, c = matrix.shape[:4]
    square = matrix.reshape(blocks, ends, parts * c, ends, parts * c)
    if ends == 1:
        first = square[:, 0, :, 0]
        return _EndBlocks([first], [damped_inverse(first, damping=damping)], [])
    first, last = square[:, 0, :, 0], square[:, 1, :, 1]
    right, left = square[:, 0, :, 1], square[:, 1, :, 0]
    last_inverse = damped_inverse(last, damping=damping)
    through = right @ last_inverse @ left
    # Where the ends see the same, as of a mean over the domain, the difference is rounding errors.
    sizes = jnp.linalg.norm(jax.lax.stop_gradient(jnp.stack([first, through])), axis=(-2, -1))
    noise = 8 * float(jnp.finfo(matrix.dtype).eps) * jnp.sum(sizes, axis=0)
    schur = first - through
    inverses = [damped_inverse(schur, damping=damping, noise=noise), last_inverse]
    return _EndBlocks([schur, last], inverses, [right, left])


def _kept(inputs: Float[Array, "blocks batch e p c"], blocks: _EndBlocks) -> Array:
    """Returns what elimination leaves of the boundary rows: S v_0 and K_NN v_N, or K_00 v_0.

    Source: Saad et al. (2023), the target of the boundary rows, T_1.
    """
    flat = _flat(inputs)
    kept = [flat[:, :, end] @ pivot for end, pivot in enumerate(blocks.pivots)]
    return jnp.stack(kept, axis=2).reshape(inputs.shape)


def _solve(wanted: Float[Array, "blocks batch e p c"], blocks: _EndBlocks) -> Array:
    """Returns the sources that the functionals answer with `wanted`."""
    flat = _flat(wanted)
    if not blocks.across:
        return (flat[:, :, 0] @ blocks.inverses[0]).reshape(wanted.shape)
    right, left = blocks.across
    first_inverse, last_inverse = blocks.inverses
    low, high = flat[:, :, 0], flat[:, :, 1]
    low = (low - high @ last_inverse @ left) @ first_inverse
    high = (high - low @ right) @ last_inverse
    return jnp.stack([low, high], axis=2).reshape(wanted.shape)


def _flat(face: Float[Array, "blocks batch e p c"]) -> Float[Array, "blocks batch e m"]:
    return face.reshape(*face.shape[:3], face.shape[3] * face.shape[4])


def _prescribed(condition: BoundaryCondition, data: FaceData, v: Array, layer: Layer) -> Array:
    """Returns the face [ends, *others, batch, c] that the functionals shall have."""
    width = v.shape[-1] if layer.pointwise is None else layer.pointwise.shape[-1]
    shape = (*v.shape[: condition.axis], *v.shape[condition.axis + 1 : -1], width)
    return jnp.stack([jnp.broadcast_to(x, shape).astype(v.dtype) for x in data])


def _check_regular(
    blocks: _EndBlocks, condition: BoundaryCondition, refinement: Refinement
) -> None:
    if refinement.damping > 0 or not concrete(*blocks.pivots):
        return
    worst = float(_worst(blocks))
    if not worst < 1 / SINGULAR:
        raise ValueError(
            f"singular refinement: the boundary block of axis {condition.axis} "
            f"({condition.kind}) has condition number {worst:.3g}; set damping above 0, or change "
            "the kernel at the boundary"
        )


def _worst(blocks: _EndBlocks) -> Float[Array, ""]:
    return jnp.max(condition_number(jnp.stack(blocks.pivots)))
