"""Convex costs of outputs and targets, with square roots C of their Hessian in the outputs.

C^T C = D^2 c at one sample. Any C with this product serves: the Gauss-Newton matrix is the same,
and so is the spectrum of its conjugate.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from landscape.jacobians import matrix_norms

Outputs: TypeAlias = Float[Array, "n k"]
Function: TypeAlias = Callable[[Outputs, Outputs], Float[Array, "n ..."]]
ROUNDING = 100  # a negative eigenvalue of so many eps k of the largest is rounding


class Cost(NamedTuple):
    """A cost of every sample.

    Attributes:
        value: (outputs [n, k], targets [n, k]) -> costs [n].
        root: (outputs [n, k], targets [n, k]) -> C [n, k, k]; None where it is not known.
    """

    value: Function
    root: Function | None = None


def _squared(outputs: Outputs, targets: Outputs) -> Float[Array, " n"]:
    return jnp.sum((outputs - targets) ** 2, axis=1) / 2


def _identities(outputs: Outputs, targets: Outputs) -> Float[Array, "n k k"]:
    del targets
    n, k = outputs.shape
    return jnp.broadcast_to(jnp.eye(k, dtype=outputs.dtype), (n, k, k))


def _cross_entropy(outputs: Outputs, targets: Outputs) -> Float[Array, " n"]:
    return -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=1)


def _root_of_softmax(outputs: Outputs, targets: Outputs) -> Float[Array, "n k k"]:
    """Returns (I - s s^T) diag(s) for s = sqrt(p): a unit vector, so that this is a projection."""
    s = jnp.exp(jax.nn.log_softmax(outputs) / 2)
    projection = jnp.eye(s.shape[1], dtype=s.dtype)[None] - s[:, :, None] * s[:, None]
    return jnp.sqrt(jnp.sum(targets, axis=1))[:, None, None] * projection * s[:, None]


SQUARED = Cost(_squared, _identities)  # ||f - y||^2 / 2
CROSS_ENTROPY = Cost(_cross_entropy, _root_of_softmax)  # of a softmax, with soft targets or one-hot
COSTS = {"squared": SQUARED, "cross_entropy": CROSS_ENTROPY}


def cost_named(name: str) -> Cost:
    """Returns the cost of this name.

    Raises:
        ValueError: If no square root of its Hessian is known.
    """
    if name not in COSTS:
        raise ValueError(
            f"cost={name!r}: no square root of its Hessian is known, only of "
            f"{', '.join(COSTS)}; `costs.from_hessian` takes one from the Hessian of a convex cost"
        )
    return COSTS[name]


def from_hessian(value: Function) -> Cost:
    """Returns any twice differentiable convex cost, C from the eigenvalues of its own Hessian.

    Where it is not convex, C is not a number. `check_convex` says so before.
    """

    def root(outputs: Outputs, targets: Outputs) -> Float[Array, "n k k"]:
        values, vectors = jnp.linalg.eigh(_hessians(value, outputs, targets))
        kept = jnp.where(values < -_tolerance(values), jnp.nan, jnp.maximum(values, 0))
        return jnp.sqrt(kept)[:, :, None] * jnp.swapaxes(vectors, 1, 2)

    return Cost(value, root)


def check_convex(cost: Cost, outputs: Outputs, targets: Outputs) -> None:
    """Checks that the cost is convex in the outputs where they are.

    Raises:
        ValueError: Naming the sample at which its Hessian has the smallest eigenvalue, below 0.
    """
    least, tolerance = map(np.asarray, _least_eigenvalues(cost.value, outputs, targets))
    row = int(np.argmin(least))
    if not least[row] >= -tolerance[row]:
        raise ValueError(
            f"cost is not convex in the outputs: its Hessian at sample {row} has the eigenvalue "
            f"{least[row]:.3g}, expected none below 0"
        )


def roots(cost: Cost, outputs: Outputs, targets: Array) -> Float[Array, "n k k"]:
    """Returns C at every sample, without the 1 / sqrt(n) of a mean.

    Source: MacDonald et al. (2023), Eq. 3; C is the identity for squared cost, and for the softmax
    a square root of diag(p) - p p^T.

    Raises:
        ValueError: If the cost has no known square root, or targets are not of the outputs' shape.
    """
    if targets.shape != outputs.shape:
        raise ValueError(
            f"targets have shape {targets.shape}: expected {outputs.shape} as outputs; one-hot "
            "rows for classes"
        )
    if cost.root is None:
        raise ValueError(
            f"cost has no square root of its Hessian: expected one of {', '.join(COSTS)}, or "
            "`costs.from_hessian(cost.value)` if it is convex"
        )
    return cost.root(outputs, targets)


def curvatures(cost: Cost, outputs: Outputs, targets: Array) -> Float[Array, " n"]:
    """Returns the largest eigenvalue of D^2 c at every sample; their maximum over n is that of C.

    lambda_max(C^T C) = max_i / n for the mean of n costs. At most 1/2 for a softmax, and near 0
    where it is saturated: then the loss is flat although the network is steep.

    Raises:
        ValueError: As `roots`.
    """
    return matrix_norms(roots(cost, outputs, targets)).spectral ** 2


def _hessians(value: Function, outputs: Outputs, targets: Outputs) -> Float[Array, "n k k"]:
    one = lambda output, target: value(output[None], target[None])[0]
    return jax.vmap(jax.hessian(one))(outputs, targets)


@partial(jax.jit, static_argnames="value")
def _least_eigenvalues(value: Function, outputs: Outputs, targets: Outputs) -> tuple[Array, Array]:
    values = jnp.linalg.eigvalsh(_hessians(value, outputs, targets))
    return values[:, 0], _tolerance(values)[:, 0]


def _tolerance(values: Float[Array, "n k"]) -> Float[Array, "n 1"]:
    eps = float(jnp.finfo(values.dtype).eps)
    return ROUNDING * values.shape[1] * eps * jnp.max(jnp.abs(values), axis=1, keepdims=True)
