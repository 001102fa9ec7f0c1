"""Inverses of small matrices that stay finite and cheap to differentiate."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def damped_inverse(
    matrix: Float[Array, "*batch m m"], *, damping: float
) -> Float[Array, "*batch m m"]:
    """Returns (A^T A + ε I)^{-1} A^T with ε = damping² tr(A^T A) / m; A^{-1} for damping 0.

    Finite for every A if damping > 0, also for A = 0 (the result is then 0); the error against
    A^{-1} is of the order (damping · condition number)². Differentiable: the derivative needs
    products only.
    """
    if damping == 0:
        return inverse(matrix)
    gram = jnp.einsum("...ji,...jk->...ik", matrix, matrix)
    size = matrix.shape[-1]
    scale = jnp.trace(gram, axis1=-2, axis2=-1)[..., None, None] / size
    floor = jnp.finfo(matrix.dtype).tiny ** 0.5
    identity = jnp.broadcast_to(jnp.eye(size, dtype=matrix.dtype), gram.shape)
    ridge = (damping**2 * scale + floor) * identity
    return jnp.einsum("...ij,...kj->...ik", inverse_spd(gram + ridge), matrix)


@jax.custom_jvp
def inverse(matrix: Float[Array, "*batch m m"]) -> Float[Array, "*batch m m"]:
    """Returns the inverse; its derivative reuses it, X' = -X A' X, instead of solving again."""
    return jnp.linalg.inv(matrix)


def _inverse_jvp_of(invert: Any) -> Callable[..., tuple[Array, Array]]:
    def jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        result = invert(primals[0])
        product = partial(jnp.einsum, "...ij,...jk,...kl->...il")
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


def cholesky(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """Returns the lower factor L of a symmetric positive definite matrix L L^T; NaN if it is not.

    A loop of rank-one updates, as `inverse_spd`: the library's factorizations of batches inside a
    loop can stand still on XLA:CPU with more than one thread.
    """
    size = matrix.shape[0]
    if size == 1:
        return jnp.sqrt(matrix)
    place = jnp.arange(size)

    def eliminate(rest: Array, k: Array) -> tuple[Array, Array]:
        column = jax.lax.dynamic_index_in_dim(rest, k, 1, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(column, k, 0, keepdims=False)
        column = jnp.where(place >= k, column / jnp.sqrt(pivot), 0)
        return rest - column[:, None] * column[None, :], column

    _, columns = jax.lax.scan(eliminate, matrix, place)
    return columns.T


def solve_lower(
    lower: Float[Array, "m m"], b: Float[Array, "m r"], *, transpose: bool = False
) -> Float[Array, "m r"]:
    """Returns L^{-1} b, or L^{-T} b, by substitution."""
    size = lower.shape[0]
    if size == 1:
        return b / lower
    matrix = lower.T if transpose else lower

    def substitute(rest: Array, k: Array) -> tuple[Array, Array]:
        column = jax.lax.dynamic_index_in_dim(matrix, k, 1, keepdims=True)
        pivot = jax.lax.dynamic_index_in_dim(column, k, 0)
        found = jax.lax.dynamic_index_in_dim(rest, k, 0) / pivot
        return rest - column * found, found[0]

    _, rows = jax.lax.scan(substitute, b, jnp.arange(size), reverse=transpose)
    return rows


def check_definite(matrix: Float[Array, "m m"]) -> None:
    """Checks a concrete matrix G Σ G^T + S, whatever the scales of its rows.

    Raises:
        ValueError: If it is not positive definite to the digits it has.
    """
    numbers = np.asarray(matrix)
    scale = np.sqrt(np.maximum(np.diagonal(numbers), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = numbers / np.outer(scale, scale)
    slack = scale.size * float(jnp.finfo(matrix.dtype).eps)
    if not (np.isfinite(relative).all() and np.linalg.eigvalsh(relative).min() > slack):
        raise ValueError(
            f"G Σ G^T + S with a diagonal from {np.diagonal(numbers).min():.3g} is singular: exact "
            "constraints need a prior with variance along every row; give the values a covariance"
        )
