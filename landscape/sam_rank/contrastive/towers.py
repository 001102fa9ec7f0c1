"""The two towers of an experiment, from its config, and the places whose ranks are measured."""

from typing import Any

import jax
from ml_collections import ConfigDict

from common.nets.text_encoder import TextEncoder
from common.nets.transformer import PLACES
from common.nets.two_towers import Tower, TwoTowers
from common.nets.vit import ViT
from common.networks import Network, from_linen

SIDES = ("first", "second")
ENDS = {"head": "head", "before_head": "before_head"}  # what a tower returns, and what that reads


def make_towers(model: ConfigDict, example: Any) -> Network:
    """Returns two towers with linear heads, for rows of the shapes of `example`.

    Source: Andriushchenko et al. (2023), released code: a vision transformer and BERT, dense heads
    of 768 outputs of length 1; a bottleneck is one more dense layer in both heads.

    Halves of images have a vision transformer each.
    """

    def tower(rows: Any) -> Tower:
        dtype = model.dtype or None
        if len(rows.shape) == 2:
            body: Any = TextEncoder(**model.text, dtype=dtype)
        else:
            image: dict[str, Any] = {**model.image, "stem": model.image.stem or None}
            body = ViT(**image, num_classes=None, dtype=dtype)
        return Tower(body, dim=model.dim, bottleneck=model.bottleneck or None)

    first, second = example
    rows = tuple(jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype) for x in example)
    return from_linen(TwoTowers(tower(first), tower(second)), *rows)


def places(layers: tuple[int, ...]) -> dict[str, str]:
    """Returns paths by name: both ends of both towers, and all places in layers of the first."""
    ends = {f"{side}_{end}": f"{side}/{end}" for side in SIDES for end in ENDS}
    inside = {
        f"layer{layer}_{place}": f"first/body/layer{layer}/{place}"
        for layer in layers
        for place in PLACES
    }
    return {**ends, **inside}
