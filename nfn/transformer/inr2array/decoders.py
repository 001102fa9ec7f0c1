"""Hyper-networks of INR2ARRAY: one vector in, all weights of a SIREN out."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dense import DenseParams
from common.nets.mlp import MLPParams, init_mlp, mlp
from common.networks import Network
from nfn.siren import SirenParams, init_siren
from nfn.weights import TensorSpec, WeightSpace

LAST_LAYER_SCALE = 0.01  # released code: so that the drawn SIREN hardly depends on z at first


class AdditiveParams(NamedTuple):
    """One MLP to all weights, the SIREN that it changes, and how far, by tensor."""

    mlp: MLPParams
    siren: dict[str, Float[Array, "..."]]
    scale: dict[str, Float[Array, ""]]


def separate_decoder(space: WeightSpace, *, c_in: int, widths: tuple[int, ...]) -> Network:
    """Returns "sitzmann": `apply(params, z [*batch, c_in]) -> SIREN`, one MLP for every tensor.

    Source: Zhou et al. (2023b), released code of INR2ARRAY, after Sitzmann et al. (2020), App. 4:
    kernels ~ N(0, 2 / F) for F inputs, those of the last layer times 1/100; its bias, which is the
    SIREN at z = 0, is ~ U(±1 / inputs of the drawn kernel), that of a drawn bias ~ U(±1 / inputs of
    the layer).
    """

    def init_one(key: PRNGKeyArray, spec: TensorSpec) -> MLPParams:
        key_layers, key_kernel, key_bias = jax.random.split(key, 3)
        hidden = init_mlp(key_layers, (c_in, *widths))
        keys = jax.random.split(key_kernel, len(widths) + 1)
        *kernels, last = [
            jax.random.normal(k, (n, m)) * (2 / n) ** 0.5
            for k, n, m in zip(keys, (c_in, *widths), (*widths, math.prod(spec.shape)), strict=True)
        ]
        bound = 1 / (spec.shape[-2] if len(spec.shape) > 1 else (c_in, *widths)[-1])
        bias = jax.random.uniform(key_bias, last.shape[1:], minval=-bound, maxval=bound)
        layers = [p._replace(kernel=w) for p, w in zip(hidden, kernels, strict=True)]
        return (*layers, DenseParams(LAST_LAYER_SCALE * last, bias))

    def init(key: PRNGKeyArray) -> dict[str, MLPParams]:
        keys = jax.random.split(key, len(space.tensors))
        return {spec.path: init_one(k, spec) for k, spec in zip(keys, space.tensors, strict=True)}

    def apply(params: dict[str, MLPParams], z: Float[Array, "*batch c_in"]) -> SirenParams:
        drawn = {
            spec.path: mlp(params[spec.path], z).reshape(*z.shape[:-1], *spec.shape)
            for spec in space.tensors
        }
        return traverse_util.unflatten_dict(drawn, sep="/")

    return Network(init, apply)


def additive_decoder(
    space: WeightSpace, *, c_in: int, widths: tuple[int, ...], omega: float
) -> Network:
    """Returns "additive": `apply(params, z [*batch, c_in]) -> SIREN`, one MLP that adds to a SIREN.

    Source: Zhou et al. (2023b), released code of INR2ARRAY ("simple", "additive"): theta = theta_0
    + s MLP(z), with a learned SIREN theta_0, drawn as SIRENs are, and one learned s per tensor, at
    first the standard deviation of that tensor of theta_0 (the absolute value of a single number).
    """

    def init(key: PRNGKeyArray) -> AdditiveParams:
        key_mlp, key_siren = jax.random.split(key)
        kernels = [spec.shape for spec in space.tensors if len(spec.shape) == 2]
        sizes = (kernels[0][0], *(shape[1] for shape in kernels))
        drawn = init_siren(key_siren, widths=sizes, omega=omega)
        theta: dict[str, Any] = traverse_util.flatten_dict(drawn, sep="/")
        scale = {
            path: jnp.std(x, ddof=1) if x.size > 1 else jnp.abs(x).reshape(())
            for path, x in theta.items()
        }
        return AdditiveParams(init_mlp(key_mlp, (c_in, *widths, space.size)), theta, scale)

    def apply(params: AdditiveParams, z: Float[Array, "*batch c_in"]) -> SirenParams:
        flat, start, drawn = mlp(params.mlp, z), 0, {}
        for spec in space.tensors:
            stop = start + math.prod(spec.shape)
            change = flat[..., start:stop].reshape(*z.shape[:-1], *spec.shape)
            base = jnp.broadcast_to(params.siren[spec.path], change.shape)
            drawn[spec.path] = base + params.scale[spec.path] * change
            start = stop
        return traverse_util.unflatten_dict(drawn, sep="/")

    return Network(init, apply)
