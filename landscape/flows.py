"""Gradient flow, and the flow that gradient descent follows at the edge of stability.

Gradient descent with a learning rate eta follows gradient flow while the sharpness is below
2 / eta. At that edge it oscillates along the sharpest directions, which lowers the sharpness; the
central flow is the path around which it does.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint  # in JAX itself; diffrax would bring five packages
from jaxtyping import Array, Float, PRNGKeyArray

from landscape.products import Loss
from landscape.tracking import start_vectors, top_pairs
from landscape.vectors import (
    HIGHEST,
    Layout,
    PyTree,
    layout_of,
    moving,
    to_direction,
    to_leaves,
    to_vector,
    with_moving,
)

SOLVER_STEPS = 300  # of projected gradients, for a matrix of k x k
SETTLED = 20  # searches for the eigenvectors at the start


class CentralFlow(NamedTuple):
    """The path around which gradient descent oscillates, after every `every` steps.

    Attributes:
        params: Parameters, with a leading axis of times; the start is not among them.
        sharpness: The k largest eigenvalues of the Hessian there, as far as they were found.
        variance: Trace of the covariance Sigma of the oscillation; 0 below the edge. Gradient
            descent has on average the loss here and tr(Sigma) / eta more.
    """

    params: PyTree
    sharpness: Float[Array, "times k"]
    variance: Float[Array, " times"]


def gradient_flow(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    times: Float[Array, " times"],
    *,
    rtol: float = 1e-4,
    atol: float = 1e-6,
) -> PyTree:
    """Returns the parameters at rising times of d theta / dt = -grad L, with a leading axis.

    By Dormand and Prince's pair of orders 5 and 4 with steps that adapt to the error. One step
    of gradient descent takes the time eta. Pure; steps stay below about 3 / sharpness.

    Args:
        loss: loss(params, batch).
        params: Any tree of floats, at the first of the times.
        batch: All data.
        times: Rising.
        rtol: Error of a step, relative to every parameter.
        atol: Error of a step that is always allowed.
    """
    downhill = lambda params, _, batch: jax.tree.map(jnp.negative, jax.grad(loss)(params, batch))
    return odeint(downhill, params, jnp.asarray(times), batch, rtol=rtol, atol=atol)


def central_flow(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    *,
    learning_rate: float,
    num_steps: int,
    key: PRNGKeyArray,
    every: int = 1,
    k: int = 3,
    substeps: int = 4,
) -> CentralFlow:
    """Returns the path of the time average of full-batch gradient descent.

    Source: Cohen et al. (2025), central flows: d theta / dt = -grad(L + <H, Sigma> / 2), derived
    anew. An oscillation of covariance Sigma raises the mean gradient by grad <H, Sigma> / 2, the
    next term of its Taylor series. Sigma = U X U^T lies in the span U of the k sharpest directions,
    and X >= 0 is the least that keeps U^T H U <= 2 / eta: both are semidefinite and <X, 2 / eta -
    U^T H U> = 0. With k = 1 that is X = max(0, 2 <-grad lambda, grad L> / |grad lambda|^2)
    at lambda = 2 / eta.

    What is approximated: only k directions oscillate, found by warm-started products; Euler's
    steps of eta / substeps, at whose ends the sharpness is what the limit allows, to first order;
    terms beyond the third derivative are left out: large oscillations are not described. For
    gradient descent without momentum. Pure.

    Args:
        loss: loss(params, batch).
        params: Any tree of floats.
        batch: All data.
        learning_rate: eta.
        num_steps: Steps of gradient descent, a multiple of `every`.
        key: Of the first vectors.
        every: Steps between the returned points.
        k: How many directions may oscillate.
        substeps: In the time of one step; Euler's are stable up to a sharpness of 2 substeps / eta.

    Raises:
        ValueError: If the steps are no multiple of `every`, or there are fewer than 2 substeps.
    """
    if every < 1 or num_steps % every:
        raise ValueError(f"num_steps={num_steps}: expected a multiple of every={every}")
    if substeps < 2:
        raise ValueError(f"substeps={substeps}: expected at least 2: with 1 it is gradient descent")
    layout = layout_of(params)
    move = partial(_substep, loss, layout, batch, learning_rate, substeps)

    def settle(_: Any, vectors: Array) -> Array:
        return _top(loss, layout, params, batch, vectors)[1].vectors

    def save(carry: tuple, _: None) -> tuple[tuple, tuple]:
        zeros = (jnp.zeros((k,), layout.dtype), jnp.zeros((), layout.dtype))
        carry, *seen = jax.lax.fori_loop(
            0, every * substeps, lambda _, c: move(c[0]), (carry, *zeros)
        )
        return carry, (carry[0], *seen)

    vectors = jax.lax.fori_loop(0, SETTLED, settle, start_vectors(key, params, k))
    _, path = jax.lax.scan(save, (params, vectors), None, length=num_steps // every)
    return CentralFlow(*path)


def _top(loss: Loss, layout: Layout, params: PyTree, batch: PyTree, vectors: Array) -> Any:
    """Returns the gradient as a vector, and the largest eigenvalues of the Hessian."""
    at = lambda leaves: jax.grad(lambda x: loss(with_moving(layout, params, x), batch))(leaves)
    grads, push = jax.linearize(at, moving(layout, params))
    flat = lambda leaves: jnp.concatenate([x.reshape(-1).astype(layout.dtype) for x in leaves])
    product = lambda vector: flat(push(to_leaves(layout, vector)))
    return flat(grads), top_pairs(product, vectors, tolerance=1e-3, max_rounds=3)


def _substep(
    loss: Loss, layout: Layout, batch: PyTree, learning_rate: float, substeps: int, carry: tuple
) -> tuple[tuple, Array, Array]:
    """Returns (parameters and vectors, eigenvalues, tr X) after one of Euler's steps."""
    (params, vectors), dt = carry, learning_rate / substeps
    gradient, top = _top(loss, layout, params, batch, vectors)
    k = len(vectors)
    # Where even Euler's step, unhindered, would not pass the limit by a lot, most of this is 0.
    is_near = top.values[0] > 0.8 * 2 / learning_rate

    def force(_: None) -> tuple[Array, Array]:
        slopes = _slopes(loss, layout, params, batch, top.vectors)  # grad of u_i^T H u_j: [k, k, n]
        rises = jnp.einsum("ijn,n->ij", slopes, gradient, precision=HIGHEST)
        gram = jnp.einsum("ijn,kln->ijkl", slopes, slopes, precision=HIGHEST)
        # What is left to the limit after the step without a force.
        room = jnp.diag(2 / learning_rate - top.values) + dt * rises
        x = least_covariance(room, dt / 2 * gram)
        return jnp.einsum("ij,ijn->n", x, slopes, precision=HIGHEST) / 2, jnp.trace(x)

    none = lambda _: (jnp.zeros_like(gradient), jnp.zeros((), gradient.dtype))
    push, trace = jax.lax.cond(is_near, force, none, None)
    change = to_direction(layout, -dt * (gradient + push))
    moved = jax.tree.map(lambda x, d: (x + d).astype(x.dtype), params, change)
    return (moved, top.vectors), top.values[:k], trace


def _slopes(
    loss: Loss, layout: Layout, params: PyTree, batch: PyTree, vectors: Float[Array, "k n"]
) -> Float[Array, "k k n"]:
    """Returns the derivatives of u_i^T H u_j, from one product of third derivatives a pair."""
    theta = to_vector(layout, params)
    gradient = jax.grad(lambda v: loss(with_moving(layout, params, to_leaves(layout, v)), batch))
    along = lambda u, at: jax.jvp(gradient, (at,), (u,))[1]

    def slope(u: Array, v: Array) -> Array:
        return jax.jvp(partial(along, u), (theta,), (v,))[1]

    k = len(vectors)
    rows, columns = jnp.triu_indices(k)
    upper = jax.vmap(slope)(vectors[rows], vectors[columns])
    place = jnp.zeros((k, k), int).at[rows, columns].set(jnp.arange(len(rows)))
    return upper[jnp.maximum(place, place.T)]


def least_covariance(
    room: Float[Array, "k k"], gram: Float[Array, "k k k k"]
) -> Float[Array, "k k"]:
    """Returns X >= 0 with Y = room + gram(X) >= 0 and <X, Y> = 0, all semidefinite.

    These are the optimality conditions of min <X, gram(X)> / 2 + <room, X> over X >= 0, solved by
    accelerated projected gradients. `gram` is symmetric and positive semidefinite.
    """
    k = len(room)
    # Its trace bounds its largest eigenvalue.
    step = 1 / jnp.maximum(jnp.einsum("ijij->", gram), jnp.finfo(room.dtype).tiny)

    def projected(x: Array) -> Array:
        values, vectors = jnp.linalg.eigh((x + x.T) / 2)
        return (vectors * jnp.maximum(values, 0)[None]) @ vectors.T

    def improve(i: Array, carry: tuple) -> tuple:
        x, ahead = carry
        new = projected(ahead - step * (room + jnp.einsum("ijkl,kl->ij", gram, ahead)))
        # Momentum only while it helps: restarted where it points uphill.
        helps = jnp.vdot(ahead - new, new - x) <= 0
        return new, new + jnp.where(helps, i / (i + 3.0), 0) * (new - x)

    zero = jnp.zeros((k, k), room.dtype)
    return jax.lax.fori_loop(0, SOLVER_STEPS, improve, (zero, zero))[0]
