"""Input-output Jacobians J = df/dx of networks: their norms at every sample.

A network is `predict(params, inputs [n, ...]) -> outputs [n, k]` of any parameters; samples do not
see one another, so that one backward pass gives a row of the Jacobians of all of them. Everything
is pure, for `jit` and `vmap`, except `check_independent`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.precision import wide
from landscape.vectors import HIGHEST, PyTree

Predict: TypeAlias = Callable[[PyTree, Array], Array]  # (params, inputs [n, ...]) -> [n, k]
ROWS_OF_CHECK = 8


class JacobianNorms(NamedTuple):
    """Norms of the Jacobian at every sample.

    Attributes:
        spectral: The largest singular values.
        frobenius: Roots of the sums of squares.
    """

    spectral: Float[Array, " n"]
    frobenius: Float[Array, " n"]


class PowerNorms(NamedTuple):
    """Spectral norms by power iteration.

    Attributes:
        values: ||J v||, never above the norm.
        residuals: ||J^T J v - s^2 v|| / s: a singular value lies within so much of each value s.
        vectors: Where the next iteration begins, for parameters nearby.
    """

    values: Float[Array, " n"]
    residuals: Float[Array, " n"]
    vectors: Float[Array, "n ..."]


class SquaredNorms(NamedTuple):
    """Means over random probes.

    Attributes:
        values: Squared Frobenius norms, without bias.
        stderr: Their standard errors.
    """

    values: Float[Array, " n"]
    stderr: Float[Array, " n"]


def softmaxed(predict: Predict) -> Predict:
    """Returns the network with a softmax behind its outputs."""
    return lambda params, inputs: jax.nn.softmax(predict(params, inputs), axis=-1)


def jacobians(
    predict: Predict, params: PyTree, inputs: Float[Array, "n ..."], *, chunk: int | None = None
) -> Float[Array, "n k d"]:
    """Returns the Jacobian at every sample, in its entries as one axis: k backward passes.

    Args:
        predict: The network.
        params: Any tree.
        inputs: Samples.
        chunk: How many samples at a time; None: all at once.

    Raises:
        ValueError: If outputs are not [n, k].
    """
    return by_chunks(lambda rows: _jacobians(predict, params, rows), inputs, chunk)


def jacobian_norms(
    predict: Predict, params: PyTree, inputs: Float[Array, "n ..."], *, chunk: int | None = None
) -> JacobianNorms:
    """Returns the exact spectral and Frobenius norms of the Jacobian at every sample.

    From J J^T where outputs are fewer than entries of inputs: no singular vectors are needed.

    Args:
        predict: The network.
        params: Any tree.
        inputs: Samples.
        chunk: How many samples at a time; None: all at once.

    Raises:
        ValueError: If outputs are not [n, k].
    """
    return by_chunks(lambda rows: matrix_norms(_jacobians(predict, params, rows)), inputs, chunk)


def power_norms(
    predict: Predict,
    params: PyTree,
    inputs: Float[Array, "n ..."],
    start: Float[Array, "n ..."],
    *,
    rounds: int = 10,
    chunk: int | None = None,
) -> PowerNorms:
    """Returns spectral norms by power iteration on J^T J: for networks of many outputs.

    A round is a product with J and one with its transpose; the network itself is computed once.

    Args:
        predict: The network.
        params: Any tree.
        inputs: Samples.
        start: Gaussian numbers of the shape of `inputs`, or the `vectors` found before.
        rounds: Products before the norms are read off.
        chunk: How many samples at a time; None: all at once.

    Raises:
        ValueError: If `start` is not of the shape of `inputs`.
    """
    if start.shape != inputs.shape:
        raise ValueError(f"start has shape {start.shape}: expected that of inputs, {inputs.shape}")

    def norms(rows: tuple[Array, Array]) -> PowerNorms:
        x, vectors = rows
        push = jax.linearize(lambda x: predict(params, x), x)[1]
        pull = jax.linear_transpose(push, x)
        return power_iteration(push, lambda u: pull(u)[0], vectors, rounds)

    return by_chunks(norms, (inputs, start), chunk)


def squared_frobenius(
    predict: Predict,
    params: PyTree,
    inputs: Float[Array, "n ..."],
    *,
    key: PRNGKeyArray,
    num_probes: int = 8,
) -> SquaredNorms:
    """Returns E ||J^T u||^2 = ||J||_F^2 over random signs u, with standard errors.

    Source: Hutchinson (1990). A probe is one backward pass; differentiable in the parameters.

    Args:
        predict: The network.
        params: Any tree.
        inputs: Samples.
        key: Of the probes.
        num_probes: At least 2.

    Raises:
        ValueError: If there are fewer than two probes, or outputs are not [n, k].
    """
    if num_probes < 2:
        raise ValueError(f"num_probes={num_probes}: a standard error needs at least 2")
    outputs, pull_back = _pull_back(predict, params, inputs)
    signs = jax.random.rademacher(key, (num_probes, *outputs.shape), outputs.dtype)
    rows = jax.vmap(lambda u: pull_back(u)[0])(signs)  # [probes, n, ...]
    samples = jnp.sum(_flat(rows, 2) ** 2, axis=-1)
    stderr = jnp.std(samples, axis=0, ddof=1) / num_probes**0.5
    return SquaredNorms(jnp.mean(samples, axis=0), stderr)


def check_independent(predict: Predict, params: PyTree, inputs: Float[Array, "n ..."]) -> None:
    """Checks that outputs at one sample do not depend on the others, by one backward pass.

    The derivative of the first output in the other samples is exactly 0 where they do not.

    Raises:
        ValueError: If they do, as with batch normalization in training mode; if there is only one
            sample, or outputs are not [n, k].
    """
    rows = inputs[:ROWS_OF_CHECK]
    if len(rows) < 2:
        raise ValueError(f"inputs has {len(rows)} rows: expected at least 2 to compare")

    @jax.jit
    def of_the_first(params: PyTree, rows: Array) -> Array:
        outputs, pull_back = _pull_back(predict, params, rows)
        weights = jnp.cos(jnp.arange(outputs.shape[1], dtype=outputs.dtype))
        return jnp.max(jnp.abs(pull_back(jnp.zeros_like(outputs).at[0].set(weights))[0][1:]))

    found = float(of_the_first(params, rows))
    if found != 0:
        raise ValueError(
            f"outputs at one sample depend on other samples (derivative {found:.2g}), as with batch"
            " normalization in training mode: give `predict` with running statistics, train=False"
        )


def matrix_norms(matrices: Float[Array, "n k d"]) -> JacobianNorms:
    """Returns the norms of matrices, from eigenvalues and trace of the smaller Gram matrix."""
    size = jnp.max(jnp.abs(matrices), axis=(1, 2), keepdims=True)
    scale = jnp.where(size > 0, size, 1)  # squares of small numbers would be lost
    unit, has_few_rows = matrices / scale, matrices.shape[1] <= matrices.shape[2]
    sides = "nkd,nld->nkl" if has_few_rows else "nkd,nke->nde"
    gram = jnp.einsum(sides, unit, unit, precision=HIGHEST)
    largest = jnp.maximum(jnp.linalg.eigvalsh(gram)[:, -1], 0)
    total = jnp.trace(gram, axis1=1, axis2=2)
    return JacobianNorms(scale[:, 0, 0] * jnp.sqrt(largest), scale[:, 0, 0] * jnp.sqrt(total))


def power_iteration(
    push: Callable[[Any], PyTree],
    pull: Callable[[PyTree], Any],
    start: Float[Array, "n ..."],
    rounds: int,
) -> PowerNorms:
    """Returns the norms of n linear maps, `pull` being the transposes of `push`.

    Args:
        push: From vectors [n, ...] to a tree of arrays [n, ...]; sample by sample.
        pull: Back again.
        start: One vector a sample.
        rounds: Products with both.
    """
    first = _over(start, _lengths(start), start)
    vectors = jax.lax.fori_loop(0, rounds, lambda _, v: _unit(pull(push(v)), v), first)
    image = push(vectors)
    values, back = _lengths(image), pull(image)
    off = _lengths(back - _column(values**2, vectors) * vectors)
    residuals = jnp.where(values > 0, off / jnp.where(values > 0, values, 1), 0)
    return PowerNorms(values, residuals, _unit(back, vectors))


def by_chunks(function: Callable[[Any], Any], rows: PyTree, chunk: int | None) -> Any:
    """Returns what a function of rows [n, ...] finds for them, `chunk` rows at a time.

    In a loop: XLA:CPU computes gradients of convolutions slowly there, unless they are written for
    it as those of `common.nets` are.

    Raises:
        ValueError: If `chunk` is below 1.
    """
    count = len(jax.tree.leaves(rows)[0])
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk}: expected at least 1, or None for all rows at once")
    if chunk is None or chunk >= count:
        return function(rows)
    whole = count // chunk * chunk
    stacked = jax.tree.map(lambda x: x[:whole].reshape(-1, chunk, *x.shape[1:]), rows)
    found = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), jax.lax.map(function, stacked))
    if whole == count:
        return found
    rest = function(jax.tree.map(lambda x: x[whole:], rows))
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), found, rest)


def _pull_back(predict: Predict, params: PyTree, inputs: Array) -> tuple[Array, Callable]:
    outputs, pull_back = jax.vjp(lambda x: predict(params, x), inputs)
    if outputs.ndim != 2 or len(outputs) != len(inputs):
        raise ValueError(
            f"predict returned shape {outputs.shape} for {len(inputs)} samples: expected [n, k]"
        )
    return outputs, pull_back


def _jacobians(predict: Predict, params: PyTree, inputs: Array) -> Float[Array, "n k d"]:
    outputs, pull_back = _pull_back(predict, params, inputs)
    n, k = outputs.shape
    units = jnp.broadcast_to(jnp.eye(k, dtype=outputs.dtype)[:, None], (k, n, k))
    rows = _flat(jax.vmap(lambda u: pull_back(u)[0])(units), 2)  # [k, n, d]
    return jnp.moveaxis(rows, 0, 1)


def _flat(x: Array, axes: int) -> Array:
    """Returns an array with its axes after the first ones as one, no narrower than float32."""
    return x.reshape(*x.shape[:axes], -1).astype(wide(x.dtype))


def _lengths(tree: PyTree) -> Float[Array, " n"]:
    """Returns the length of every sample of a tree of arrays [n, ...]."""
    return jnp.sqrt(sum(jnp.sum(_flat(x, 1) ** 2, axis=1) for x in jax.tree.leaves(tree)))


def _unit(vectors: Array, otherwise: Array) -> Array:
    """Returns vectors of length 1; others in place of those that are 0."""
    return _over(vectors, _lengths(vectors), otherwise)


def _over(vectors: Array, lengths: Array, otherwise: Array) -> Array:
    lengths = _column(lengths, vectors)
    unit = vectors / jnp.where(lengths > 0, lengths, 1)
    return jnp.where(lengths > 0, unit, otherwise).astype(vectors.dtype)


def _column(numbers: Array, like: Array) -> Array:
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))
