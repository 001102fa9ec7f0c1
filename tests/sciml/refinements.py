"""Cases of the refinement, and the paper's matrices written out, for tests in float64."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sciml.boon.refinement import Refinement, eliminate, refine
from sciml.boundary import BoundaryCondition, FaceData, impose, violation
from sciml.initialization import draw
from sciml.kernels import Layer, kernel_of
from sciml.multiwavelet import init_multiwavelet, multiwavelet_kernel
from sciml.spectral import init_spectral, spectral_kernel

C, BATCH = 2, 2
# Base, grid (time first), modes; then of every refinement axis, kind, target and ends.
# One for what can fail alone: conditions, both targets, one end, the axis of the half spectrum
# and another. Each case is a program: more axes and the other base are slow.
QUICK: tuple[Any, ...] = (
    ("fno", (16,), (5,), ["0 dirichlet kernel both", "0 neumann value high"]),
    ("fno", (16,), (5,), ["0 periodic kernel both"]),
    ("fno", (8, 11), (3, 3), ["0 dirichlet value both"]),
)
SLOW: tuple[Any, ...] = (
    ("fno", (5, 9, 8), (2, 2, 2), ["2 neumann kernel both"]),
    ("mwt", (6, 8), (2, 2), ["1 neumann value both"]),
    ("fno", (16,), (5,), ["0 dirichlet value both", "0 neumann kernel both"]),
    ("fno", (16,), (5,), ["0 neumann value both", "0 dirichlet kernel low"]),
    ("fno", (8, 11), (3, 3), ["1 neumann kernel both"]),
    ("fno", (5, 9, 8), (2, 2, 2), ["1 dirichlet kernel both", "2 neumann value both"]),
    ("mwt", (16,), (4,), ["0 dirichlet kernel both", "0 neumann value both"]),
    ("mwt", (6, 8), (2, 2), ["1 dirichlet value both"]),
)


def layer_of(base: str, grid: tuple[int, ...], modes: tuple[int, ...]) -> tuple[Layer, Layer]:
    """Returns a structured layer, and the same one of which only its products are known."""
    if base == "mwt":
        params = draw(jax.random.key(0), partial(init_multiwavelet, modes=modes, width=C, order=2))
        kernel = multiwavelet_kernel(params, grid, order=2)
    else:
        params = draw(jax.random.key(0), partial(init_spectral, modes=modes, c_in=C, c_out=C))
        kernel = spectral_kernel(params, grid)

    pointwise, bias = jnp.asarray([[0.9, 0.3], [-0.2, 1.1]]), jnp.asarray([0.1, -0.3])

    def apply(v: jax.Array) -> jax.Array:
        return kernel.evaluate(kernel.analyse(v)) + v @ pointwise

    products = Layer(kernel_of(apply, grid, channels=C), None, bias)
    return Layer(kernel, pointwise, bias), products


def cases(chosen: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    for base, grid, modes, refined in chosen:
        for case in refined:
            number, kind, target, ends = case.split()
            axis = int(number)
            condition = BoundaryCondition(kind, axis, ends, order=2)
            how = Refinement(target, 0.0, (axis,))
            name = f"{base} {len(grid)}-D axis {axis} {kind} {target} {ends}"
            found = evaluate(base, grid, modes, condition, how)
            yield {"case": name} | {key: float(value) for key, value in found.items()}


@partial(jax.jit, static_argnums=range(5))
def evaluate(
    base: str,
    grid: tuple[int, ...],
    modes: tuple[int, ...],
    condition: BoundaryCondition,
    how: Refinement,
) -> dict[str, jax.Array]:
    """Returns how the refined layers differ, and what they miss before and after ends are written.

    What is refined of the second layer is taken apart, so that it is made once.
    """
    structured, products = layer_of(base, grid, modes)
    v = jax.random.normal(jax.random.key(1), (*grid, BATCH, C))
    shape = (2, *grid[: condition.axis], *grid[condition.axis + 1 :], BATCH, 1)
    data = FaceData(*jax.random.normal(jax.random.key(2), shape))

    ours, bare = (
        function(layer, v, [(condition, data)], how)
        for function, layer in ((refine, structured), (eliminate, products))
    )
    reference = impose(bare, condition, data)
    return {
        "difference": jnp.abs(ours - reference).max() / jnp.abs(ours).max(),
        "violation": violation(ours, condition, data).max(),
        "unwritten": violation(bare, condition, data).max(),
        "changes": jnp.abs(ours - v).max(),
    }


def dense() -> dict[str, float]:
    """Compares with T_1 K T_2 written out as matrices, for a random dense kernel."""
    points = 9
    matrix = np.random.default_rng(0).normal(size=(points, C, points, C))  # out, in
    flat = matrix.reshape(points * C, points * C)
    v = np.random.default_rng(1).normal(size=(points, BATCH, C))
    low, high = np.s_[:C], np.s_[-C:]
    schur = flat[low, low] - flat[low, high] @ np.linalg.inv(flat[high, high]) @ flat[high, low]
    edge = np.r_[0:C, (points - 1) * C : points * C]
    inner = np.r_[C : (points - 1) * C]
    kept = np.zeros((2 * C, 2 * C))
    kept[:C, :C], kept[C:, C:] = schur, flat[high, high]
    t_2 = np.eye(points * C)
    t_2[np.ix_(edge, edge)] = np.linalg.solve(flat[np.ix_(edge, edge)], kept)
    t_2[np.ix_(edge, inner)] = -np.linalg.solve(flat[np.ix_(edge, edge)], flat[np.ix_(edge, inner)])
    rows = (flat @ t_2)[edge]
    rows[:, edge] -= kept
    wanted = np.einsum("oi,bi->bo", flat @ t_2, v.transpose(1, 0, 2).reshape(BATCH, -1))

    def apply(u: jax.Array) -> jax.Array:
        return jnp.einsum("xcyd,ybd->xbc", matrix, u)

    layer = Layer(kernel_of(apply, (points,), channels=C))
    condition = BoundaryCondition("dirichlet")
    data = FaceData(jnp.zeros((BATCH, 1)), jnp.zeros((BATCH, 1)))
    how = Refinement("kernel", 0.0)
    out = jax.jit(lambda v: eliminate(layer, v, [(condition, data)], how))(jnp.asarray(v))
    ours = np.asarray(out).transpose(1, 0, 2).reshape(BATCH, -1)
    return {
        "rows_left": float(np.abs(rows).max()),
        "difference": float(np.abs(ours - wanted).max() / np.abs(wanted).max()),
    }
