"""Exact ranks of large feature matrices, read in blocks: one Gram matrix in float64 for all.

Either blocks of examples are read and F^T F [d, d] is kept, or blocks of features and F F^T [n, n].
Centering comes afterwards: along the kept axis it is C G C with C = I - 1 1^T / m, along the one
that is summed over it is G - s s^T / count with the sums s. All of it is NumPy and LAPACK on the
host, where float64 is at hand.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh, get_blas_funcs

from landscape.rank import (
    CENTERS,
    FeatureRank,
    Ranks,
    check_centers,
    check_features,
    check_finite,
    check_share,
    check_sizes,
    is_gram_enough,
    ranks_of,
)


class Gram(NamedTuple):
    """Inner products of the rows or of the columns of a matrix.

    Attributes:
        matrix: Of the kept axis, [m, m]; its lower triangle.
        sums: Of the matrix over the other axis, [m].
        count: The length of the other axis.
        of_examples: Whether the kept axis is that of examples.
    """

    matrix: np.ndarray
    sums: np.ndarray
    count: int
    of_examples: bool


def exact_rank(
    features: Any, *, q: float = 0.99, centers: Sequence[str] = CENTERS, block: int = 2048
) -> FeatureRank:
    """Returns ranks of an [n, d] matrix, by the Gram matrix of its smaller side in float64.

    As `feature_rank`, for one matrix of any size. Its float64 copy is never whole: `block` rows or
    columns at a time; what it takes is 16 min(n, d)^2 bytes beside the matrix.

    Raises:
        ValueError: If features are not finite or of fewer than two examples, or a choice unknown.
    """
    n, d = check_features(features, q=q, centers=centers)
    if n <= d:
        parts: Iterator[Any] = (features[:, i : i + block] for i in range(0, d, block))
        return streamed_rank(parts, axis="features", q=q, centers=centers)
    parts = (features[i : i + block] for i in range(0, n, block))
    return streamed_rank(parts, axis="examples", q=q, centers=centers)


def streamed_rank(
    blocks: Iterable[Any],
    *,
    axis: str = "examples",
    q: float = 0.99,
    centers: Sequence[str] = CENTERS,
) -> FeatureRank:
    """Returns ranks of a matrix that comes in blocks and is read once.

    Source: Andriushchenko et al. (2023), released code, for the definition.

    Eigenvalues of a Gram matrix are known to eps of the largest, and what all of them beyond the
    rank hold, to m eps of the energy before centering: with float64 and m = 10,240, 2e-12, against
    the 1e-2 and 1e-4 that q = 0.99 and 0.9999 leave. Squaring costs nothing there; it does only for
    1 - q below 10 m eps, which is refused: `feature_rank` with "svd" is for those. Less energy than
    m eps of what there was before centering counts as none.

    Args:
        blocks: With axis "examples", [b, d] of some examples each; "features", [n, b].
        axis: What a block has some of. The other one's length squared is in memory.
        q: Share of the energy.
        centers: Some of "features", "samples" and "none"; each takes an eigendecomposition.

    Raises:
        ValueError: If blocks do not fit together or are not finite, there are fewer than two
            examples, a choice is unknown, or q too near 1.
    """
    check_share(q)
    check_centers(centers)
    gram = gram_of(blocks, axis=axis)
    m = len(gram.sums)
    n, d = (m, gram.count) if gram.of_examples else (gram.count, m)
    check_sizes(n, d)
    if not is_gram_enough(min(n, d), q, np.float64):
        raise ValueError(f"q={q}: too near 1 for squared singular values; use method='svd'")
    found = {}
    for center in centers:
        rank, stable, entropy = ranks_of(_singular_values(gram, center), q)
        found[center] = Ranks(int(rank), float(stable), float(entropy))
    return FeatureRank(**(dict.fromkeys(CENTERS) | found), n=n, d=d, q=q)


def gram_of(blocks: Iterable[Any], *, axis: str = "examples") -> Gram:
    """Returns the Gram matrix of a matrix that comes in blocks of examples or of features.

    Raises:
        ValueError: If blocks do not fit together, are not finite, or there are none.
    """
    if axis not in ("examples", "features"):
        raise ValueError(f"axis={axis!r}: expected examples or features")
    (syrk,) = get_blas_funcs(["syrk"], dtype=np.float64)
    matrix, sums, count = np.zeros((0, 0)), np.zeros(0), 0
    for part in blocks:
        x = np.asarray(part)
        if x.ndim != 2:
            raise ValueError(f"a block of shape {x.shape}: expected two axes")
        check_finite(x, name="features")
        # [m, b], in the order that BLAS wants.
        x = np.asarray(x.T if axis == "examples" else x, np.float64, order="F")
        if count == 0:
            matrix, sums = np.zeros((len(x), len(x)), order="F"), np.zeros(len(x))
        if len(x) != len(sums):
            raise ValueError(f"a block has {len(x)}, those before {len(sums)} along the other axis")
        # Adds x x^T to the lower triangle in place: half of the products, and no second matrix.
        matrix = syrk(1.0, x, beta=1.0, c=matrix, lower=1, overwrite_c=1)
        sums += x.sum(axis=1)
        count += x.shape[1]
    if count == 0:
        raise ValueError("no blocks: expected at least one")
    return Gram(matrix, sums, count, axis == "features")


def _singular_values(gram: Gram, center: str) -> Float[np.ndarray, " k"]:
    """Returns min(n, d) singular values of the centered matrix, falling."""
    m, before = len(gram.sums), float(np.trace(gram.matrix))
    matrix = gram.matrix.copy(order="F")
    if center == ("samples" if gram.of_examples else "features"):
        _center_both(matrix)
    elif center != "none":
        _each_column(matrix, lambda j: gram.sums[j:] * (gram.sums[j] / gram.count))
    after = float(np.trace(matrix))
    k = min(m, gram.count)
    if not after > m * np.finfo(np.float64).eps * before:
        return np.zeros(k)
    # Only eigenvalues, in place: the matrix is in memory twice, never three times.
    energies = eigh(matrix, eigvals_only=True, overwrite_a=True, check_finite=False, driver="evd")
    return np.sqrt(np.maximum(energies[::-1][:k], 0))


def _center_both(matrix: np.ndarray) -> None:
    """Makes the lower triangle of G that of C G C, in place."""
    m = len(matrix)
    sums = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diagonal(matrix)  # of its lower triangle
    means, mean = sums / m, float(sums.sum()) / m**2
    _each_column(matrix, lambda j: means[j:] + (means[j] - mean))


def _each_column(matrix: np.ndarray, taken: Callable[[int], np.ndarray]) -> None:
    """Takes `taken(j)` from column j of the lower triangle, in place."""
    for j in range(len(matrix)):
        matrix[j:, j] -= taken(j)
