"""The networks of the paper with batch normalization, as pure functions of variables and pixels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num, PRNGKeyArray

from common.evaluation import classification_values
from common.nets.densenet import DenseNet
from common.nets.residual_mlp import ResidualMLP
from common.nets.resnet import ResNet
from common.nets.vgg import VGG9
from landscape.filters import FilterRules

PyTree = Any
STATISTICS = "batch_stats"  # Flax's name of the running means and variances
FROZEN = FilterRules(frozen=f"(^|/){STATISTICS}/")  # directions in which they do not move


class NetworkSpec(NamedTuple):
    """A network.

    Attributes:
        kind: "mlp", "resnet", "vgg9", "densenet", or "padded_resnet", whose shortcuts pad with
            zeros where the shape changes.
        depth: Layers with weights, 2 n + 2 of an MLP and 6 n + 2 of a ResNet; VGG-9 has nine and
            DenseNet 121.
        width: Neurons of a hidden layer, channels of the first stage, or what a dense layer adds.
        shortcuts: Whether what enters a block is added to what leaves it, of an MLP or a ResNet.
        mean: Of the pixels, one for every channel; they are normalized by mean and deviation.
        deviation: Of the pixels.
    """

    kind: str
    depth: int
    width: int
    shortcuts: bool
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Network(NamedTuple):
    """A network as pure functions; `variables` are {"params", "batch_stats"}.

    Attributes:
        init: (key, images) -> variables, for images of such a shape.
        train: (variables, images) -> (logits, new statistics): normalized by the batch at hand.
        apply: (variables, images) -> logits: normalized by the running statistics.
    """

    init: Callable[[PRNGKeyArray, Any], PyTree]
    train: Callable[[PyTree, Array], tuple[Array, PyTree]]
    apply: Callable[[PyTree, Array], Array]


def make_network(spec: NetworkSpec) -> Network:
    """Returns a network that takes pixels from 0 to 255.

    Raises:
        ValueError: If there is no network of this depth; names field and value.
    """
    module = _module(spec)

    def normalized(images: Num[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
        mean, deviation = (
            jnp.asarray(numbers).reshape(1, 1, 1, -1) for numbers in (spec.mean, spec.deviation)
        )
        return (jnp.asarray(images, jnp.float32) - mean) / deviation

    def train(variables: PyTree, images: Array) -> tuple[Array, PyTree]:
        logits, changed = module.apply(
            variables, normalized(images), train=True, mutable=[STATISTICS]
        )
        return logits, changed[STATISTICS]

    def apply(variables: PyTree, images: Array) -> Array:
        return jnp.asarray(module.apply(variables, normalized(images)))

    return Network(
        init=lambda key, images: module.init(key, jnp.zeros((1, *images.shape[1:]))),
        train=train,
        apply=apply,
    )


def scores(network: Network, variables: PyTree, rows: PyTree) -> dict[str, Float[Array, " batch"]]:
    """Returns loss and accuracy in percent of every row {"image", "label"}, as `apply` has it."""
    return classification_values(network.apply(variables, rows["image"]), rows["label"])


def cross_entropy(logits: Float[Array, "batch classes"], labels: Array) -> Float[Array, " batch"]:
    """Returns the loss of every row, in nats."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]


def _module(spec: NetworkSpec) -> nn.Module:
    if spec.kind == "vgg9":
        return VGG9(width=spec.width)
    if spec.kind == "densenet":
        if spec.depth != 121:
            raise ValueError(f"config.model.depth={spec.depth}: expected 121 of kind densenet")
        return DenseNet(growth=spec.width)
    layers = 2 if spec.kind == "mlp" else 6  # of one more n
    if spec.depth < layers + 2 or (spec.depth - 2) % layers:
        raise ValueError(
            f"config.model.depth={spec.depth}: expected {layers} n + 2 of kind {spec.kind}"
        )
    if spec.kind == "mlp":
        blocks = (spec.depth - 2) // layers
        return ResidualMLP(blocks=blocks, width=spec.width, shortcuts=spec.shortcuts)
    shortcut = "padding" if spec.kind == "padded_resnet" else "projection"
    return ResNet(
        depth=spec.depth, width=spec.width, shortcut=shortcut if spec.shortcuts else "none"
    )
