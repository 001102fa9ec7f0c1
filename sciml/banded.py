"""Symmetric positive definite matrices with two bands beside the diagonal: O(n) factor and solves.

Bands are [3, n]: [0, i] is A[i, i], [1, i] is A[i, i + 1], [2, i] is A[i, i + 2]; the entries
outside the matrix, [1, n - 1] and [2, n - 2:], may hold anything.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def cholesky_bands(bands: Float[Array, "3 n"]) -> Float[Array, "3 n"]:
    """Returns the bands of L^T with A = L L^T: L[i, i], L[i + 1, i], L[i + 2, i]; 0 outside.

    NaN where A is not positive definite.
    """
    bands = bands.at[1, -1:].set(0).at[2, -2:].set(0)
    zero = jnp.zeros((), bands.dtype)

    def column(carry: tuple[Array, Array, Array], entry: Array) -> tuple[tuple, Array]:
        first, second, older = carry  # L[i, i-1], L[i+1, i-1], L[i, i-2]
        pivot = jnp.sqrt(entry[0] - first**2 - older**2)
        below = (entry[1] - second * first) / pivot
        last = entry[2] / pivot
        return (below, last, second), jnp.stack([pivot, below, last])

    return jax.lax.scan(column, (zero, zero, zero), bands.T)[1].T


def solve_lower(factor: Float[Array, "3 n"], x: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Returns L^{-1} x for the factor of `cholesky_bands`."""

    def row(carry: tuple[Array, Array], entry: tuple[Array, Array]) -> tuple[tuple, Array]:
        now, later = carry  # what earlier unknowns contribute to this row and to the next
        (pivot, below, last), right = entry
        y = (right - now) / pivot
        return (later + below * y, last * y), y

    zero = jnp.zeros_like(x[0])
    return jax.lax.scan(row, (zero, zero), (factor.T, x))[1]


def solve_upper(factor: Float[Array, "3 n"], x: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Returns L^{-T} x for the factor of `cholesky_bands`."""

    def row(carry: tuple[Array, Array], entry: tuple[Array, Array]) -> tuple[tuple, Array]:
        (pivot, below, last), right = entry
        z = (right - below * carry[0] - last * carry[1]) / pivot
        return (z, carry[0]), z

    zero = jnp.zeros_like(x[0])
    return jax.lax.scan(row, (zero, zero), (factor.T, x), reverse=True)[1]


def inverse_diagonal(factor: Float[Array, "3 n"]) -> Float[Array, " n"]:
    """Returns the diagonal of A^{-1} from the factor of `cholesky_bands`.

    Source: Takahashi's recurrence. Z = A^{-1} satisfies Z L = L^{-T}, whose lower triangle is 0:
    from the last column backwards, the entries of Z within the bands follow from each other.
    """
    zero = jnp.zeros((), factor.dtype)

    def column(carry: tuple[Array, Array, Array], entry: Array) -> tuple[tuple, Array]:
        next_next, next_after, after_after = carry  # Z[i+1, i+1], Z[i+1, i+2], Z[i+2, i+2]
        pivot, below, last = entry
        here_next = -(next_next * below + next_after * last) / pivot
        here_after = -(next_after * below + after_after * last) / pivot
        here = (1 / pivot - here_next * below - here_after * last) / pivot
        return (here, here_next, next_next), here

    return jax.lax.scan(column, (zero, zero, zero), factor.T, reverse=True)[1]
