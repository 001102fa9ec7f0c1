"""The networks that are compared, by the section `config.model`, on pixels as they are stored."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num
from ml_collections import ConfigDict

from common.nets import preactivation_resnet, resnet
from common.nets.mixer import Mixer
from common.nets.preactivation_resnet import PreActResNet
from common.nets.resnet import ResNet
from common.nets.vit import ViT
from common.networks import StatefulNetwork, from_stateful_linen

RESNETS = ("preact", "postact")
TRANSFORMERS = ("vit", "mixer")
KINDS = (*RESNETS, *TRANSFORMERS)
BEHIND_RELU = {"preact": preactivation_resnet.PLACES, "postact": resnet.PLACES}


class ImageNetwork(NamedTuple):
    """A network, and what its inputs are.

    Attributes:
        network: Of prepared images, as `common.nets.features` takes it.
        prepared: Pixels from 0 to 255 -> images of the network.
        behind_relu: Places whose values are behind a ReLU.
    """

    network: StatefulNetwork
    prepared: Callable[[Any], Float[Array, "batch h w c"]]
    behind_relu: tuple[str, ...]


def make_network(
    model: ConfigDict, pixels: ConfigDict, image: tuple[int, int, int], num_classes: int
) -> ImageNetwork:
    """Returns the network of a config.

    Args:
        model: Its section `model`.
        pixels: Its section `pixels`: mean and deviation of every channel, of 1.
        image: Height, width and channels as stored.
        num_classes: Outputs.

    Raises:
        ValueError: If there is no such network; names the field.
    """
    if model.kind not in KINDS:
        raise ValueError(f"config.model.kind={model.kind!r}: expected one of {', '.join(KINDS)}")
    height, width, channels = image
    if len(pixels.mean) != channels or len(pixels.deviation) != channels:
        raise ValueError(
            f"config.pixels.mean={pixels.mean}, deviation={pixels.deviation}: expected a number "
            f"for each of {channels} channels"
        )
    side = (model.resize, model.resize) if model.get("resize") else (height, width)

    def prepared(images: Num[Array, "batch h w c"]) -> Float[Array, "batch rows columns c"]:
        each = lambda numbers: jnp.asarray(numbers, jnp.float32).reshape(1, 1, 1, -1)
        x = jnp.asarray(images, jnp.float32) / 255
        x = (x - each(pixels.mean)) / each(pixels.deviation)
        if x.shape[1:3] == side:
            return x
        return jax.image.resize(x, (len(x), *side, channels), "bilinear")

    like = jax.ShapeDtypeStruct((2, *side, channels), jnp.float32)
    places = BEHIND_RELU.get(model.kind, {})
    return ImageNetwork(
        from_stateful_linen(_module(model, num_classes), like),
        prepared,
        tuple(place for place, is_behind in places.items() if is_behind),
    )


def places(model: ConfigDict) -> tuple[str, ...]:
    """Returns where features are taken, from the first to the last.

    Source: Andriushchenko et al. (2023), released code: blocks 1 to 5 of a ResNet. Of transformers
    the residual stream at every quarter of the depth and the pooled token, then the last MLP before
    and behind its nonlinearity.
    """
    if model.kind in RESNETS:
        return tuple(f"block{number}" for number in range(1, 6))
    quarters = [max(1, round(model.layers * part / 4)) for part in range(1, 5)]
    stream = (f"layer{number}/res" for number in quarters)
    return (*stream, "pooled", f"layer{model.layers}/pregelu", f"layer{model.layers}/gelu")


def _module(model: ConfigDict, num_classes: int) -> nn.Module:
    if model.kind in RESNETS:
        fields = {name: model[name] for name in ("depth", "width", "norm", "groups", "stem_stride")}
        if model.kind == "preact":
            return PreActResNet(**fields, num_classes=num_classes)
        return ResNet(**fields, num_classes=num_classes, stages=4, start="fan_out", pool=4)
    names = ("patch", "hidden", "layers", "mlp")
    fields = {name: model[name] for name in names}
    if model.kind == "vit":
        return ViT(**fields, heads=model.heads, num_classes=num_classes)
    return Mixer(**fields, tokens_mlp=model.tokens_mlp, num_classes=num_classes)
