"""The rank of features: how many directions hold a share q of the energy of an [n, d] matrix.

    rank_q = 1 + #{k : sum_{i<=k} s_i^2 <= q sum_i s_i^2}, s being singular values after centering

"Centering" is one of three things. "features" takes from every example its mean over features,
which is what the released code of the paper below does; "samples" takes off the mean example, which
is principal component analysis; "none" leaves the matrix as it is. The rank cannot exceed
min(n, d), so ranks compare only at the same n: it is part of every result.

These functions are for matrices on the device, under `jit` and `vmap` too. For large ones there are
`streamed_rank`, exact in float64, and `sketched_rank`, much faster and with bounds.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from common.precision import widened
from landscape.vectors import HIGHEST

CENTERS = ("features", "samples", "none")
METHODS = ("auto", "gram", "svd")
NOISE = 16  # what centering leaves of constant rows is below so many eps of their size
AnyArray = Array | np.ndarray
Values = Float[AnyArray, "*batch m"]


class Ranks(NamedTuple):
    """Three ranks of one matrix, from the same singular values; all are 1 for a matrix of zeros.

    Attributes:
        rank: The smallest number of directions with more than the share q of the energy.
        stable: Energy over that of the first direction.
        entropy: Exponential of the entropy of singular values that are scaled to add up to 1.
    """

    rank: Any
    stable: Any
    entropy: Any


class FeatureRank(NamedTuple):
    """`Ranks` of an [n, d] matrix by centering; None for a centering that was not asked for.

    Attributes:
        features: Every example without its mean over features; the official number.
        samples: Without the mean example; the number of principal components.
        none: Of the matrix as it is.
        n: Examples. The rank is at most min(n, d): compare at the same n.
        d: Features.
        q: Share of the energy.
    """

    features: Any
    samples: Any
    none: Any
    n: int
    d: int
    q: float


def feature_rank(
    features: Float[AnyArray, "*batch n d"],
    *,
    q: float = 0.99,
    centers: Sequence[str] = CENTERS,
    method: str = "auto",
) -> FeatureRank:
    """Returns ranks of features under every centering asked for.

    Source: Andriushchenko et al. (2023), released code: q = 0.99, "features" for convolutional and
    contrastive networks; q = 0.9999, "none" for two-layer networks.

    The first n examples of the training data, without augmentation, are what the paper takes; more
    than two axes are a batch of matrices.

    Args:
        features: Of any floating type; sums are float32 at least.
        q: Share of the energy, 0 to 1.
        centers: Some of "features", "samples" and "none".
        method: See `singular_values`.

    Raises:
        ValueError: If features are not finite or of fewer than two examples, or a choice unknown.
    """
    n, d = check_features(features, q=q, centers=centers)
    found = {}
    for center in centers:
        s = singular_values(features, center=center, q=q, method=method)
        found[center] = ranks_of(s, q)
    return FeatureRank(**(dict.fromkeys(CENTERS) | found), n=n, d=d, q=q)


def singular_values(
    features: Float[AnyArray, "*batch n d"],
    *,
    center: str = "features",
    q: float = 0.99,
    method: str = "auto",
) -> Float[Array, "*batch m"]:
    """Returns the m = min(n, d) singular values of centered features, falling.

    "gram" takes roots of the eigenvalues of the smaller of F F^T and F^T F, several times as fast
    as "svd". What it costs: eigenvalues are known to eps of the largest, so singular values below
    sqrt(eps) of the largest are lost, and the energy of all small ones together to m eps of the
    whole at worst. The rank asks whether that energy exceeds 1 - q: "auto" takes the Gram side
    where m eps <= (1 - q) / 10. In float32 that is up to m = 8,388 for q = 0.99 and m = 83 for
    q = 0.9999; in float64 always. Entropy ranks are less exact by the Gram side of float32.

    Args:
        features: A batch of matrices.
        center: One of `CENTERS`.
        q: Share of the energy that the rank will be asked for.
        method: One of `METHODS`.

    Raises:
        ValueError: If a choice is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    x = centered(features, center)
    m = min(x.shape[-2:])
    if method == "svd" or (method == "auto" and not is_gram_enough(m, q, x.dtype)):
        return jnp.linalg.svd(x, compute_uv=False)
    short = x if x.shape[-2] <= x.shape[-1] else jnp.swapaxes(x, -1, -2)
    size = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True)  # squares do not overflow
    short = short / jnp.where(size > 0, size, 1)
    gram = jnp.einsum("...id,...jd->...ij", short, short, precision=HIGHEST)
    energies = jnp.maximum(jnp.linalg.eigvalsh(gram)[..., ::-1], 0)
    return size[..., 0] * jnp.sqrt(energies)


def is_gram_enough(m: int, q: float, dtype: Any) -> bool:
    """Returns whether rounding of an m x m Gram matrix stays ten times below 1 - q."""
    return m * float(jnp.finfo(dtype).eps) <= (1 - q) / 10


def centered(features: Float[AnyArray, "*batch n d"], center: str) -> Float[Array, "*batch n d"]:
    """Returns features without their mean; exactly 0 where all that is left is rounding.

    Source: Andriushchenko et al. (2023), released code, for "features".

    Raises:
        ValueError: If `center` is not one of `CENTERS`.
    """
    check_centers([center])
    x = jnp.asarray(features)
    x = widened(x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32))
    if center == "none":
        return x
    rest = x - jnp.mean(x, axis=-1 if center == "features" else -2, keepdims=True)
    # In units of the largest entry: no square overflows, and none vanishes.
    size = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True)
    left = jnp.max(jnp.abs(rest), axis=(-2, -1), keepdims=True)
    return jnp.where(left > NOISE * jnp.finfo(x.dtype).eps * size, rest, 0)


def ranks_of(sigma: Values, q: float) -> Ranks:
    """Returns the three ranks of singular values, in any order."""
    xp: Any = np if isinstance(sigma, np.ndarray) else jnp
    # In units of the largest: squares of tiny ones would vanish, those of huge ones overflow.
    largest = xp.max(sigma, axis=-1, keepdims=True)
    scaled = sigma / xp.where(largest > 0, largest, 1)
    energies = scaled**2
    return Ranks(rank_of(energies, q), stable_rank(energies), entropy_rank(scaled))


def rank_of(energies: Values, q: float) -> Any:
    """Returns 1 + #{k : sum_{i<=k} e_i <= q sum_i e_i} of energies e = s^2, in any order.

    Source: Andriushchenko et al. (2023), released code.

    Two edges are set by convention: the count is at most the number of energies (that expression
    gives one more where all sums are below q of the whole by rounding alone), and for energies that
    are all 0 it is 1 (where that expression would count every one of them).
    """
    xp: Any = np if isinstance(energies, np.ndarray) else jnp
    falling = xp.flip(xp.sort(energies, axis=-1), axis=-1)
    sums = xp.cumsum(falling, axis=-1)
    total = sums[..., -1:]
    count = 1 + xp.sum(sums <= q * total, axis=-1)
    return xp.where(total[..., 0] > 0, xp.minimum(count, energies.shape[-1]), 1)


def stable_rank(energies: Values) -> Any:
    """Returns sum_i e_i / max_i e_i of energies e = s^2, which is ||F||_F^2 / ||F||_2^2."""
    xp: Any = np if isinstance(energies, np.ndarray) else jnp
    largest = xp.max(energies, axis=-1)
    return xp.where(largest > 0, xp.sum(energies, axis=-1) / xp.where(largest > 0, largest, 1), 1.0)


def entropy_rank(sigma: Values) -> Any:
    """Returns exp(-sum_i p_i log p_i), p_i = s_i / sum_j s_j.

    Source: Roy & Vetterli (2007), the effective rank.
    """
    xp: Any = np if isinstance(sigma, np.ndarray) else jnp
    total = xp.sum(sigma, axis=-1, keepdims=True)
    p = sigma / xp.where(total > 0, total, 1)
    return xp.exp(-xp.sum(p * xp.log(xp.where(p > 0, p, 1)), axis=-1))


def check_features(features: Any, *, q: float, centers: Sequence[str] = ()) -> tuple[int, int]:
    """Returns (n, d) of features that have a rank.

    Raises:
        ValueError: If they have none, or `q` or a centering is not one.
    """
    if len(np.shape(features)) < 2:
        raise ValueError(f"features of shape {np.shape(features)}: expected [examples, features]")
    check_share(q)
    check_centers(centers)
    n, d = np.shape(features)[-2:]
    check_sizes(n, d)
    if not isinstance(features, jax.core.Tracer):
        check_finite(features)
    return n, d


def check_share(q: float) -> None:
    """Checks that q is a share of the energy.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < q < 1:
        raise ValueError(f"q={q}: expected a share of the energy between 0 and 1, such as 0.99")


def check_sizes(n: int, d: int) -> None:
    """Checks that there are examples to compare.

    Raises:
        ValueError: If there are not.
    """
    if n < 2 or d < 1:
        raise ValueError(f"features of {n} examples x {d}: a rank takes at least 2 examples")


def check_finite(features: Any, *, name: str = "features") -> None:
    """Checks that all numbers are finite.

    Raises:
        ValueError: If some are not.
    """
    xp: Any = np if isinstance(features, np.ndarray) else jnp
    bad = int(xp.sum(~xp.isfinite(features)))
    if bad:
        raise ValueError(
            f"{name} of shape {np.shape(features)} have {bad} entries that are NaN or infinite: "
            "expected finite numbers"
        )


def check_centers(centers: Sequence[str]) -> None:
    """Checks that these are names of centerings.

    Raises:
        ValueError: If they are not.
    """
    for center in centers:
        if center not in CENTERS:
            raise ValueError(f"center={center!r}: expected one of {', '.join(CENTERS)}")
