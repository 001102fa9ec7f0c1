"""The rank of a large feature matrix from a random sketch: two bounds and an estimate between.

The l columns of an orthonormal Q span most of F: a randomized range finder with power iterations.
Let s be the singular values of Q^T F, S_k = sum_{i<=k} s_i^2, T = ||F||_F^2 and E = T - S_l what
the sketch misses. The largest k directions of F hold C_k = sum_{i<=k} sigma_i^2, and

    S_k <= C_k <= S_k + E

as singular values interlace: s_i <= sigma_i. C is concave, with C_m = T at m = min(n, d), so it is
also above every straight line from (j, S_j) to (m, T). rank_q is the smallest k with C_k > q T:
bounds of C are bounds of the rank, whatever the random numbers were.

They are narrow where E is well below (1 - q) T, which takes a sketch several times as wide as the
rank. A flat spectrum has a rank of thousands and no narrow sketch. There the largest directions are
deflated and the density of the others is estimated by stochastic Lanczos quadrature: an estimate of
the rank with a standard error, and by the second moment a lower bound that holds up to chance.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from common.precision import widened
from landscape import lanczos
from landscape.rank import AnyArray, check_features, rank_of
from landscape.vectors import HIGHEST

ROUNDING = 16  # sums of float32 are known to so many eps of the energy
SURELY = 4  # standard errors


class SketchedRank(NamedTuple):
    """What a sketch says about rank_q of an [n, d] matrix.

    Attributes:
        estimate: Of the rank; between the bounds.
        stderr: Of the estimate, over probes; 0 where the sketch alone determines it.
        lower: The rank is at least this.
        upper: The rank is at most this.
        missed: E / T, the share of the energy outside the sketch: the error of every sum S_k.
        n: Examples.
        d: Features.
        q: Share of the energy.
        center: How features were centered.
    """

    estimate: float
    stderr: float
    lower: int
    upper: int
    missed: float
    n: int
    d: int
    q: float
    center: str


class _Centered(NamedTuple):
    """The matrix x - left right^T, which is never formed; transposed if it has more rows."""

    x: Array
    left: Array
    right: Array

    def is_tall(self) -> bool:
        return self.x.shape[0] > self.x.shape[1]

    def forward(self, v: Array) -> Array:
        """Returns the product [m, k] with [long, k]."""
        return self._times(v) if not self.is_tall() else self._transposed_times(v)

    def backward(self, v: Array) -> Array:
        """Returns the product [long, k] of the transpose with [m, k]."""
        return self._transposed_times(v) if not self.is_tall() else self._times(v)

    def _times(self, v: Array) -> Array:
        return _product("nd,dk->nk", self.x, v) - jnp.outer(self.left, self.right @ v)

    def _transposed_times(self, v: Array) -> Array:
        return _product("nd,nk->dk", self.x, v) - jnp.outer(self.right, self.left @ v)


_product = partial(jnp.einsum, precision=HIGHEST)


def sketched_rank(
    features: Float[AnyArray, "n d"],
    *,
    key: PRNGKeyArray,
    q: float = 0.99,
    center: str = "features",
    size: int = 512,
    power: int = 1,
    num_probes: int = 8,
    num_steps: int = 30,
) -> SketchedRank:
    """Returns bounds of rank_q, and an estimate, from products with few vectors.

    Source: Halko, Martinsson & Tropp (2011) for the range finder; Ghorbani et al. (2019) for the
    quadrature.

    The estimate takes the larger half of the sketch as it is, and spreads the rest of the energy by
    quadrature; directions that the sketch has not quite found make it too high, if anything.
    Bounds hold for every key, up to rounding of float32, which they allow for. Two things hold up
    to chance alone: the standard error, which also says nothing of what is between two nodes of the
    quadrature; and of bounds below, the one by the second moment, at 4 standard errors. It counts
    only where the sketch misses more than 1 - q.

    Args:
        features: On the device, or to be moved there.
        key: Of the sketch and of the probes.
        q: Share of the energy.
        center: "features", "samples" or "none".
        size: Width l of the sketch. Bounds are narrow where `missed` is far below 1 - q.
        power: Power iterations; each is two more products and a sketch nearer to the best one.
        num_probes: Of the quadrature, at least 2; none are drawn where bounds meet.
        num_steps: Of Lanczos, for each probe.

    Raises:
        ValueError: If features are not finite or of fewer than two examples, or a choice unknown.
    """
    n, d = check_features(features, q=q, centers=[center])
    m = min(n, d)
    _check_numbers(m, size=size, power=power, num_probes=num_probes, num_steps=num_steps)
    matrix, total = _prepared(jnp.asarray(features), center)
    if not total > 0:
        return SketchedRank(1.0, 0.0, 1, 1, 0.0, n, d, q, center)
    sketch_key, probe_key = jax.random.split(key)
    gram, basis = _sketch(matrix, sketch_key, size=min(size, m), power=power)
    values, vectors = np.linalg.eigh(np.asarray(gram, float))
    energies = np.maximum(values[::-1], 0)
    slack = ROUNDING * float(jnp.finfo(matrix.x.dtype).eps)
    lower = lower_bound(energies, total, q - slack)
    upper = upper_bound(energies, total, q + slack, m)
    missed = max(1 - float(energies.sum()) / total, 0.0)
    if lower == upper or len(energies) == m:
        exact = int(rank_of(energies, q)) if len(energies) == m else lower
        return SketchedRank(float(exact), 0.0, lower, upper, missed, n, d, q, center)
    kept = len(energies) // 2  # of the sketch, the larger half has converged
    axes = _product("ml,lk->mk", basis, jnp.asarray(vectors[:, ::-1][:, :kept], basis.dtype))
    tail = _tail(matrix, axes, probe_key, num_probes, num_steps)
    lower = max(lower, tail.lower_bound((q - slack) * total - energies[:kept].sum()))
    value, stderr = tail.rank(energies[:kept], total, q)
    value = float(np.clip(value, lower, upper))
    return SketchedRank(value, stderr, lower, upper, missed, n, d, q, center)


def lower_bound(energies: Float[np.ndarray, " l"], total: float, q: float) -> int:
    """Returns the smallest k with S_k + E > q T, from squared singular values of a sketch.

    Source: Halko, Martinsson & Tropp (2011), for what a sketch misses.
    """
    sums = np.cumsum(energies)
    missed = max(total - sums[-1], 0.0)
    return int(min(1 + np.sum(sums + missed <= q * total), len(energies)))


def upper_bound(energies: Float[np.ndarray, " l"], total: float, q: float, m: int) -> int:
    """Returns the smallest k at which a bound below of C_k exceeds q T.

    It is S_k, or the line from some (j, S_j) to (m, T); from (0, 0) if the sketch is useless.
    """
    if q >= 1:
        return m
    sums = np.concatenate([[0.0], np.cumsum(energies)])
    j = np.arange(len(sums))
    above = np.flatnonzero(sums > q * total)
    below = sums <= q * total
    # S_j + (T - S_j) (k - j) / (m - j) > q T
    k = j[below] + (q * total - sums[below]) * (m - j[below]) / (total - sums[below])
    bounds = [m, *(np.floor(k).astype(int) + 1), *above[:1]]
    return int(min(bounds))


class _Tail:
    """Quadrature of the spectrum of what is left behind deflated directions, one row a probe."""

    def __init__(self, alphas: np.ndarray, betas: np.ndarray, size: int) -> None:
        found = [lanczos.ritz(a, b) for a, b in zip(alphas, betas, strict=True)]
        self.nodes = np.maximum([one.values[::-1] for one in found], 0)  # falling
        self.counts = size * np.array([one.weights[::-1] for one in found])

    def rank(self, energies: np.ndarray, total: float, q: float) -> tuple[float, float]:
        """Returns the mean rank over probes, and its standard error.

        Energy is linear in the count between the middles of two nodes.
        """
        head = float(energies.sum())
        if head > q * total:
            return float(1 + np.sum(np.cumsum(energies) <= q * total)), 0.0
        ranks = []
        for nodes, counts in zip(self.nodes, self.counts, strict=True):
            held = counts * nodes
            # The energy of the tail is known: probes only say how it is spread.
            held = held * (total - head) / held.sum()
            middle = lambda x: np.r_[0, np.cumsum(x) - x / 2, x.sum()]
            ranks.append(len(energies) + np.interp(q * total - head, middle(held), middle(counts)))
        return 1 + float(np.mean(ranks)), float(np.std(ranks, ddof=1) / math.sqrt(len(ranks)))

    def lower_bound(self, wanted: float) -> int:
        """Returns the smallest k with sqrt(k M) > wanted, M being sum lambda^2 of the tail.

        k eigenvalues add up to sqrt(k M) at most (Cauchy and Schwarz); M is an upper estimate.
        """
        moments = np.sum(self.counts * self.nodes**2, axis=1)
        error = np.std(moments, ddof=1) / math.sqrt(len(moments))
        size = np.mean(moments) + SURELY * error
        return 1 if wanted <= 0 or not size > 0 else int(wanted**2 / size) + 1


def _tail(matrix: _Centered, axes: Array, key: Array, num_probes: int, num_steps: int) -> _Tail:
    """Returns the quadrature of the spectrum on the complement of the axes."""
    m, kept = axes.shape
    probes = jax.random.normal(key, (num_probes, m), axes.dtype)
    alphas, betas = _lanczos(matrix, axes, probes, steps=min(num_steps, m - kept))
    return _Tail(np.asarray(alphas, float), np.asarray(betas, float), m - kept)


def _prepared(features: Array, center: str) -> tuple[_Centered, float]:
    """Returns the centered matrix as an operator, scaled, and its energy."""
    x = features if jnp.issubdtype(features.dtype, jnp.floating) else features.astype(jnp.float32)
    x = widened(x)
    n, d = x.shape
    left, right = jnp.zeros(n, x.dtype), jnp.zeros(d, x.dtype)
    if center == "features":
        left, right = jnp.mean(x, axis=1), jnp.ones(d, x.dtype)
    elif center == "samples":
        left, right = jnp.ones(n, x.dtype), jnp.mean(x, axis=0)
    matrix = _Centered(x, left, right)
    before, after = (np.asarray(rows, float).sum() for rows in _energies(matrix))
    noise = (ROUNDING * float(jnp.finfo(x.dtype).eps)) ** 2
    return matrix, float(after) if after > noise * before else 0.0


@jax.jit
def _energies(matrix: _Centered) -> tuple[Array, Array]:
    """Returns the squares of every row added up, before and after centering."""
    after = matrix.x - jnp.outer(matrix.left, matrix.right)
    return jnp.sum(matrix.x**2, axis=1), jnp.sum(after**2, axis=1)


@partial(jax.jit, static_argnames=("size", "power"))
def _sketch(matrix: _Centered, key: Array, *, size: int, power: int) -> tuple[Array, Array]:
    """Returns Q^T F F^T Q [l, l] and Q [m, l] of a randomized range finder."""
    shape = (max(matrix.x.shape), size)
    y = matrix.forward(jax.random.normal(key, shape, matrix.x.dtype))
    for _ in range(power):
        y = matrix.forward(jnp.linalg.qr(matrix.backward(jnp.linalg.qr(y)[0]))[0])
    basis = jnp.linalg.qr(y)[0]
    inner = matrix.backward(basis)  # [long, l]
    return _product("dk,dl->kl", inner, inner), basis


@partial(jax.jit, static_argnames="steps")
def _lanczos(matrix: _Centered, axes: Array, probes: Array, *, steps: int) -> tuple[Array, Array]:
    """Returns the tridiagonal matrix of every probe, on the complement of the axes."""

    def off(v: Array) -> Array:
        for _ in range(2):
            v = v - _product("mk,k->m", axes, _product("mk,m->k", axes, v))
        return v

    def product(v: Array) -> Array:
        return off(matrix.forward(matrix.backward(off(v)[:, None]))[:, 0])

    def of_one(probe: Array) -> tuple[Array, Array]:
        return lanczos.tridiagonal(product, off(probe), steps)[:2]

    return jax.vmap(of_one)(probes)


def _check_numbers(m: int, *, size: int, power: int, num_probes: int, num_steps: int) -> None:
    for name, value, least in (
        ("size", size, 1),
        ("power", power, 0),
        ("num_probes", num_probes, 2),
        ("num_steps", num_steps, 1),
    ):
        if value < least:
            raise ValueError(f"{name}={value}: expected at least {least}")
