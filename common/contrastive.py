"""Two sets of vectors whose rows belong together: the loss that says so, and how often they meet.

Rows of the whole batch are compared, whatever devices hold them: under `jit`, batches that are
split over a mesh are gathered as needed.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from common.precision import wide

Vectors = Float[Array, "n d"]
Others = Float[Array, "others entries"]  # as many as the vectors, which is checked


def similarities(first: Vectors, second: Vectors) -> Float[Array, "n n"]:
    """Returns all inner products <first_i, second_j>, in float32 at least.

    They are divided by a small temperature afterwards: the product is in full precision on devices
    that would round its operands to bfloat16 by default.
    """
    dtype = wide(jnp.result_type(first, second))
    first, second = (x.astype(dtype) for x in (first, second))
    return jnp.matmul(first, second.T, precision=lax.Precision.HIGHEST)


def contrastive_loss(
    first: Vectors, second: Others, *, temperature: float | Float[Array, ""] = 0.05
) -> Float[Array, ""]:
    """Returns the mean of both cross-entropies: of `second` given `first`, and the other way round.

    1/2 (mean_i CE(s_i., i) + mean_i CE(s_.i, i)) with s = <first, second> / temperature; the rows
    are to have length 1. It is between 0 and, where nothing is told apart, log n. The official code
    adds 1e-20 inside of the logarithm of a probability, which bounds a term by 46 and leaves no
    gradient beyond; here it is the logarithm of a softmax, exact for any temperature.

    Source: Radford et al. (2021), Fig. 3; Andriushchenko et al. (2023) have temperature 0.05.

    Raises:
        ValueError: If the two are not of one shape.
    """
    _check(first, second)
    scores = similarities(first, second) / temperature
    matched = jnp.diagonal(scores)
    of_rows, of_columns = (jax.nn.logsumexp(scores, axis=axis) for axis in (1, 0))
    return jnp.mean((of_rows + of_columns) / 2 - matched)


def retrieved(
    first: Vectors, second: Others, *, group: int
) -> tuple[Bool[Array, " n"], Bool[Array, " n"]]:
    """Returns for every row whether its partner is the nearest of its group, in both directions.

    Groups are `group` rows that follow one another. Of rows that are equally near the first is
    taken, so that outputs which are all alike are right once a group.

    Returns:
        For every row of `first`, whether `second` has its partner nearest; for every row of
        `second`, whether `first` has.

    Raises:
        ValueError: If the two are not of one shape, or groups do not fill the rows.
    """
    _check(first, second)
    if group < 1 or len(first) % group:
        raise ValueError(f"group={group}; expected a divisor of the {len(first)} rows")

    def one(first: Vectors, second: Vectors) -> tuple[Array, Array]:
        scores = similarities(first, second)
        own = jnp.arange(group)
        return jnp.argmax(scores, axis=1) == own, jnp.argmax(scores, axis=0) == own

    groups = (x.reshape(-1, group, x.shape[-1]) for x in (first, second))
    forth, back = jax.vmap(one)(*groups)
    return forth.reshape(-1), back.reshape(-1)


def _check(first: Vectors, second: Others) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"two sets of vectors of shapes {first.shape} and {second.shape}; expected one shape"
        )
