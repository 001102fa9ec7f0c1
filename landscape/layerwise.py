"""Networks as a sequence of layers: how much of a Jacobian is each layer's, and how they align.

f = f_L o ... o f_1, every layer being `(params, h [n, ...]) -> [n, ...]` with samples that do not
see one another. J_l is the derivative of layer l in its input, D_l in its own parameters; all at
the samples. Everything is pure, for `jit`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from landscape.jacobians import PowerNorms, Predict, by_chunks, power_iteration, power_norms
from landscape.vectors import PyTree

Layer: TypeAlias = Callable[[PyTree, Array], Array]  # (params of the layer, h [n, ...]) -> [n, ...]


def composed(layers: Sequence[Layer]) -> Predict:
    """Returns the network of these layers; its parameters are one tree for every layer."""
    return lambda params, inputs: activations(layers, params, inputs)[-1]


def activations(
    layers: Sequence[Layer], params: Sequence[PyTree], inputs: Float[Array, "n ..."]
) -> tuple[Float[Array, "n ..."], ...]:
    """Returns inputs, and outputs of every layer.

    Raises:
        ValueError: If there are not as many parameters as layers.
    """
    if len(layers) != len(params):
        raise ValueError(
            f"params has {len(params)} entries for {len(layers)} layers: expected as many"
        )
    found = [inputs]
    for layer, of_layer in zip(layers, params, strict=True):
        found.append(layer(of_layer, found[-1]))
    return tuple(found)


def random_starts(
    key: PRNGKeyArray, layers: Sequence[Layer], params: Sequence[PyTree], inputs: Any
) -> tuple[Float[Array, "n ..."], ...]:
    """Returns Gaussian numbers of the shapes of `activations`, where power iteration begins."""
    shapes = jax.eval_shape(lambda p, x: activations(layers, p, x), params, inputs)
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, shapes, strict=True))


def layer_norms(
    layers: Sequence[Layer],
    params: Sequence[PyTree],
    inputs: Float[Array, "n ..."],
    start: Sequence[Float[Array, "n ..."]],
    *,
    rounds: int = 10,
    chunk: int | None = None,
) -> tuple[PowerNorms, ...]:
    """Returns ||J_l|| at every sample, layer by layer.

    Source: MacDonald et al. (2023), Eq. 3: all J_l but the first are in the Gauss-Newton conjugate.

    Args:
        layers: The network.
        params: Of every layer.
        inputs: Samples.
        start: `random_starts` but the last, or the `vectors` found before: one for the input of
            each layer.
        rounds: Of power iteration.
        chunk: How many samples at a time; None: all at once.

    Raises:
        ValueError: If starts are not one a layer, or one is of another shape than its input.
    """
    _check_starts(start, layers)
    hidden = activations(layers, params, inputs)
    parts = zip(layers, params, hidden[:-1], start, strict=True)
    return tuple(
        power_norms(layer, p, h, v, rounds=rounds, chunk=chunk) for layer, p, h, v in parts
    )


def parameter_norms(
    layers: Sequence[Layer],
    params: Sequence[PyTree],
    inputs: Float[Array, "n ..."],
    start: Sequence[Float[Array, "n ..."]],
    *,
    rounds: int = 10,
    chunk: int | None = None,
) -> tuple[PowerNorms, ...]:
    """Returns ||D_l|| at every sample, layer by layer; 0 for layers without parameters.

    Source: MacDonald et al. (2023), Eq. 3. A sample needs as much memory as a layer's parameters.

    Args:
        layers: The network.
        params: Of every layer; all leaves floats.
        inputs: Samples.
        start: `random_starts` but the first, or the `vectors` found before: one for the output of
            each layer.
        rounds: Of power iteration on D_l D_l^T.
        chunk: How many samples at a time; None: all at once.

    Raises:
        ValueError: If starts are not one a layer.
    """
    _check_starts(start, layers)
    hidden = activations(layers, params, inputs)
    parts = zip(layers, params, hidden[:-1], start, strict=True)
    return tuple(_parameter_norms(layer, p, h, v, rounds, chunk) for layer, p, h, v in parts)


def alignment_ratios(norms: Float[Array, " n"], layers: Sequence[PowerNorms]) -> Float[Array, " n"]:
    """Returns ||J_f|| / prod_l ||J_l|| at every sample: 1 if the layers' top directions meet.

    Source: Lowell and Kastner (2024): layers that align, rather than grow, sharpen a network.

    Args:
        norms: ||J_f||.
        layers: What `layer_norms` returned.
    """
    product = math.prod(layer.values for layer in layers)
    return jnp.where(product > 0, norms / jnp.where(product > 0, product, 1), 0)


def _parameter_norms(
    layer: Layer, params: PyTree, h: Array, start: Array, rounds: int, chunk: int | None
) -> PowerNorms:
    if not jax.tree.leaves(params):
        zeros = jnp.zeros((len(h),), start.dtype)
        return PowerNorms(zeros, zeros, start)

    def norms(rows: tuple[Array, Array]) -> PowerNorms:
        h, vectors = rows

        def push(u: Array, x: Array) -> PyTree:  # D^T u, of one sample
            return jax.vjp(lambda p: layer(p, x[None])[0], params)[1](u)[0]

        def pull(change: PyTree, x: Array) -> Array:
            return jax.jvp(lambda p: layer(p, x[None])[0], (params,), (change,))[1]

        over = lambda function: lambda v: jax.vmap(function)(v, h)
        return power_iteration(over(push), over(pull), vectors, rounds)

    return by_chunks(norms, (h, start), chunk)


def _check_starts(start: Sequence[Array], layers: Sequence[Layer]) -> None:
    if len(start) != len(layers):
        raise ValueError(
            f"start has {len(start)} entries for {len(layers)} layers: expected as many"
        )
