"""What a SIREN does at probe points, as channels of its weights for an equivariant network.

The functions of a SIREN take one (`jax.vmap` for a stack) and K points, and return K channels per
weight in the layout of a weight space of the same network; they commute with neuron permutations.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nfn.features import Features, features_from_params
from nfn.sine import SineMethod
from nfn.sine import sine as sine_of
from nfn.siren import SirenParams
from nfn.weights import WeightSpace


def initial_points(count: int, dim: int) -> Float[np.ndarray, "count dim"]:
    """Returns the first points of a sequence that fills [-1, 1]^dim evenly.

    Multiples of the powers of 1 / g modulo 1, with g^(dim + 1) = g + 1 (the golden ratio in
    one dimension).
    """
    g = 2.0
    for _ in range(64):  # fixed point, to machine precision
        g = (1 + g) ** (1 / (dim + 1))
    steps = np.arange(1, count + 1)[:, None] * g ** -np.arange(1.0, dim + 1)
    return (2 * ((0.5 + steps) % 1) - 1).astype(np.float32)


def activation_channels(
    params: SirenParams,
    points: Float[Array, "K d_in"],
    *,
    space: WeightSpace,
    omega: float,
    sine: SineMethod = "jnp",
) -> Features:
    """Returns what neurons and weights pass on at every point.

    A bias gets the output of its neuron, a weight its summand: the weight times the output of the
    neuron it reads. Source: Kofinas et al. (2024), "Graph Neural Networks for Learning Equivariant
    Representations of Neural Networks", probe features; here for weights as well.
    """

    def at(point: Float[Array, " d_in"]) -> SirenParams:
        x, channels = point, {}
        for layer in range(len(params)):
            kernel, bias = params[f"dense_{layer}"]["kernel"], params[f"dense_{layer}"]["bias"]
            summands = x[:, None] * kernel
            x = jnp.sum(summands, axis=0) + bias
            x = sine_of(omega * x, sine) if layer < len(params) - 1 else x
            channels[f"dense_{layer}"] = {"kernel": summands, "bias": x}
        return channels

    return _as_channels(space, jax.vmap(at)(points))


def sine_invariant_channels(
    params: SirenParams,
    points: Float[Array, "K d_in"],
    readout: Float[Array, "K d_out"],
    *,
    space: WeightSpace,
    omega: float,
    sine: SineMethod = "jnp",
) -> Features:
    """Returns theta * d f / d theta for f = readout . siren(point), for every parameter theta.

    With b replaced by its phase, sin(w x + b) = sin(w x) cos b + cos(w x) sin b, these products do
    not change under the two sine symmetries of `nfn.symmetry` (a neuron's signs cancel) and are
    smooth in the weights: an invariant form without the jumps of a canonical one. A hidden bias
    gets the product of its sin b; that of cos b is the sum over the outgoing weights minus it.
    """
    phases = {
        name: {"cos": sine_of(omega * layer["bias"] + jnp.pi / 2, sine)}
        | {"sin": sine_of(omega * layer["bias"], sine)}
        for name, layer in params.items()
    }

    def value(
        kernels: dict[str, Array],
        sines: dict[str, Array],
        point: Float[Array, " d_in"],
        weights: Float[Array, " d_out"],
    ) -> Float[Array, ""]:
        x, last = point, f"dense_{len(params) - 1}"
        for name in (f"dense_{layer}" for layer in range(len(params) - 1)):
            angle = omega * (x @ kernels[name])
            cosine = sine_of(angle + jnp.pi / 2, sine)
            x = sine_of(angle, sine) * phases[name]["cos"] + cosine * sines[name]
        return weights @ (x @ kernels[last] + sines[last])

    kernels = {name: layer["kernel"] for name, layer in params.items()}
    sines = {name: phase["sin"] for name, phase in phases.items()}
    sines[f"dense_{len(params) - 1}"] = params[f"dense_{len(params) - 1}"]["bias"]

    def at(point: Float[Array, " d_in"], weights: Float[Array, " d_out"]) -> SirenParams:
        gradient = jax.grad(value, argnums=(0, 1))(kernels, sines, point, weights)
        products = jax.tree.map(jnp.multiply, (kernels, sines), gradient)
        return {name: {"kernel": products[0][name], "bias": products[1][name]} for name in params}

    return _as_channels(space, jax.vmap(at)(points, readout))


def _as_channels(space: WeightSpace, stacked: SirenParams) -> Features:
    """Returns a tree with leaves [K, *shape] as features with K channels per weight."""
    singles = features_from_params(space, stacked)  # [K, *permuted, m]
    return {
        spec.path: jnp.moveaxis(singles[spec.path], 0, -1).reshape(*spec.permuted_shape, -1)
        for spec in space.tensors
    }
