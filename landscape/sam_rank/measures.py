"""What is measured of a two-layer network: its errors, its features, and SAM's step taken apart."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common import precision
from landscape.rank import feature_rank
from landscape.sam_rank import mechanism
from landscape.sam_rank.networks import TwoLayer, hidden, two_layer
from landscape.units import active_units, distinct_units

PyTree = Any


def of_network(params: TwoLayer, problem: PyTree, config: ConfigDict) -> dict[str, Array]:
    """Returns the numbers of an evaluation."""
    activation = config.model.activation
    inputs = problem["train"]["input"]
    features = hidden(params, inputs, activation)
    ranks = feature_rank(features, q=config.rank_share, centers=("none", "samples"))
    losses = {part: _loss(params, rows, activation) for part, rows in problem.items()}
    found = {
        **{f"{part}_loss": value for part, value in losses.items()},
        "test_loss_log10": jnp.log10(losses["test"]),
        "norm": precision.norm(params),
        "rank": ranks.none.rank,
        "pca_rank": ranks.samples.rank,
        "active": active_units(features, activation),
        "distinct": distinct_units(features),
    }
    if activation == "relu":
        found |= of_step(params, problem["train"], config.probe_rho)
    dtype = inputs.dtype
    return {name: jnp.asarray(value, dtype) for name, value in found.items()}


def of_step(params: TwoLayer, rows: PyTree, rho: float) -> dict[str, Array]:
    """Returns SAM's next step in its parts, over every example it may be taken on.

    Source: Andriushchenko et al. (2023), Sec. 5. Pre-activations are those of the example of the
    step, changes are over the learning rate, means are over examples and their active units.
    "remainder" is what the two parts leave of the change, relative to it, at rho; "remainder_order"
    says as which power of rho it falls, between rho and rho / 2. Both, and "exact_apart" of the
    closed form, count examples only at which the ascent switches no unit.
    """

    def of_example(x: Array, y: Array) -> dict[str, Array]:
        x, y = x[None], y[None]
        of = mechanism.forward(params, x, y)
        change = lambda gradient: mechanism.changes(of, gradient)[0]
        actual = {r: change(_sam_gradient(params, x, y, r)) for r in (rho, rho / 2)}
        parts = {r: mechanism.first_order(params, x, y, r) for r in (rho, rho / 2)}
        fit, regularization = (change(part) for part in parts[rho])
        left = {r: jnp.linalg.norm(actual[r] - sum(map(change, parts[r]))) for r in actual}
        exact = change(mechanism.exact_gradient(params, x, y, rho))
        size = jnp.linalg.norm(actual[rho])
        return {
            "on": of.on[0],
            "still": ~mechanism.switches(params, x, y, rho),
            "fit": fit,
            "regularization": regularization,
            "left": left[rho],
            "left_half": left[rho / 2],
            "exact": jnp.linalg.norm(exact - actual[rho]),
            "size": size,
        }

    found = jax.vmap(of_example)(rows["input"], rows["target"])
    on, still = found["on"], found["still"]
    total = lambda name: jnp.sum(jnp.where(still, found[name], 0))
    mean = lambda values: jnp.sum(jnp.where(on, values, 0)) / jnp.maximum(jnp.sum(on), 1)
    return {
        "fit_change": mean(jnp.abs(found["fit"])),
        "regularization_change": mean(found["regularization"]),
        "regularization_highest": jnp.max(found["regularization"]),
        "still_share": jnp.mean(still),
        "remainder": total("left") / total("size"),
        "remainder_order": jnp.log2(total("left") / total("left_half")),
        "exact_apart": total("exact") / total("size"),
    }


def _sam_gradient(
    params: TwoLayer, x: Float[Array, "n d"], y: Float[Array, " n"], rho: float
) -> TwoLayer:
    """Returns the gradient at the worst point, by differentiation."""
    slope = jax.grad(lambda params: _loss(params, {"input": x, "target": y}, "relu"))
    grads = slope(params)
    scale = rho / jnp.maximum(precision.norm(grads), jnp.finfo(jnp.float32).tiny)
    return slope(jax.tree.map(lambda p, g: p + scale * g, params, grads))


def _loss(params: TwoLayer, rows: PyTree, activation: str) -> Array:
    errors = two_layer(params, rows["input"], activation) - rows["target"]
    return jnp.mean(errors**2)
