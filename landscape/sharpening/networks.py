"""The networks of the paper and of Cohen et al. (2021), as pure functions of images."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.data.image_sets import CLASSES
from common.nets.dense import dense
from common.nets.mlp import init_mlp
from common.nets.resnet import ResNet
from common.nets.vgg import VGG11
from common.networks import from_stateful_linen
from landscape.layerwise import Layer, composed

PyTree = Any
ACTIVATIONS = {
    "elu": jax.nn.elu,
    "hardtanh": jax.nn.hard_tanh,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


class NetworkSpec(NamedTuple):
    """A network.

    Attributes:
        kind: "mlp", "vgg11" or "resnet18".
        depth: Layers with weights of an MLP.
        width: Neurons of a hidden layer, or channels of the first stage.
        activation: Of an MLP, a name of `ACTIVATIONS`; the others have ReLUs.
        norm: Whether VGG-11 has batch normalization, which ResNet-18 has in any case.
    """

    kind: str
    depth: int
    width: int
    activation: str
    norm: bool


class Network(NamedTuple):
    """A `common.networks.StatefulNetwork` that may be known layer by layer.

    Attributes:
        init: key -> (params, statistics); statistics are {} without normalization.
        apply: (params, statistics, inputs, train=False) -> (outputs, statistics): by the batch at
            hand with `train`; else samples do not see one another.
        layers: Layer by layer, of an MLP, whose parameters are one entry a layer; else ().
    """

    init: Callable[[PRNGKeyArray], tuple[PyTree, PyTree]]
    apply: Callable[..., tuple[Any, PyTree]]
    layers: tuple[Layer, ...] = ()


def make_network(spec: NetworkSpec, shape: tuple[int, ...]) -> Network:
    """Returns a network of standardized images of this shape, with one output a class.

    Raises:
        ValueError: If a field makes no sense; names it with its value.
    """
    if spec.kind == "mlp":
        return _mlp(spec, shape)
    if spec.kind == "vgg11":
        module = VGG11(width=spec.width, norm=spec.norm)
    else:
        module = ResNet(depth=18, width=spec.width, stages=4)
    return Network(*from_stateful_linen(module, jax.ShapeDtypeStruct((1, *shape), jnp.float32)))


def _mlp(spec: NetworkSpec, shape: tuple[int, ...]) -> Network:
    if spec.depth < 1:
        raise ValueError(f"config.model.depth={spec.depth}: expected at least 1 layer")
    hidden, last = (partial(_layer, f) for f in (ACTIVATIONS[spec.activation], lambda x: x))
    layers = (hidden,) * (spec.depth - 1) + (last,)
    sizes = (math.prod(shape), *(spec.width,) * (spec.depth - 1), CLASSES)
    outputs = composed(layers)

    def apply(
        params: PyTree, statistics: PyTree, inputs: Array, *, train: bool = False
    ) -> tuple[Array, PyTree]:
        del train
        return outputs(params, inputs), statistics

    return Network(lambda key: (init_mlp(key, sizes), {}), apply, layers)


def _layer(
    activation: Callable[[Array], Array], params: PyTree, x: Float[Array, "n ..."]
) -> Float[Array, "n c_out"]:
    return activation(dense(params, x.reshape(len(x), -1)))
