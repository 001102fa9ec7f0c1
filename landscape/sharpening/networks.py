"""The networks of the paper and of Cohen et al. (2021), as pure functions of images."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from common.nets.dense import dense
from common.nets.mlp import init_mlp
from common.nets.resnet import ResNet
from common.nets.vgg import VGG11
from landscape.image_sets import CLASSES
from landscape.layerwise import Layer, composed

PyTree = Any
STATISTICS = "batch_stats"  # Flax's name of the running means and variances
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
    """A network as pure functions.

    Attributes:
        init: (key, image shape) -> (params, statistics); statistics are {} without normalization.
        train: (params, statistics, inputs) -> (outputs, new statistics), by the batch at hand.
        predict: (params, statistics, inputs) -> outputs; samples do not see one another.
        layers: Layer by layer, of an MLP, whose parameters are one entry a layer; else ().
    """

    init: Callable[[PRNGKeyArray, tuple[int, ...]], tuple[PyTree, PyTree]]
    train: Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
    predict: Callable[[PyTree, PyTree, Array], Array]
    layers: tuple[Layer, ...]


def make_network(spec: NetworkSpec) -> Network:
    """Returns a network of standardized images with one output a class.

    Raises:
        ValueError: If a field makes no sense; names it with its value.
    """
    if spec.kind == "mlp":
        return _mlp(spec)
    if spec.kind == "vgg11":
        module = VGG11(width=spec.width, norm=spec.norm)
    else:
        module = ResNet(depth=18, width=spec.width, stages=4)

    def init(key: PRNGKeyArray, shape: tuple[int, ...]) -> tuple[PyTree, PyTree]:
        variables = module.init(key, jnp.zeros((1, *shape)))
        return variables["params"], variables.get(STATISTICS, {})

    def train(params: PyTree, statistics: PyTree, inputs: Array) -> tuple[Array, PyTree]:
        variables = {"params": params, STATISTICS: statistics}
        outputs, changed = module.apply(variables, inputs, train=True, mutable=[STATISTICS])
        return outputs, changed.get(STATISTICS, {})

    def predict(params: PyTree, statistics: PyTree, inputs: Array) -> Array:
        return jnp.asarray(module.apply({"params": params, STATISTICS: statistics}, inputs))

    return Network(init, train, predict, ())


def _mlp(spec: NetworkSpec) -> Network:
    if spec.depth < 1:
        raise ValueError(f"config.model.depth={spec.depth}: expected at least 1 layer")
    activation = ACTIVATIONS[spec.activation]
    hidden = partial(_hidden, activation)
    layers = (hidden,) * (spec.depth - 1) + (dense,)
    layers = (lambda params, x: layers_first(params, x.reshape(len(x), -1)), *layers[1:])
    layers_first = hidden if spec.depth > 1 else dense
    apply = composed(layers)

    def init(key: PRNGKeyArray, shape: tuple[int, ...]) -> tuple[PyTree, PyTree]:
        inputs = 1
        for side in shape:
            inputs *= side
        sizes = (inputs, *(spec.width,) * (spec.depth - 1), CLASSES)
        return init_mlp(key, sizes), {}

    return Network(
        init,
        train=lambda params, statistics, inputs: (apply(params, inputs), statistics),
        predict=lambda params, statistics, inputs: apply(params, inputs),
        layers=layers,
    )


def _hidden(
    activation: Callable[[Array], Array], params: PyTree, x: Float[Array, "n c_in"]
) -> Float[Array, "n c_out"]:
    return activation(dense(params, x))
