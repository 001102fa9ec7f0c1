"""The Lanczos process: an orthonormal basis in which a symmetric operator is tridiagonal.

A Q^T = Q^T T + beta_m q_{m+1} e_m^T, rows of Q being the basis. Every new vector is made orthogonal
to the whole basis twice, as matrix products: once is not enough in floating point, and a loop over
vectors is slow. The tridiagonal matrix is float64 on the host.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from landscape.vectors import HIGHEST

ROUNDING = 4  # a beta below so many eps ||T|| is rounding
ROWS = 32  # the basis grows by so many rows at a time: a program for each capacity
Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]


class Decomposition(NamedTuple):
    """What m steps have found.

    Attributes:
        alphas: Diagonal of T, [m], float64.
        betas: Beside the diagonal, and beta_m at the end, [m]; 0 where the process began anew.
        basis: Rows q_1 ... q_m, and rows of 0.
        num_products: How many products with the operator it took.
    """

    alphas: np.ndarray
    betas: np.ndarray
    basis: Float[Array, "rows n"]
    num_products: int


class Ritz(NamedTuple):
    """Eigenvalues of T in rising order, what they say about the operator, and how surely.

    Attributes:
        values: Ritz values.
        vectors: Eigenvectors of T, its columns.
        residuals: |beta_m s_mi|: the operator has an eigenvalue that near.
        errors: Estimated errors, min(r, r^2 / gap), of values whose neighbours are `gap` away.
        weights: Squared first components: the share of the starting vector.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray
    errors: np.ndarray
    weights: np.ndarray


def decompose(
    product: Product,
    start: Float[Array, " n"],
    num_steps: int,
    *,
    is_done: Callable[[np.ndarray, np.ndarray], bool] | None = None,
    again: Callable[[int], Float[Array, " n"]] | None = None,
) -> Decomposition:
    """Returns the decomposition after `num_steps` steps, or fewer.

    It ends before if `is_done(alphas, betas)`, or where beta falls below eps ||T||: what the
    starting vector reaches is exhausted.

    Args:
        product: The operator, called from Python once a step.
        start: The first vector, of any length.
        num_steps: At most as many as there are dimensions.
        is_done: Asked after every step but those that exhaust it.
        again: A fresh vector for the i-th time that the process is exhausted; it then goes on
            with what that adds, and finds eigenvalues that are there several times.

    Raises:
        ValueError: If there are more steps than dimensions, `start` is 0, or a product not finite.
    """
    check_steps(num_steps, start.size)
    q, length = _unit(start)
    if not 0 < float(length) < math.inf:
        raise ValueError(f"start has length {float(length)}: expected a finite vector other than 0")
    basis = jnp.zeros((0, start.size), start.dtype)
    alphas, betas, restarts = [], [], 0
    tiny = ROUNDING * float(jnp.finfo(start.dtype).eps)
    for i in range(num_steps):
        if i == len(basis):
            basis = jnp.pad(basis, ((0, min(ROWS, num_steps - i)), (0, 0)))
        basis, q, alpha, beta = _extend(basis, q, product(q), i)
        alphas.append(float(alpha))
        betas.append(float(beta))
        if not math.isfinite(alphas[-1]) or not math.isfinite(betas[-1]):
            raise ValueError(
                f"the product of Lanczos step {i + 1} is not finite: the loss, or its curvature, "
                "is not at these parameters"
            )
        if i + 1 == start.size:
            betas[-1] = 0.0  # nothing is orthogonal to all
        is_exhausted = betas[-1] <= tiny * _size(alphas, betas)
        if is_exhausted and again is not None and i + 1 < num_steps:
            betas[-1], restarts = 0.0, restarts + 1
            q, _ = _unit(_orthogonal(basis, again(restarts)))
        elif is_exhausted or (is_done is not None and is_done(np.array(alphas), np.array(betas))):
            break
    return Decomposition(np.asarray(alphas), np.asarray(betas), basis, len(alphas))


def tridiagonal(
    product: Product, start: Float[Array, " n"], num_steps: int
) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, "m n"]]:
    """Returns (alphas, betas, basis) after `num_steps` steps in one program.

    Pure: for `jit`, `vmap` over points, and `shard_map`; all in the type of `start`. Once
    exhausted, what follows is 0. The product is traced into a loop, where XLA:CPU computes
    gradients of convolutions slowly, unless they are written for it.

    Raises:
        ValueError: If there are more steps than dimensions.
    """
    check_steps(num_steps, start.size)
    eps = ROUNDING * float(jnp.finfo(start.dtype).eps)

    def step(i: Array, carry: tuple) -> tuple:
        basis, q, alphas, betas = carry
        basis, after, alpha, beta = _extended(basis, q, product(q), i)
        size = jnp.max(jnp.abs(alphas)) + jnp.max(jnp.abs(betas)) + jnp.abs(alpha)
        beta = jnp.where((beta > eps * size) & (i + 1 < start.size), beta, 0)
        return basis, jnp.where(beta > 0, after, 0), alphas.at[i].set(alpha), betas.at[i].set(beta)

    zeros = jnp.zeros((num_steps,), start.dtype)
    basis = jnp.zeros((num_steps, start.size), start.dtype)
    first = (basis, _unit(start)[0], zeros, zeros)
    basis, _, alphas, betas = jax.lax.fori_loop(0, num_steps, step, first)
    return alphas, betas, basis


def ritz(alphas: np.ndarray, betas: np.ndarray) -> Ritz:
    """Returns the eigenvalues of T with their residual bounds.

    Source: Paige (1971), Parlett (1980): ||A y - theta y|| = |beta_m s_mi|, s_mi being the
    last entry of an eigenvector of T.
    """
    matrix = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    values, vectors = np.linalg.eigh(matrix)
    residuals = np.abs(betas[-1] * vectors[-1])
    padded = np.concatenate([[-np.inf], values, [np.inf]])
    gaps = np.minimum(values - padded[:-2], padded[2:] - values)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.where(residuals > 0, residuals**2 / np.maximum(gaps - residuals, 0), 0)
    return Ritz(values, vectors, residuals, np.fmin(residuals, squared), vectors[0] ** 2)


def ritz_vectors(found: Decomposition, vectors: np.ndarray) -> Float[Array, "k n"]:
    """Returns unit vectors sum_i s_ij q_i for columns s of `vectors`, as rows."""
    columns = np.zeros((vectors.shape[1], len(found.basis)))
    columns[:, : len(vectors)] = vectors.T
    return _combined(jnp.asarray(columns, found.basis.dtype), found.basis)


def check_steps(num_steps: int, size: int) -> None:
    """Checks that a Krylov space of that many dimensions fits.

    Raises:
        ValueError: If it does not.
    """
    if not 1 <= num_steps <= size:
        raise ValueError(f"{num_steps} Lanczos steps for {size} dimensions: expected 1 to {size}")


def _extended(basis: Array, q: Array, product: Array, i: Array) -> tuple:
    """Adds q as row i, and returns the next vector, not yet in the basis, with alpha and beta."""
    alpha = jnp.vdot(q, product, precision=HIGHEST)
    basis = jax.lax.dynamic_update_index_in_dim(basis, q, i, 0)
    rest = _orthogonal(basis, product)
    after, beta = _unit(rest)
    return basis, after, alpha, beta


def _orthogonal(basis: Array, w: Array) -> Array:
    """Returns w without its part in the space of the rows, which are orthonormal or 0."""
    for _ in range(2):
        inner = jnp.einsum("in,n->i", basis, w, precision=HIGHEST)
        w = w - jnp.einsum("in,i->n", basis, inner, precision=HIGHEST)
    return w


@jax.jit
def _unit(vector: Array) -> tuple[Array, Array]:
    """Returns a vector with length 1, and the length it had; 0 stays 0."""
    length = jnp.linalg.norm(vector)
    return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1), 0), length


def _size(alphas: list[float], betas: list[float]) -> float:
    """Returns a bound of ||T||."""
    return max(map(abs, alphas)) + 2 * max(betas)


_extend = partial(jax.jit, donate_argnums=0)(_extended)


@jax.jit
def _combined(columns: Array, basis: Array) -> Array:
    rows = jnp.einsum("ki,in->kn", columns, basis, precision=HIGHEST)
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
