"""Products of the Hessian or the Gauss-Newton matrix with directions, averaged over batches.

The Hessian is never formed: a product costs a few gradients, however many parameters there are.
Curvature is that of float32 parameters where they are narrower: in bfloat16 it would be noise.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from landscape.vectors import (
    Layout,
    PyTree,
    direction_of,
    layout_of,
    moving,
    to_leaves,
    to_vector,
    with_moving,
)

KEPT = 2**30  # bytes of a gradient that may stay in memory between products
Loss: TypeAlias = Callable[[PyTree, PyTree], Any]  # (params, batch) -> mean over the batch


class GaussNewton(NamedTuple):
    """A loss in two parts, whose curvature is that of its outputs alone: J^T H_out J.

    Positive semidefinite if `loss` is convex in the outputs, and free of the curvature of the
    network itself. Takes the place of the loss in every function of curvature.

    Attributes:
        predict: (params, batch) -> outputs of the network.
        loss: (outputs, batch) -> mean loss over the batch.
    """

    predict: Callable[[PyTree, PyTree], PyTree]
    loss: Callable[[PyTree, PyTree], Any]

    def value(self, params: PyTree, batch: PyTree) -> Any:
        """Returns the loss itself."""
        return self.loss(self.predict(params, batch), batch)


class Operator(NamedTuple):
    """A symmetric linear map of directions, as vectors.

    Attributes:
        apply: Its product with a vector; compiled once, and called from Python.
        layout: Where parameters lie in the vectors.
    """

    apply: Callable[[Float[Array, " n"]], Float[Array, " n"]]
    layout: Layout


def hessian_product(
    loss: Loss, params: PyTree, batch: PyTree, direction: PyTree, *, frozen: str | None = None
) -> PyTree:
    """Returns H d for the Hessian H of the loss at `params`, as a direction.

    Source: Pearlmutter (1994); the derivative of the gradient along d, forward over reverse. Pure:
    works under jit, vmap and shard_map.

    Raises:
        ValueError: If the direction is of another tree, or the loss is not one number.
    """
    layout = layout_of(params, frozen=frozen)
    product = _hessian(loss, layout, params, batch, moving(layout, direction, name="direction"))
    return direction_of(layout, product)


def gauss_newton_product(
    function: GaussNewton,
    params: PyTree,
    batch: PyTree,
    direction: PyTree,
    *,
    frozen: str | None = None,
) -> PyTree:
    """Returns J^T (H_out (J d)), H_out being the Hessian of the loss in the outputs.

    Source: Schraudolph (2002). Pure: works under jit, vmap and shard_map.

    Raises:
        ValueError: If the direction is of another tree, or the loss is not one number.
    """
    layout = layout_of(params, frozen=frozen)
    leaves = moving(layout, direction, name="direction")
    return direction_of(layout, _gauss_newton(function, layout, params, batch, leaves))


def averaged(
    function: Loss | GaussNewton,
    params: PyTree,
    batches: Iterable[PyTree],
    *,
    frozen: str | None = None,
    sizes: Sequence[float] | None = None,
) -> Operator:
    """Returns the Hessian (or Gauss-Newton matrix) of the loss over all batches, as an operator.

    The program of a product takes parameters and data as arguments: it is compiled once for a
    function and shapes, whatever the parameters, and nothing is folded into it. It is called from
    Python, batch by batch, since XLA:CPU computes gradients of convolutions slowly in loops. What
    the derivative of a gradient needs of the gradient itself is computed once and kept, where that
    is less than `KEPT` bytes for a list of batches; else anew for every product.

    Args:
        function: loss(params, batch), or a `GaussNewton`. Pass the same object again: a new
            lambda is a new program.
        params: Any tree.
        batches: A list of batches, put on the device once; or an object that makes them anew each
            time it is iterated over, when they are more than the memory holds.
        frozen: Regex of parameters that are not moved; the Hessian is that of the others.
        sizes: Weights of the batches; None: their numbers of rows.

    Raises:
        ValueError: If `frozen` matches nothing, there are no batches, their sizes are unclear, or
            `batches` is a single batch.
    """
    layout = layout_of(params, frozen=frozen)
    batches = placed(batches)
    weights = _weights(batches, sizes)
    kept = cache(partial(_linear_maps, function, layout, params, batches))  # of the first product

    def apply(vector: Float[Array, " n"]) -> Float[Array, " n"]:
        total = jnp.zeros_like(vector)
        if (linear_maps := kept()) is not None:
            for weight, linear in zip(weights, linear_maps, strict=True):
                total = _add_linear(total, weight, linear, vector, layout)
            return total
        for weight, batch in zip(weights, batches, strict=True):
            total = _add_product(total, weight, params, batch, vector, function, layout)
        return total

    return Operator(apply, layout)


def _linear_maps(
    function: Loss | GaussNewton, layout: Layout, params: PyTree, batches: Any
) -> list[Any] | None:
    """Returns tangents -> derivative of the gradient, for every batch; None if too large."""
    if isinstance(function, GaussNewton) or not isinstance(batches, list):
        return None
    shapes = [jax.eval_shape(_linearized, params, batch, function, layout) for batch in batches]
    if sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes)) > KEPT:
        return None
    return [_linearized(params, batch, function, layout) for batch in batches]


def product_with(
    function: Loss | GaussNewton, layout: Layout, params: PyTree, batch: PyTree, vector: Array
) -> Float[Array, " n"]:
    """Returns the product of one batch with a vector; pure."""
    tangents = to_leaves(layout, vector)
    if isinstance(function, GaussNewton):
        leaves = _gauss_newton(function, layout, params, batch, tangents)
    else:
        leaves = _hessian(function, layout, params, batch, tangents)
    return to_vector(layout, direction_of(layout, leaves))


def _hessian(
    loss: Any, layout: Layout, params: PyTree, batch: PyTree, tangents: list[Array]
) -> list[Array]:
    gradient = _gradient(loss, layout, params, batch)
    return jax.jvp(gradient, (moving(layout, params),), (tangents,))[1]


def _gradient(
    loss: Any, layout: Layout, params: PyTree, batch: PyTree
) -> Callable[[list[Array]], list[Array]]:
    def at(leaves: list[Array]) -> Any:
        return _one_number(loss(with_moving(layout, params, leaves), batch))

    return jax.grad(at)


@partial(jax.jit, static_argnames=("function", "layout"))
def _linearized(params: PyTree, batch: PyTree, function: Any, layout: Layout) -> Any:
    """Returns tangents -> derivative of the gradient, as a tree that holds what it needs."""
    return jax.linearize(_gradient(function, layout, params, batch), moving(layout, params))[1]


@partial(jax.jit, static_argnames="layout", donate_argnames="total")
def _add_linear(total: Array, weight: Any, linear: Any, vector: Array, layout: Layout) -> Array:
    product = to_vector(layout, direction_of(layout, linear(to_leaves(layout, vector))))
    return total + (weight * product).astype(total.dtype)


def _gauss_newton(
    function: GaussNewton, layout: Layout, params: PyTree, batch: PyTree, tangents: list[Array]
) -> list[Array]:
    predict = lambda leaves: function.predict(with_moving(layout, params, leaves), batch)
    loss = lambda outputs: _one_number(function.loss(outputs, batch))
    leaves = moving(layout, params)
    outputs, pull_back = jax.vjp(predict, leaves)
    changes = jax.jvp(predict, (leaves,), (tangents,))[1]
    return pull_back(jax.jvp(jax.grad(loss), (outputs,), (changes,))[1])[0]


@partial(jax.jit, static_argnames=("function", "layout"), donate_argnames="total")
def _add_product(
    total: Array,
    weight: Any,
    params: PyTree,
    batch: PyTree,
    vector: Array,
    function: Any,
    layout: Layout,
) -> Array:
    product = product_with(function, layout, params, batch, vector)
    return total + (weight * product).astype(total.dtype)


def _one_number(value: Any) -> Any:
    if jnp.shape(value) != ():
        raise ValueError(f"loss has shape {jnp.shape(value)}: expected one number, a mean of rows")
    return value


def placed(batches: Iterable[PyTree]) -> Any:
    """Returns a list of batches on the device, where it stays; an object that makes them as it is.

    Raises:
        ValueError: If `batches` is a single batch, or can be iterated over only once.
    """
    if isinstance(batches, tuple | dict) or hasattr(batches, "shape"):
        kind = type(batches).__name__
        raise ValueError(f"batches is one {kind}: expected a list of batches, such as [batch]")
    if isinstance(batches, Iterator):
        raise ValueError("batches can be iterated over only once: expected a list of batches")
    if isinstance(batches, list):
        return [jax.tree.map(jnp.asarray, batch) for batch in batches]
    return batches


def _weights(batches: Iterable[PyTree], sizes: Sequence[float] | None) -> list[float]:
    """Returns the share of every batch in the mean over all of them."""
    rows = [_rows(batch) for batch in batches]
    if not rows:
        raise ValueError("batches is empty: expected at least one batch")
    if sizes is None:
        unclear = [i for i, count in enumerate(rows) if count is None]
        if unclear and len(rows) > 1:
            raise ValueError(
                f"batches[{unclear[0]}] has arrays of different lengths, or none: give `sizes`"
            )
        sizes = [1.0] if len(rows) == 1 else [float(count or 0) for count in rows]
    if len(sizes) != len(rows) or min(sizes) < 0 or not sum(sizes) > 0:
        raise ValueError(f"sizes={list(sizes)}: expected {len(rows)} numbers above 0")
    return [size / sum(sizes) for size in sizes]


def _rows(batch: PyTree) -> int | None:
    lengths = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if jnp.shape(leaf)}
    return lengths.pop() if len(lengths) == 1 else None
