"""What is watched along a training: Jacobians, the Gauss-Newton matrix and its parts, the bound.

Functions of parameters and rows, for `jit`; means and maxima are over samples.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from landscape import lipschitz
from landscape.conjugates import layer_shares
from landscape.costs import CROSS_ENTROPY, Cost, curvatures
from landscape.jacobians import JacobianNorms, jacobian_norms, softmaxed
from landscape.layerwise import (
    alignment_ratios,
    layer_norms,
    parameter_norms,
    random_starts,
)
from landscape.products import GaussNewton
from landscape.sharpening.networks import Network
from landscape.tracking import track
from landscape.vectors import layout_of, to_direction

PyTree = Any
Numbers = dict[str, Array]


class Watched(NamedTuple):
    """What numbers are taken of.

    Attributes:
        network: The network.
        cost: Of every sample; the loss is its mean.
        statistics: Running statistics of the network, or {}.
        section: `config.watch`.
    """

    network: Network
    cost: Cost
    statistics: PyTree
    section: ConfigDict

    def predict(self, params: PyTree, inputs: Array) -> Array:
        """Returns outputs of samples that do not see one another."""
        return self.network.apply(params, self.statistics, inputs)[0]


def numbers(
    watched: Watched, params: PyTree, rows: PyTree, start: Float[Array, "1 n"], key: PRNGKeyArray
) -> Numbers:
    """Returns everything that is watched at some parameters.

    Args:
        watched: What it is taken of.
        params: Parameters.
        rows: {"input", "target"}: all training images, in their order.
        start: Where the search for the largest eigenvalues begins: anything, or an eigenvector of
            parameters nearby.
        key: Of the starts of power iterations.
    """
    some = jax.tree.map(lambda x: x[: watched.section.samples], rows)
    norms = {
        name: jacobian_norms(predict, params, some["input"], chunk=watched.section.chunk)
        for name, predict in (("output", watched.predict), ("softmax", softmaxed(watched.predict)))
    }
    found = {**of_jacobians(watched, params, some, norms), **of_bound(watched, params, some)}
    found |= of_curvature(watched, params, rows, start)
    if watched.network.layers:
        found |= of_layers(watched, params, some["input"], norms["output"].spectral, key)
    return found


def of_jacobians(
    watched: Watched, params: PyTree, rows: PyTree, norms: dict[str, JacobianNorms]
) -> Numbers:
    """Returns norms of the Jacobians of outputs and of their softmax, and the cost's curvature.

    Source: MacDonald et al. (2023), Fig. 1; "cost_curvature" is lambda_max(C^T C) of a sample, by
    which sharpness and Jacobians may part.
    """
    found = {}
    for name, (spectral, frobenius) in norms.items():
        found |= {
            f"{name}_jacobian": jnp.mean(spectral),
            f"{name}_jacobian_max": jnp.max(spectral),
            f"{name}_jacobian_frobenius": jnp.sqrt(jnp.mean(frobenius**2)),
        }
    bent = curvatures(watched.cost, watched.predict(params, rows["input"]), rows["target"])
    return {**found, "cost_curvature": jnp.mean(bent)}


def of_curvature(
    watched: Watched, params: PyTree, rows: PyTree, start: Float[Array, "1 n"]
) -> Numbers:
    """Returns the sharpness, its twin of the Gauss-Newton matrix, and the layers' shares of that.

    Source: MacDonald et al. (2023), Eq. 3: the share of the first layer's term, which has all the
    other layers' Jacobians in it, and of the last one's, which has none.
    """
    matrix = GaussNewton(  # of the network as it is trained, normalized by all of these rows
        partial(_as_trained, watched),
        lambda outputs, rows: jnp.mean(watched.cost.value(outputs, rows["target"])),
    )
    found, vectors = {}, {}
    for name, function in (("sharpness", matrix.value), ("gauss_newton", matrix)):
        _, _, top = track(
            function, params, rows, start, tolerance=0.0, max_rounds=watched.section.products
        )
        vectors[name] = top.vectors[0]
        found |= {name: top.values[0], f"{name}_residual": top.residuals[0]}
    top_direction = to_direction(layout_of(params), vectors["gauss_newton"])
    shares = list(layer_shares(top_direction).values())
    return {**found, "first_share": shares[0], "last_share": shares[-1]}


def _as_trained(watched: Watched, params: PyTree, rows: PyTree) -> Array:
    return watched.network.apply(params, watched.statistics, rows["input"], train=True)[0]


def of_layers(
    watched: Watched,
    params: PyTree,
    inputs: Float[Array, "n ..."],
    norms: Float[Array, " n"],
    key: PRNGKeyArray,
) -> Numbers:
    """Returns ||J_l|| and ||D_l|| of every layer, and how well layers align.

    Source: MacDonald et al. (2023), Eq. 3, for the norms; Lowell and Kastner (2024) for the ratio.
    """
    layers, rounds = watched.network.layers, watched.section.rounds
    starts = random_starts(key, layers, params, inputs)
    by_layer = layer_norms(layers, params, inputs, starts[:-1], rounds=rounds)
    own = parameter_norms(layers, params, inputs, starts[1:], rounds=rounds)
    found = {"alignment": jnp.mean(alignment_ratios(norms, by_layer))}
    for place, (of_input, of_params) in enumerate(zip(by_layer, own, strict=True), 1):
        found[f"layer{place}_jacobian"] = jnp.mean(of_input.values)
        found[f"layer{place}_parameters"] = jnp.mean(of_params.values)
    return found


def of_bound(watched: Watched, params: PyTree, rows: PyTree) -> Numbers:
    """Returns the largest lower bounds of a Jacobian by pairs of samples, and what is there.

    Source: MacDonald et al. (2023), Thm 5.1: what training to a low loss costs. The bound is that
    of the outputs for squared cost and of the softmax for cross-entropy; "bound_share" is the
    largest ratio, over some pairs, of the bound to the largest Jacobian on the segment between
    them: never above 1.
    """
    outputs, targets = watched.predict(params, rows["input"]), rows["target"]
    predict = watched.predict
    costs = watched.cost.value(outputs, targets)
    if watched.cost is CROSS_ENTROPY:
        predict = softmaxed(watched.predict)
        errors = lipschitz.errors_of_cross_entropy(costs, targets)
    else:
        errors = lipschitz.errors_of_squared(costs)
    ratios = lipschitz.pair_ratios(rows["input"], targets, errors)
    largest, places = jax.lax.top_k(ratios.reshape(-1), watched.section.pairs)
    first, second = (rows["input"][i] for i in jnp.unravel_index(places, ratios.shape))
    norms = lipschitz.segment_norms(predict, params, first, second)
    return {"bound": largest[0], "bound_share": jnp.max(largest / norms)}
