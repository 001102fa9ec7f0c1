"""Inverses and factors of small matrices that stay finite and cheap to differentiate.

They are loops of our own: batched LAPACK calls inside a scan stood still on XLA:CPU with more than
one thread.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# A TPU multiplies in bfloat16 unless told not to: nothing would be left of a solve.
_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
# A^T A is good enough where damping² is so many rounding errors for each row.
GRAM_ERRORS = 256


def damped_inverse(
    matrix: Float[Array, "*batch m m"],
    *,
    damping: float,
    noise: Float[Array, "*batch"] | float = 0.0,
) -> Float[Array, "*batch m m"]:
    """Returns (A^T A + ε I)^{-1} A^T with ε = damping² tr(A^T A) / m; A^{-1} for damping 0.

    With damping it is finite for every finite A, and as accurate for 1e-30 A as for A. Directions
    in which A is nothing but rounding errors are left out: no digit of their answer would be right.
    The error against A^{-1} is of the order (damping · condition number)². The derivative needs
    products only. 0, as its derivative, for A = 0 and for an A so small that A^{-1} overflows.

    Args:
        matrix: A.
        damping: Relative to the root mean square of the singular values.
        noise: Size of rounding errors in A, where it is a difference of larger matrices.
    """
    if damping == 0:
        return inverse(matrix)
    info, size = jnp.finfo(matrix.dtype), matrix.shape[-1]
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(matrix)), axis=(-2, -1), keepdims=True)
    is_zero = largest <= float(info.tiny) * size**0.5 / damping
    # s (s A)^{-1} is A^{-1} for every s; by a power of two nothing is rounded.
    bounded = jnp.where(is_zero, 1, jnp.minimum(largest, float(info.max) / 4))
    scale = jax.lax.reduce_precision(bounded, exponent_bits=info.nexp, mantissa_bits=0)
    normal = jnp.where(is_zero, _identity(matrix), matrix / scale)
    if damping**2 >= GRAM_ERRORS * size * float(info.eps):
        found = _by_gram(normal, damping)
    else:
        errors = jnp.broadcast_to(jnp.asarray(noise, matrix.dtype), matrix.shape[:-2])
        found, _ = _by_basis(normal, errors[..., None, None] / scale, damping)
    return jnp.where(is_zero, 0, found / scale)


def _by_gram(matrix: Float[Array, "*batch m m"], damping: float) -> Float[Array, "*batch m m"]:
    """Returns the damped inverse by A^T A + ε I, whose condition number is up to m / damping²."""
    gram = _einsum("...ji,...jk->...ik", matrix, matrix)
    size = matrix.shape[-1]
    scale = jnp.trace(gram, axis1=-2, axis2=-1)[..., None, None] / size
    inverted = inverse_spd(gram + damping**2 * scale * _identity(matrix))
    return _einsum("...ij,...kj->...ik", inverted, matrix)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _by_basis(
    matrix: Float[Array, "*batch m m"], noise: Float[Array, "*batch 1 1"], damping: float
) -> tuple[Float[Array, "*batch m m"], Float[Array, "*batch m m"]]:
    """Returns the damped inverse X = A^T M and M = (A A^T + ε I)^{-1}, without squaring A.

    In an orthonormal basis Q of A's columns, largest first, the rows of B = Q^T A differ in size
    but hardly depend on one another. Each is divided by its own size (ε included): what is left of
    B B^T + ε I has a small condition number, so that the smallest rows keep their digits.
    """
    size, eps = matrix.shape[-1], float(jnp.finfo(matrix.dtype).eps)
    squares = jnp.sum(matrix**2, axis=(-2, -1), keepdims=True)
    ridge = damping**2 * squares / size
    basis = _orthonormal(matrix, jnp.maximum(4 * eps * jnp.sqrt(squares), noise))
    rows = _matmul(_transpose(basis), matrix)
    sizes = jnp.sqrt(jnp.sum(rows**2, axis=-1, keepdims=True) + ridge)
    rows, columns = rows / sizes, basis / _transpose(sizes)
    # The last term: definite, whatever rounding did to the rows.
    diagonal = (ridge / sizes**2 + 2 * size * eps) * _identity(matrix)
    right = _matmul(inverse_spd(_matmul(rows, _transpose(rows)) + diagonal), _transpose(columns))
    return _matmul(_transpose(rows), right), _matmul(columns, right)


@_by_basis.defjvp
def _by_basis_jvp(
    damping: float, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    matrix, change = primals[0], tangents[0]
    x, m = _by_basis(*primals, damping)
    ridge = jnp.sum(matrix * change, axis=(-2, -1), keepdims=True)
    ridge = 2 * damping**2 / matrix.shape[-1] * ridge  # the change of ε
    across = _matmul(_transpose(change), m)
    inner = _matmul(matrix, across) + _matmul(change, x) + ridge * m
    return (x, m), (across - _matmul(x, inner), -_matmul(m, inner))


def _orthonormal(
    matrix: Float[Array, "*batch m m"], least: Float[Array, "*batch 1 1"]
) -> Float[Array, "*batch m m"]:
    """Returns an orthonormal basis of the columns as columns, 0 for those that depend on others.

    Gram-Schmidt, twice, of the largest column left; one not longer than `least` counts as 0.
    """
    size = matrix.shape[-1]

    def step(k: Array | int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, basis = carry
        squares = jnp.sum(rest**2, axis=-2, keepdims=True)
        place = jax.lax.broadcasted_iota(jnp.int32, squares.shape, squares.ndim - 1)
        is_chosen = place == jnp.argmax(squares, axis=-1, keepdims=True)
        column = jnp.sum(jnp.where(is_chosen, rest, 0), axis=-1, keepdims=True)
        column = column - _matmul(basis, _matmul(_transpose(basis), column))
        length = jnp.sqrt(jnp.sum(column**2, axis=-2, keepdims=True))
        is_new = length > least
        unit = jnp.where(is_new, column / jnp.where(is_new, length, 1), 0)
        rest = jnp.where(is_chosen, 0, rest - unit * _matmul(_transpose(unit), rest))
        return rest, jax.lax.dynamic_update_slice_in_dim(basis, unit, k, basis.ndim - 1)

    return jax.lax.fori_loop(0, size, step, (matrix, jnp.zeros_like(matrix)))[1]


@jax.custom_jvp
def inverse(matrix: Float[Array, "*batch m m"]) -> Float[Array, "*batch m m"]:
    """Returns the inverse; its derivative reuses it, X' = -X A' X, instead of solving again."""
    return jnp.linalg.inv(matrix)


def _inverse_jvp_of(invert: Any) -> Callable[..., tuple[Array, Array]]:
    def jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        result = invert(primals[0])
        product = partial(_einsum, "...ij,...jk,...kl->...il")
        return result, -product(result, tangents[0], result)

    return jvp


inverse.defjvp(_inverse_jvp_of(inverse))


@jax.custom_jvp
def inverse_spd(matrix: Float[Array, "*batch m m"]) -> Float[Array, "*batch m m"]:
    """Returns the inverse of a symmetric positive definite matrix by Gauss-Jordan sweeps.

    Such a matrix needs no pivoting. A loop of rank-one updates compiles in a fraction of the time
    of the library's factorizations, and runs on a TPU as on a CPU.
    """
    size = matrix.shape[-1]
    place = jnp.arange(size)

    def sweep(k: Array, m: Array) -> Array:
        row = jax.lax.dynamic_index_in_dim(m, k, -2, keepdims=True)
        column = jax.lax.dynamic_index_in_dim(m, k, -1, keepdims=True)
        pivot = jax.lax.dynamic_index_in_dim(row, k, -1, keepdims=True)
        is_row = jnp.broadcast_to((place == k)[:, None], m.shape)
        is_column = jnp.broadcast_to((place == k)[None, :], m.shape)
        inner = m - column * (row / pivot)
        edge = jnp.where(is_row, row / pivot, -column / pivot)
        corner = jnp.broadcast_to(1 / pivot, m.shape)
        return jnp.where(is_row & is_column, corner, jnp.where(is_row | is_column, edge, inner))

    return jax.lax.fori_loop(0, size, sweep, matrix)


inverse_spd.defjvp(_inverse_jvp_of(inverse_spd))


def cholesky(matrix: Float[Array, "m m"], *, slack: float = 0.0) -> Float[Array, "m m"]:
    """Returns the lower factor L of a positive semidefinite matrix L L^T; NaN if it is not one.

    A pivot at most `slack` of its diagonal entry counts as 0: its row follows from those before it.
    The column is then 0, and `solve_lower` answers 0 there, which solves consistent equations.

    A loop of rank-one updates, as `inverse_spd`: the library's factorizations of batches inside a
    loop can stand still on XLA:CPU with more than one thread.
    """
    size = matrix.shape[0]
    if size == 1:
        return _root(matrix, jnp.zeros_like(matrix))
    place = jnp.arange(size)
    least = slack * jnp.diagonal(matrix)

    def eliminate(rest: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        k, least = at
        column = jax.lax.dynamic_index_in_dim(rest, k, 1, keepdims=False)
        root = _root(jax.lax.dynamic_index_in_dim(column, k, 0, keepdims=False), least)
        is_used = (place >= k) & (root != 0)
        column = jnp.where(is_used, column / jnp.where(root == 0, 1, root), 0)
        return rest - column[:, None] * column[None, :], column

    _, columns = jax.lax.scan(eliminate, matrix, (place, least))
    return columns.T


def solve_lower(
    lower: Float[Array, "m m"], b: Float[Array, "m r"], *, transpose: bool = False
) -> Float[Array, "m r"]:
    """Returns L^{-1} b, or L^{-T} b, by substitution; 0 where the diagonal is 0."""
    size = lower.shape[0]
    if size == 1:
        return _ratio(b, lower)
    matrix = lower.T if transpose else lower

    def substitute(rest: Array, k: Array) -> tuple[Array, Array]:
        column = jax.lax.dynamic_index_in_dim(matrix, k, 1, keepdims=True)
        pivot = jax.lax.dynamic_index_in_dim(column, k, 0)
        found = _ratio(jax.lax.dynamic_index_in_dim(rest, k, 0), pivot)
        return rest - column * found, found[0]

    _, rows = jax.lax.scan(substitute, b, jnp.arange(size), reverse=transpose)
    return rows


def check_definite(matrix: Float[Array, "m m"], *, slack: float) -> None:
    """Checks a concrete matrix G Σ G^T + S, whatever the scales of its rows.

    Raises:
        ValueError: If it is not positive definite by more than `slack`, relative to its diagonal.
    """
    numbers = np.asarray(matrix, np.float64)
    scale = np.sqrt(np.maximum(np.diagonal(numbers), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = numbers / np.outer(scale, scale)
    if not (np.isfinite(relative).all() and np.linalg.eigvalsh(relative).min() > slack):
        raise ValueError(
            f"G Σ G^T + S with a diagonal from {np.diagonal(numbers).min():.3g} is singular: exact "
            "constraints must not depend on one another, and need a prior with variance along "
            "every row; drop some, or give the values a covariance"
        )


def check_regular(matrix: Float[Array, "m m"], *, slack: float) -> None:
    """Checks a concrete matrix G D, whatever the scales of its rows and columns.

    Raises:
        ValueError: If its least singular value is not above `slack`, rows and columns divided by
            their lengths.
    """
    numbers = np.asarray(matrix, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        for axis in (1, 0):
            numbers = numbers / np.linalg.norm(numbers, axis=axis, keepdims=True)
    if not (np.isfinite(numbers).all() and np.linalg.svd(numbers)[1].min() > slack):
        raise ValueError(
            "G D is singular: the directions cannot satisfy every constraint alone; choose others, "
            "drop constraints, or set damping above 0"
        )


def _root(pivot: Array, least: Array) -> Array:
    """Returns the square root of a pivot, 0 if rounding may have made it of 0, NaN below that."""
    is_zero = jnp.abs(pivot) <= least
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, pivot)))


def _ratio(b: Array, pivot: Array) -> Array:
    """Returns b / pivot, 0 for a pivot of 0."""
    return jnp.where(pivot == 0, 0, b / jnp.where(pivot == 0, 1, pivot))


def _identity(matrix: Float[Array, "*batch m m"]) -> Float[Array, "*batch m m"]:
    return jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)


def _transpose(matrix: Float[Array, "*batch n m"]) -> Float[Array, "*batch m n"]:
    return jnp.swapaxes(matrix, -2, -1)
