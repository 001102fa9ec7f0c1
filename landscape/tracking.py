"""The sharpness along a training run: a few products a time, from where the last ones ended.

The largest eigenvalue of the Hessian and its eigenvector change little over some updates of
training, so a small Krylov space that begins at the last Ritz vector holds the new one. Everything
here is pure and can be part of a training step; the gradient comes with it, since a product is the
derivative of the gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from common.gradient_types import WithState, carrying
from common.gradients import Gradient, plain
from common.gradients import Loss as StepLoss
from common.steps import Metrics, TrainState, gradient_step
from landscape.products import GaussNewton, Loss
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

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]
TOLERANCE = 0.05  # residual / eigenvalue at which rounds end
ROUNDS = 4  # products for each vector at most


class Top(NamedTuple):
    """The largest eigenvalues of a symmetric operator, as far as they were found.

    Attributes:
        values: Ritz values, the largest first; the first is at most the largest eigenvalue.
        residuals: ||A v - theta v||: an eigenvalue lies within so much of each.
        vectors: Unit Ritz vectors v, rows.
        ahead: A v / theta: where the next search begins, a step of the power method further. An
            eigenvalue that overtakes is seen sooner, at no cost.
        num_products: How many products it took.
    """

    values: Float[Array, " k"]
    residuals: Float[Array, " k"]
    vectors: Float[Array, "k n"]
    ahead: Float[Array, "k n"]
    num_products: Int[Array, ""]


class TrackedState(NamedTuple):
    """A training state that knows where the eigenvectors were.

    Attributes:
        train: What training changes.
        vectors: The last eigenvector by matrix: "hessian", and "gauss_newton" if that is tracked.
    """

    train: TrainState
    vectors: dict[str, Float[Array, "1 n"]]

    @property
    def params(self) -> PyTree:
        """The parameters."""
        return self.train.params


def start_vectors(key: PRNGKeyArray, params: PyTree, k: int = 1) -> Float[Array, "k n"]:
    """Returns random vectors to begin with: nothing is exact before the second or third search."""
    layout = layout_of(params)
    return jax.random.normal(key, (k, layout.size), layout.dtype)


def track(
    function: Loss | GaussNewton,
    params: PyTree,
    batch: PyTree,
    vectors: Float[Array, "k n"],
    *,
    tolerance: float = TOLERANCE,
    max_rounds: int = ROUNDS,
) -> tuple[Float[Array, ""], PyTree, Top]:
    """Returns (loss, its gradient, the k largest eigenvalues of its Hessian) at `params`.

    Pure: for `jit`, `scan` and a training step of your own, which needs the gradient anyway.

    Args:
        function: loss(params, batch); of a `GaussNewton` the eigenvalues are those of its matrix.
        params: Any tree.
        batch: All data that the loss is averaged over.
        vectors: `ahead` of the last `Top`, or `start_vectors`.
        tolerance: Of `top_pairs`, as is the next one.
        max_rounds: Rounds at most.
    """
    layout = layout_of(params)
    if isinstance(function, GaussNewton):
        value, grads, product = _gauss_newton(function, layout, params, batch)
    else:
        both = lambda at: jax.value_and_grad(lambda p: (function(p, batch), None), has_aux=True)(at)
        ((value, _), grads), product = _hessian(both, layout, params)
    top = top_pairs(product, vectors, tolerance=tolerance, max_rounds=max_rounds)
    return value, grads, top


def top_pairs(
    product: Product,
    start: Float[Array, "k n"],
    *,
    tolerance: float = TOLERANCE,
    max_rounds: int = ROUNDS,
) -> Top:
    """Returns the k largest Ritz pairs of a block Krylov space that grows until it is enough.

    Source: Golub and Underwood (1977), block Lanczos. A round is a product with each of k vectors,
    the first with `start` itself: near enough, nothing else is done. Rounds end once all residuals
    are at most `tolerance` times the first value, or after `max_rounds`. A residual says that an
    eigenvalue is near, not that it is the largest: another one that has overtaken it is found
    as fast as its share in the vectors grows.
    """
    k, size = start.shape
    none = jnp.zeros((max_rounds * k, size), start.dtype)
    unknown = (start, jnp.zeros(k, start.dtype), start)

    def goes_on(carry: tuple) -> Array:
        i, _, _, _, (_, values, rest) = carry
        is_exact = jnp.all(jnp.linalg.norm(rest, axis=1) <= tolerance * jnp.abs(values[0]))
        return (i == 0) | (~is_exact & (i < max_rounds))

    def one_round(carry: tuple) -> tuple:
        i, basis, images, last, _ = carry
        block = _orthonormal(basis, last)
        last = product(block[0])[None] if k == 1 else jax.vmap(product)(block)
        basis = jax.lax.dynamic_update_slice_in_dim(basis, block, i * k, 0)
        images = jax.lax.dynamic_update_slice_in_dim(images, last, i * k, 0)
        return i + 1, basis, images, last, _rayleigh_ritz(basis, images, k)

    carry = (jnp.int32(0), none, none, start, unknown)
    rounds, *_, (vectors, values, rest) = jax.lax.while_loop(goes_on, one_round, carry)
    size = jnp.maximum(jnp.abs(values), jnp.finfo(start.dtype).tiny)[:, None]
    return Top(values, jnp.linalg.norm(rest, axis=1), vectors, vectors + rest / size, k * rounds)


def init_tracked_state(
    key: PRNGKeyArray, train: TrainState, *, gauss_newton: bool = False
) -> TrackedState:
    """Returns the state of a fresh run of `tracked_step`."""
    names = ("hessian", "gauss_newton") if gauss_newton else ("hessian",)
    keys = jax.random.split(key, len(names))
    pairs = zip(names, keys, strict=True)
    return TrackedState(train, {name: start_vectors(k, train.params) for name, k in pairs})


def tracked_step(
    loss: StepLoss | Any,
    optimizer: optax.GradientTransformation,
    *,
    every: int,
    limit: float,
    gradient: Gradient = plain,
    make: Callable[..., Any] = gradient_step,
    gauss_newton: GaussNewton | None = None,
    tolerance: float = TOLERANCE,
    max_rounds: int = ROUNDS,
) -> Callable[..., tuple[TrackedState, Metrics]]:
    """Returns a step of the training loop that makes `every` updates and looks at the sharpness.

    The sharpness is that of the parameters before the first of the updates, over what the step
    sees: with the whole training set in every batch, that of the training loss. Metrics are the
    means of those of all updates, with "sharpness", "sharpness_residual", "sharpness_products" and
    "limit"; "gauss_newton" and "gauss_newton_residual" if asked for.

    Args:
        loss: (params, data, batch, key) -> (scalar, metrics), or what else `make` takes.
        optimizer: Of all updates; schedules count updates, not steps.
        every: Updates in a step.
        limit: `stability.limit` of the optimizer.
        gradient: A gradient function of `common.gradients`. The Hessian is that of the loss itself,
            whose gradient is free if it is `plain`.
        make: `common.steps.gradient_step`, or `stateful_step` for a network with `model_state`.
        gauss_newton: Network and loss with the pair (data, batch) in the place of a batch.
        tolerance: Of `top_pairs`, as is the next one.
        max_rounds: Rounds at most.

    Raises:
        ValueError: If there is not at least one update.
    """
    if every < 1:
        raise ValueError(f"every={every}: expected at least 1 update in a step")
    options = dict(tolerance=tolerance, max_rounds=max_rounds)
    update = make(loss, optimizer, gradient=gradient)

    def step(
        state: TrackedState, data: PyTree, batch: PyTree, key: PRNGKeyArray
    ) -> tuple[TrackedState, Metrics]:
        layout, params, found = layout_of(state.params), state.params, {}

        keys = jax.random.split(key, every)
        look = lambda product: top_pairs(product, state.vectors["hessian"], **options)
        watched = _watched(gradient, layout, lambda p: found.update(hessian=look(p)))
        train, first = make(loss, optimizer, gradient=watched)(state.train, data, batch, keys[0])
        if gauss_newton is not None:
            _, _, product = _gauss_newton(gauss_newton, layout, params, (data, batch))
            found["gauss_newton"] = top_pairs(product, state.vectors["gauss_newton"], **options)
        metrics = first
        if every > 1:  # else there is no second program of an update to compile
            again = lambda train, key: update(train, data, batch, key)
            train, rest = jax.lax.scan(again, train, keys[1:])
            metrics = jax.tree.map(lambda x, more: (x + jnp.sum(more, axis=0)) / every, first, rest)
        vectors = {name: top.ahead for name, top in found.items()}
        return TrackedState(train, vectors), {**metrics, **_metrics(found, limit)}

    return step


def _watched(gradient: Gradient, layout: Layout, look: Callable[[Product], None]) -> Gradient:
    """Returns a gradient function that also shows `look` the product with the loss's Hessian."""

    def watched(loss: StepLoss) -> Any:
        value_and_grad = plain(loss)

        def value_and_watched_grad(params: PyTree, data: PyTree, batch: PyTree, key: Any) -> Any:
            bare = data.data if isinstance(data, WithState) else data
            of_loss = lambda params: value_and_grad(params, bare, batch, key)
            found, product = _hessian(of_loss, layout, params)
            look(product)
            if gradient is plain:
                return found
            # The same noise in both, on purpose.
            return gradient(loss)(params, data, batch, jax.random.clone(key))

        return value_and_watched_grad

    return carrying(gradient, watched)


def _metrics(found: dict[str, Top], limit: float) -> Metrics:
    named = {"hessian": "sharpness", "gauss_newton": "gauss_newton"}
    metrics: Metrics = {"limit": jnp.float32(limit)}
    for name, top in found.items():
        metrics[named[name]] = top.values[0]
        metrics[f"{named[name]}_residual"] = top.residuals[0]
    metrics["sharpness_products"] = found["hessian"].num_products.astype(jnp.float32)
    return metrics


def _hessian(value_and_grad: Any, layout: Layout, params: PyTree) -> tuple[Any, Product]:
    """Returns what `value_and_grad` does, and the product with the derivative of the gradient."""

    def gradient(leaves: list[Array]) -> tuple[list[Array], Any]:
        found = value_and_grad(with_moving(layout, params, leaves))
        return moving(layout, found[1], name="gradient"), found

    _, push, found = jax.linearize(gradient, moving(layout, params), has_aux=True)
    return found, lambda v: to_vector(layout, direction_of(layout, push(to_leaves(layout, v))))


def _gauss_newton(
    function: GaussNewton, layout: Layout, params: PyTree, batch: PyTree
) -> tuple[Array, PyTree, Product]:
    """Returns loss, gradient, and the product with J^T H_out J, from one pass of the network."""
    predict = lambda leaves: function.predict(with_moving(layout, params, leaves), batch)
    leaves = moving(layout, params)
    outputs, push = jax.linearize(predict, leaves)
    pull = jax.linear_transpose(push, leaves)

    def gradient(outputs: PyTree) -> tuple[PyTree, Array]:
        value, grads = jax.value_and_grad(lambda o: function.loss(o, batch))(outputs)
        return grads, value

    at_outputs, curve, value = jax.linearize(gradient, outputs, has_aux=True)

    def product(vector: Array) -> Array:
        (leaves,) = pull(curve(push(to_leaves(layout, vector))))
        return to_vector(layout, direction_of(layout, leaves))

    return value, direction_of(layout, pull(at_outputs)[0]), product


def _orthonormal(basis: Float[Array, "m n"], rows: Float[Array, "k n"]) -> Float[Array, "k n"]:
    """Returns unit vectors orthogonal to the basis and each other; 0 where nothing is left."""
    found: list[Array] = []
    for row in rows:
        size = jnp.linalg.norm(row)
        for _ in range(2):  # once is not enough in floating point
            for before in (basis, *(one[None] for one in found)):
                # Sums of products: of a few rows faster than as a matrix product.
                inner = jnp.sum(before * row[None], axis=1, keepdims=True)
                row = row - jnp.sum(before * inner, axis=0)
        length = jnp.linalg.norm(row)
        is_new = length > 10 * jnp.finfo(row.dtype).eps * size
        found.append(jnp.where(is_new, row / jnp.where(is_new, length, 1), 0))
    return jnp.stack(found)


def _rayleigh_ritz(
    basis: Float[Array, "m n"], images: Float[Array, "m n"], k: int
) -> tuple[Array, Array, Array]:
    """Returns (vectors, values, what A v - theta v leaves) of the k largest; rows may be 0."""
    inner = jnp.sum(basis[:, None] * images[None], axis=2)
    inner = (inner + inner.T) / 2
    # Rows of 0 are no directions: their values go below all others.
    is_row = jnp.sum(basis**2, axis=1) > 0.5
    low = -4 * jnp.sum(jnp.abs(inner)) - 1
    values, mix = jnp.linalg.eigh(inner + jnp.diag(jnp.where(is_row, 0, low)))
    values, mix = values[::-1][:k], mix[:, ::-1][:, :k]
    vectors, mapped = (jnp.sum(mix[:, :, None] * x[:, None], axis=0) for x in (basis, images))
    return vectors, values, mapped - values[:, None] * vectors
