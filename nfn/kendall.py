"""Agreement of predictions with the truth: Kendall's tau-b, coefficient of determination."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LARGEST = 46_340  # beyond, the number of ordered pairs does not fit in int32


def kendall_tau(
    x: Float[Array, "..."], y: Float[Array, "..."], *, chunk: int = 256
) -> Float[Array, ""]:
    """Returns tau-b: (concordant - discordant) / sqrt(pairs that differ in x * those in y).

    Source: Kendall (1945), "The Treatment of Ties in Ranking Problems"; SciPy's `kendalltau`.

    x and y have shape [n].
    Exact up to the last rounding: all pairs are counted in integers, `chunk` rows at a time.
    Where x or y is constant it is 0 (SciPy: NaN), where one of their values is NaN it is NaN.

    Raises:
        ValueError: If there are too many values to count pairs, or the shapes are not one [n].
    """
    _check_pairs(x, y)
    n = len(x)
    if n > LARGEST:
        raise ValueError(f"kendall_tau counts the pairs of at most {LARGEST} values, got {n}")
    chunk = max(1, min(chunk, n))
    index = jnp.arange(-(-n // chunk) * chunk).reshape(-1, chunk)

    def counts(rows: Int[Array, " chunk"]) -> Int[Array, " 3"]:
        is_real = (rows < n)[:, None]
        rows = jnp.minimum(rows, n - 1)
        dx, dy = (jnp.where(is_real, _signs(values, rows), 0) for values in (x, y))
        return jnp.stack([jnp.sum(dx * dy), jnp.sum(dx != 0), jnp.sum(dy != 0)])

    agreement, in_x, in_y = jnp.sum(jax.lax.map(counts, index), axis=0).astype(jnp.float32)
    norm = jnp.sqrt(in_x) * jnp.sqrt(in_y)
    tau = jnp.where(norm > 0, agreement / jnp.maximum(norm, 1), 0)
    # NaN compares as equal to all values, which would count as ties.
    return jnp.where(jnp.isnan(x).any() | jnp.isnan(y).any(), jnp.nan, tau)


def r_squared(predictions: Float[Array, "..."], truth: Float[Array, "..."]) -> Float[Array, ""]:
    """Returns 1 - sum (prediction - truth)^2 / sum (truth - mean)^2 of values [n].

    Raises:
        ValueError: If the arguments are not of one shape [n].
    """
    _check_pairs(predictions, truth)
    residual = jnp.sum((predictions - truth) ** 2)
    return 1 - residual / jnp.sum((truth - jnp.mean(truth)) ** 2)


def _check_pairs(x: Float[Array, "..."], y: Float[Array, "..."]) -> None:
    if jnp.ndim(x) != 1 or jnp.shape(x) != jnp.shape(y):
        raise ValueError(
            f"values of shapes {jnp.shape(x)} and {jnp.shape(y)}; expected the same [n] for both"
        )


def _signs(values: Float[Array, " n"], rows: Int[Array, " chunk"]) -> Int[Array, "chunk n"]:
    chosen, others = values[rows][:, None], values[None, :]
    return (chosen > others).astype(jnp.int32) - (chosen < others).astype(jnp.int32)
