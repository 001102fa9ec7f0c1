"""The Gauss-Newton matrix by layers: its conjugate, the shares of layers, and what is left of H.

For a mean cost of n samples with k outputs each, H = G + R and G = DF^T C^T C DF. The conjugate,
the nk x nk matrix C DF DF^T C^T, has the nonzero eigenvalues of G; it is a sum of a term a layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from landscape.costs import Cost, roots
from landscape.jacobians import Predict
from landscape.products import GaussNewton, Loss
from landscape.vectors import HIGHEST, Layout, PyTree, layout_of, moving, with_moving


def layer_of(path: str) -> str:
    """Returns "params/conv1" for "params/conv1/kernel"; a parameter at the top is a layer."""
    parent, _, _ = path.rpartition("/")
    return parent if "/" in parent else path


def conjugate_terms(
    predict: Predict,
    cost: Cost,
    params: PyTree,
    inputs: Float[Array, "n ..."],
    targets: Array,
    *,
    frozen: str | None = None,
) -> dict[str, Float[Array, "nk nk"]]:
    """Returns C (J_L ... J_{l+1}) D_l D_l^T (J_L ... J_{l+1})^T C^T for every layer l, by its path.

    Source: MacDonald et al. (2023), Eq. 3; their sum is the conjugate of the Gauss-Newton matrix.
    Takes n k backward passes and memory for n k times the parameters.

    Args:
        predict: A network whose samples do not see one another.
        cost: Of every sample; the loss is its mean.
        params: Any tree; leaves side by side are one layer.
        inputs: Samples.
        targets: Of every sample, such as one-hot rows.
        frozen: Regex of parameters that are no part of it.

    Raises:
        ValueError: If the cost has no known square root, targets are not of the outputs' shape, or
            `frozen` matches nothing.
    """
    layout = layout_of(params, frozen=frozen)
    root = roots(cost, predict(params, inputs), targets) / len(inputs) ** 0.5
    terms: dict[str, Array] = {}
    leaves = _parameter_jacobians(predict, layout, params, inputs)
    for path, jacobian in zip(layout.moving_paths, leaves, strict=True):
        rows = jnp.einsum("nij,njp->nip", root, jacobian, precision=HIGHEST)
        rows = rows.reshape(-1, rows.shape[-1])  # [nk, p]
        term = jnp.einsum("ap,bp->ab", rows, rows, precision=HIGHEST)
        terms[layer_of(path)] = terms.get(layer_of(path), 0) + term
    return terms


def conjugate(
    predict: Predict,
    cost: Cost,
    params: PyTree,
    inputs: Float[Array, "n ..."],
    targets: Array,
    *,
    frozen: str | None = None,
) -> Float[Array, "nk nk"]:
    """Returns C DF DF^T C^T, whose nonzero eigenvalues are those of the Gauss-Newton matrix.

    Source: MacDonald et al. (2023), Eq. 3; arguments are those of `conjugate_terms`.

    Raises:
        ValueError: As `conjugate_terms`.
    """
    terms = conjugate_terms(predict, cost, params, inputs, targets, frozen=frozen)
    return sum(terms.values(), start=jnp.zeros(()))


def layer_shares(eigenvector: PyTree) -> dict[str, Float[Array, ""]]:
    """Returns the share of each layer's conjugate term of an eigenvalue of G, from its eigenvector.

    For G u = lambda u of length 1, w = C DF u / sqrt(lambda) is the eigenvector of the conjugate,
    and w^T K_l w = ||(DF^T C^T w)_l||^2 = lambda ||u_l||^2: the term of layer l has the share
    ||u_l||^2. The conjugate itself, nk x nk, is not needed.

    Args:
        eigenvector: A direction, such as `curvature.eigenpairs(GaussNewton(...)).vectors[0]`; of
            any length.
    """
    layout = layout_of(eigenvector)
    squares: dict[str, Array] = {}
    for path, leaf in zip(layout.moving_paths, moving(layout, eigenvector), strict=True):
        squares[layer_of(path)] = squares.get(layer_of(path), 0) + jnp.sum(leaf**2)
    total = sum(squares.values(), start=jnp.zeros(()))
    return {layer: square / total for layer, square in squares.items()}


def residual_loss(function: GaussNewton) -> Loss:
    """Returns a loss whose Hessian is R = H - G, the curvature of the network alone.

    R = sum_k (dc/dF_k) D^2 F_k is the Hessian of <g, F>, the gradient g of the loss in the outputs
    held fixed. Takes the place of the loss in every function of curvature and products; values are
    not those of the loss. Make it once: another one is another program.
    """

    def loss(params: PyTree, batch: PyTree) -> Any:
        outputs = function.predict(params, batch)
        gradient = jax.grad(lambda outputs: function.loss(outputs, batch))(outputs)
        pairs = zip(
            jax.tree.leaves(jax.lax.stop_gradient(gradient)), jax.tree.leaves(outputs), strict=True
        )
        return sum(jnp.vdot(g, f, precision=HIGHEST) for g, f in pairs)

    return loss


def _parameter_jacobians(
    predict: Predict, layout: Layout, params: PyTree, inputs: Array
) -> list[Float[Array, "n k p"]]:
    def one(leaves: list[Array], x: Array) -> Array:
        return predict(with_moving(layout, params, leaves), x[None])[0]

    found = jax.vmap(jax.jacrev(one), in_axes=(None, 0))(moving(layout, params), inputs)
    return [jacobian.reshape(*jacobian.shape[:2], -1) for jacobian in found]
