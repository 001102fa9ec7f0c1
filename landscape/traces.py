"""Traces of the Hessian from random probes, with standard errors: of all, of layers, of filters.

The expected filter-normalized sharpness is such a trace: the mean curvature of the loss along the
random directions of Li et al. (2018), a number in place of a picture.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from common.keys import split_apart
from landscape.filters import FLAX_RULES, FilterRules, deviations, vector_part
from landscape.products import GaussNewton, Loss, Operator, averaged
from landscape.vectors import HIGHEST, Layout, PyTree, to_vector

METHODS = ("hutchinson", "hutch++")


class Estimate(NamedTuple):
    """A mean over random probes.

    Attributes:
        value: The estimate.
        stderr: Its standard error, 0 where it is exact.
        num_products: How many Hessian products it took.
    """

    value: float
    stderr: float
    num_products: int


def trace(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    key: PRNGKeyArray,
    num_products: int = 48,
    method: str = "hutchinson",
    frozen: str | None = None,
    sizes: Sequence[float] | None = None,
) -> Estimate:
    """Returns the trace of the Hessian.

    Source: Hutchinson (1990), and Meyer et al. (2021), Hutch++.

    Args:
        loss: loss(params, batch), or a `GaussNewton`.
        params: Any tree.
        batches: A list of batches, see `products.averaged`.
        key: Of the probes.
        num_products: Hessian products to spend.
        method: hutchinson; or hutch++, which takes the trace of a random subspace exactly, better
            if a few eigenvalues dominate.
        frozen: Regex of parameters that are left out.
        sizes: Weights of the batches; None: their numbers of rows.

    Raises:
        ValueError: If the method is unknown, there are too few products for a standard error, or
            a regex matches nothing.
    """
    operator = averaged(loss, params, batches, frozen=frozen, sizes=sizes)
    scale = jnp.ones((operator.layout.size,), operator.layout.dtype)
    return _trace(operator, scale, key, num_products, method)


def layer_traces(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    key: PRNGKeyArray,
    num_products: int = 48,
    frozen: str | None = None,
    sizes: Sequence[float] | None = None,
) -> dict[str, Estimate]:
    """Returns the traces of the diagonal blocks of all parameters, by path, from the same probes.

    Raises:
        ValueError: If there are fewer than two products, or a regex matches nothing.
    """
    operator = averaged(loss, params, batches, frozen=frozen, sizes=sizes)
    scale = jnp.ones((operator.layout.size,), operator.layout.dtype)
    samples = _samples(operator, scale, key, num_products)
    columns = zip(operator.layout.moving_paths, samples.T, strict=True)
    return {path: _estimate(column, num_products) for path, column in columns}


def sharpness(
    loss: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    key: PRNGKeyArray,
    num_products: int = 48,
    method: str = "hutchinson",
    by: str = "filter",
    rules: FilterRules = FLAX_RULES,
    sizes: Sequence[float] | None = None,
) -> Estimate:
    """Returns the mean of d^T H d over filter-normalized random directions d.

    sum_f ||theta_f||^2 tr(H_ff) / n_f over filters f of n_f entries: the direction of a filter is
    uniform on a sphere of radius ||theta_f||, and filters are independent. Near a minimum the loss
    rises by half of it, times a^2, along theta + a d. Probes have the signs of Rademacher ones
    and the size of d's entries: less variance than drawing d.

    Args:
        loss: loss(params, batch), or a `GaussNewton`.
        params: Any tree.
        batches: A list of batches, see `products.averaged`.
        key: Of the probes.
        num_products: Hessian products to spend.
        method: hutchinson or hutch++.
        by: Another normalization of `filters.normalized`; "none" with no vectors is the trace.
        rules: What is a filter, what vectors do, what is frozen.
        sizes: Weights of the batches; None: their numbers of rows.

    Raises:
        ValueError: If the method or `by` is unknown, there are too few products for a standard
            error, or a regex matches nothing.
    """
    operator = averaged(loss, params, batches, frozen=rules.frozen, sizes=sizes)
    scale = _deviations(params, by, rules, operator.layout)
    found = _trace(operator, scale, key, num_products, method)
    if rules.vectors == "zero":
        return found
    fixed = _vector_part(params, rules, operator.layout)
    along = float(jnp.vdot(fixed, operator.apply(fixed), precision=HIGHEST))
    return Estimate(found.value + along, found.stderr, found.num_products + 1)


def _trace(
    operator: Operator, scale: Array, key: PRNGKeyArray, num_products: int, method: str
) -> Estimate:
    """Returns the trace of S A S for the diagonal matrix S of `scale`."""
    if method == "hutchinson":
        samples = _samples(operator, scale, key, num_products)
        return _estimate(np.sum(samples, axis=1), num_products)
    if method != "hutch++":
        raise ValueError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    return _hutch_plus_plus(lambda x: scale * operator.apply(scale * x), scale, key, num_products)


def _samples(operator: Operator, scale: Array, key: PRNGKeyArray, count: int) -> np.ndarray:
    """Returns u_l^T (A u)_l of every probe u, for the part l of every parameter: [probes, l]."""
    _check_enough(count, 2)
    ends = tuple(np.cumsum(operator.layout.sizes).tolist())
    rows = []
    for probe_key in split_apart(key, count):
        probe = _probe(probe_key, scale)
        rows.append(_dots(probe, operator.apply(probe), ends))
    return _finite(np.asarray(jax.device_get(rows), np.float64))


def _hutch_plus_plus(
    product: Callable[[Array], Array], scale: Array, key: PRNGKeyArray, count: int
) -> Estimate:
    third = min(count // 3, scale.size)
    _check_enough(count, 6)
    ones = jnp.ones_like(scale)
    first, second = jax.random.split(key)
    sketch = [product(_probe(k, ones)) for k in split_apart(first, third)]
    basis = _orthonormal(sketch)  # [n, r]
    columns = (_column(basis, i) for i in range(third))
    exact = sum(_numbers([_vdot(q, product(q)) for q in columns]))
    if third == scale.size:
        return Estimate(exact, 0.0, 2 * third)
    keys = split_apart(second, count - 2 * third)
    probes = (_without(basis, _probe(probe_key, ones)) for probe_key in keys)
    samples = _numbers([_vdot(probe, product(probe)) for probe in probes])
    rest = _estimate(np.array(samples), count)
    return Estimate(exact + rest.value, rest.stderr, count)


def _numbers(found: list[Array]) -> list[float]:
    """Returns numbers from the device, once all are on their way: none waits for one before it."""
    return [float(x) for x in jax.device_get(found)]


def _estimate(samples: np.ndarray, count: int) -> Estimate:
    error = np.std(_finite(samples), ddof=1) / math.sqrt(len(samples))
    return Estimate(float(np.mean(samples)), float(error), count)


def _check_enough(count: int, least: int) -> None:
    if count < least:
        raise ValueError(
            f"num_products={count}: a standard error needs at least {least} Hessian products"
        )


def _finite(samples: np.ndarray) -> np.ndarray:
    if not np.all(np.isfinite(samples)):
        raise ValueError("the curvature of the loss is not finite at these parameters")
    return samples


@partial(jax.jit, static_argnames=("by", "rules", "layout"))
def _deviations(params: PyTree, by: str, rules: FilterRules, layout: Layout) -> Array:
    return to_vector(layout, deviations(params, by=by, rules=rules))


@partial(jax.jit, static_argnames=("rules", "layout"))
def _vector_part(params: PyTree, rules: FilterRules, layout: Layout) -> Array:
    return to_vector(layout, vector_part(params, rules))


@jax.jit
def _probe(key: PRNGKeyArray, scale: Array) -> Array:
    return scale * jax.random.rademacher(key, scale.shape, scale.dtype)


@partial(jax.jit, static_argnames="ends")
def _dots(x: Array, y: Array, ends: tuple[int, ...]) -> Float[Array, " leaves"]:
    starts = (0, *ends[:-1])
    parts = [_vdot(x[a:b], y[a:b]) for a, b in zip(starts, ends, strict=True)]
    return jnp.stack(parts)


@jax.jit
def _orthonormal(columns: list[Array]) -> Float[Array, "n r"]:
    return jnp.linalg.qr(jnp.stack(columns, axis=1))[0]


@jax.jit
def _column(basis: Float[Array, "n r"], i: Any) -> Float[Array, " n"]:
    return basis[:, i]


@jax.jit
def _without(basis: Array, x: Array) -> Array:
    inner = jnp.einsum("nr,n->r", basis, x, precision=HIGHEST)
    return x - jnp.einsum("nr,r->n", basis, inner, precision=HIGHEST)


def _vdot(x: Any, y: Any) -> Array:
    return jnp.vdot(x, y, precision=HIGHEST)
