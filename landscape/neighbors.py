"""How well features classify: by their nearest neighbours, and by a linear probe."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from common.precision import widened
from landscape.rank import AnyArray, check_features, check_finite
from landscape.vectors import HIGHEST

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT = 5  # every so many-th row of the training data chooses the penalty


class Probe(NamedTuple):
    """What a linear probe came to.

    Attributes:
        error: Of test rows, in percent.
        penalty: The chosen one, as a share of the energy of the centered training features.
        held_out_errors: Of each penalty, in percent.
    """

    error: Float[Array, ""]
    penalty: Float[Array, ""]
    held_out_errors: Float[Array, " penalties"]


def neighbor_error(
    train: Float[AnyArray, "n d"],
    train_labels: Int[AnyArray, " _"],
    test: Float[AnyArray, "rows _"],
    test_labels: Int[AnyArray, " _"],
    *,
    num_classes: int,
    k: int = 10,
    block: int = 500,
) -> Float[Array, ""]:
    """Returns the percentage of test rows that their nearest training rows classify wrongly.

    Source: Andriushchenko et al. (2023), released code: on another data set than the one the
    network was trained on.

    Args: As of `neighbor_labels`.

    Raises:
        ValueError: If sizes do not fit, features are not finite, or labels out of range.
    """
    _check_labels(test, test_labels, num_classes, "test")
    found = neighbor_labels(train, train_labels, test, num_classes=num_classes, k=k, block=block)
    return 100 * jnp.mean(found != jnp.asarray(test_labels))


def neighbor_labels(
    train: Float[AnyArray, "n d"],
    train_labels: Int[AnyArray, " _"],
    test: Float[AnyArray, "rows _"],
    *,
    num_classes: int,
    k: int = 10,
    block: int = 500,
) -> Int[Array, " rows"]:
    """Returns the majority of the labels of the k training rows with the largest cosine.

    Source: Andriushchenko et al. (2023), released code. Rows are scaled to length 1, zero rows stay
    0; votes are not weighted, and the smallest label wins a tie. Of equally near rows the first
    ones count.

    Args:
        train: Features to look among.
        train_labels: 0 to `num_classes` - 1.
        test: Features to classify.
        num_classes: How many labels there are.
        k: Number of neighbours.
        block: Test rows at a time: cosines are never more than [block, n].

    Raises:
        ValueError: If sizes do not fit, features are not finite, or labels out of range.
    """
    _check_labels(train, train_labels, num_classes, "training")
    _check_pair(train, test)
    if not 1 <= k <= np.shape(train)[0]:
        raise ValueError(f"k={k} neighbours of {np.shape(train)[0]} rows: expected 1 to that many")
    rows, labels = unit_rows(train), jnp.asarray(train_labels)

    def of_one(row: Array) -> Array:
        cosines = jnp.einsum("nd,d->n", rows, row, precision=HIGHEST)
        _, nearest = lax.top_k(cosines, k)
        votes = jnp.sum(jax.nn.one_hot(labels[nearest], num_classes, dtype=jnp.int32), axis=0)
        return jnp.argmax(votes)  # the first of the largest

    return lax.map(of_one, unit_rows(test), batch_size=min(block, np.shape(test)[0]))


def unit_rows(features: Float[AnyArray, "*batch d"]) -> Float[Array, "*batch d"]:
    """Returns every row with length 1; rows of zeros stay zeros."""
    x = widened(jnp.asarray(features))
    size = jnp.max(jnp.abs(x), axis=-1, keepdims=True)  # its square might vanish or overflow
    x = x / jnp.where(size > 0, size, 1)
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(length > 0, length, 1)


def linear_probe(
    train: Float[AnyArray, "n d"],
    train_labels: Int[AnyArray, " _"],
    test: Float[AnyArray, "rows _"],
    test_labels: Int[AnyArray, " _"],
    *,
    num_classes: int,
    penalties: tuple[float, ...] = PENALTIES,
) -> Probe:
    """Returns the error of ridge regression on one-hot labels, and the penalty it was made with.

    The penalty has the least error on every fifth training row, fitted to the others (of equals,
    the largest penalty); the probe is then fitted to all. Penalties are shares of ||X||_F^2, which
    is at least the largest eigenvalue of X^T X, so that float32 solves it down to 1e-6. It is a
    system of size min(n, d), by Cholesky.

    Args:
        train: Features to fit.
        train_labels: 0 to `num_classes` - 1; in any order of rows.
        test: Features to classify.
        test_labels: What they are.
        num_classes: How many labels there are.
        penalties: To choose from.

    Raises:
        ValueError: If sizes do not fit, features are not finite, labels out of range, or there are
            no penalties above 0.
    """
    _check_labels(train, train_labels, num_classes, "training")
    _check_labels(test, test_labels, num_classes, "test")
    _check_pair(train, test)
    if not penalties or not min(penalties) > 0:
        raise ValueError(f"penalties={penalties}: expected numbers above 0")
    falling = np.argsort(-np.asarray(penalties))
    choices = jnp.asarray(penalties)[falling]  # of equals, argmin takes the first
    x, labels = widened(jnp.asarray(train)), jnp.asarray(train_labels)
    is_held_out = np.arange(len(x)) % HELD_OUT == HELD_OUT - 1
    if not is_held_out.any():
        raise ValueError(f"{len(x)} training rows: a probe takes at least {HELD_OUT}")
    fitted = partial(_errors, num_classes=num_classes)
    errors = fitted(
        (x[~is_held_out], labels[~is_held_out]), (x[is_held_out], labels[is_held_out]), choices
    )
    best = choices[jnp.argmin(errors)]
    error = fitted((x, labels), (widened(jnp.asarray(test)), jnp.asarray(test_labels)), best[None])
    return Probe(error[0], best, errors[np.argsort(falling)])


def _errors(train: Any, test: Any, penalties: Array, *, num_classes: int) -> Array:
    """Returns the percentage of wrong test rows for every penalty."""
    x, labels = train
    mean, y = jnp.mean(x, axis=0, keepdims=True), jax.nn.one_hot(labels, num_classes, dtype=x.dtype)
    x, rows = x - mean, test[0] - mean
    base = jnp.mean(y, axis=0, keepdims=True)
    product = partial(jnp.matmul, precision=HIGHEST)
    is_wide = x.shape[0] < x.shape[1]
    gram = product(x, x.T) if is_wide else product(x.T, x)  # [m, m], m = min(n, d)
    right = y - base if is_wide else product(x.T, y - base)
    left = product(rows, x.T) if is_wide else rows  # [rows, m]
    energy = jnp.trace(gram)
    energy = jnp.where(energy > 0, energy, 1)

    def of_one(penalty: Array) -> Array:
        system = gram + penalty * energy * jnp.eye(len(gram), dtype=gram.dtype)
        weights = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(system), right)
        return 100 * jnp.mean(jnp.argmax(product(left, weights) + base, axis=1) != test[1])

    return lax.map(of_one, penalties.astype(gram.dtype))


def _check_pair(train: Any, test: Any) -> None:
    check_features(train, q=0.99)
    if not isinstance(test, jax.core.Tracer):
        check_finite(test, name="test features")
    if np.shape(train)[1:] != np.shape(test)[1:] or len(np.shape(train)) != 2:
        raise ValueError(
            f"training features {np.shape(train)} and test features {np.shape(test)}: expected "
            "two axes each, with as many features"
        )


def _check_labels(features: Any, labels: Any, num_classes: int, name: str) -> None:
    if np.shape(labels) != np.shape(features)[:1]:
        raise ValueError(
            f"{name} labels {np.shape(labels)} of features {np.shape(features)}: expected one a row"
        )
    if not isinstance(labels, jax.core.Tracer):
        low, high = int(np.min(labels)), int(np.max(labels))
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{name} labels are {low} to {high}: expected 0 to num_classes - 1 = "
                f"{num_classes - 1}"
            )
