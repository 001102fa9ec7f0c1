"""Residual networks with activations first, and their twins: sizes, formulas, features."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from common.nets.features import features, places_of
from common.nets.preactivation_resnet import BLOCKS, PLACES, PreActResNet
from common.nets.resnet import PLACES as TWIN_PLACES
from common.nets.resnet import ResNet
from common.networks import from_stateful_linen
from tests.common.nets.counts import drawn, images, shapes_of, size


def counted(width: int, classes: int, blocks: tuple[int, ...] = (2, 2, 2, 2)) -> int:
    """Returns the parameters of the sheet's network, layer by layer."""
    c, total = width, 27 * width
    for stage, count in enumerate(blocks):
        out = width * 2**stage
        for _ in range(count):
            total += 2 * c + 9 * c * out + 2 * out + 9 * out * out + (c * out if c != out else 0)
            c = out
    return total + 2 * c + (c + 1) * classes


def known(module: Any, side: int) -> tuple[int, Any, dict[str, tuple[int, ...]]]:
    """Returns the number of parameters, the model state and the places."""
    x = images(side)
    params, state = shapes_of(module, x)
    return size(params), state, places_of(from_stateful_linen(module, x), params, state, x)


def test_sizes_and_places_are_those_of_the_released_code_and_counted_by_hand() -> None:
    assert size(shapes_of(PreActResNet(width=16), images(32))[0]) == counted(16, 10) == 701_018
    count, _, places = known(PreActResNet(), 32)
    assert count == counted(64, 10) == 11_172_170  # "11.2 M"
    sides = {f"block{i + 1}": (2, 32 >> i, 32 >> i, 64 << i) for i in range(4)}
    assert places == {**sides, "block5": (2, 512)}
    # 64 x 64 images leave 2 x 2 squares of 4 x 4: four times as many inputs of the head.
    count, _, places = known(PreActResNet(depth=10, num_classes=200), 64)
    assert count == counted(64, 200, BLOCKS[10]) + 3 * 512 * 200
    assert places["block3"] == (2, 16, 16, 256) and places["block5"] == (2, 2048)


def test_a_group_normed_network_of_two_classes_has_one_output_and_no_state() -> None:
    module = PreActResNet(10, width=16, norm="group", groups=8, num_classes=2, stem_stride=2)
    count, state, places = known(module, 32)

    assert count == counted(16, 1, BLOCKS[10]) and state == {}
    assert places["block1"] == (2, 16, 16, 16)
    assert places["block4"] == (2, 2, 2, 128) and places["block5"] == (2, 128)  # no 4 x 4 to pool


def test_the_twin_has_the_places_of_the_network_all_behind_a_relu() -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype(np.float32))
    module = ResNet(10, 4, stages=4, start="fan_out", pool=4, stem_stride=2, num_classes=3)
    params, state = drawn(module, x)
    network = from_stateful_linen(module, x)
    read = lambda p: features(network, p, state, x, list(PLACES))
    found, (theirs, _) = jax.jit(lambda p: (read(p), network.apply(p, state, x)))(params)

    assert [value.shape[1] for value in found.values()] == [256, 128, 64, 32, 32]
    assert {place: bool((value >= 0).all()) for place, value in found.items()} == TWIN_PLACES
    np.testing.assert_allclose(found["block5"], found["block4"], rtol=1e-6)  # of a single pixel
    logits = found["block5"] @ params["head"]["kernel"] + params["head"]["bias"][None]
    np.testing.assert_allclose(theirs, logits, rtol=1e-4, atol=1e-4)


def conv(x: jax.Array, layer: Any, stride: int = 1) -> jax.Array:
    """Returns a convolution as PyTorch pads it: by k // 2 zeros on both sides."""
    side = layer["kernel"].shape[0] // 2
    numbers = ("NHWC", "HWIO", "NHWC")
    pads = [(side, side)] * 2
    kernel = layer["kernel"]
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, pads, dimension_numbers=numbers)


def rectified(x: jax.Array, norm: Any, axes: tuple[int, ...], groups: int = 1) -> jax.Array:
    """Returns ReLU of `x` normalized over `axes` of [n, h, w, groups, channels of a group]."""
    split = x.reshape(*x.shape[:3], groups, -1)
    mean, var = split.mean(axes, keepdims=True), split.var(axes, keepdims=True)
    x = ((split - mean) / jnp.sqrt(var + 1e-5)).reshape(x.shape)
    return jnp.maximum(x * norm["scale"][None, None, None] + norm["bias"][None, None, None], 0)


def by_hand(params: Any, x: jax.Array, norm: str) -> dict[str, jax.Array]:
    """Returns features and logits of a `PreActResNet(depth=10)`."""
    values: dict[str, jax.Array] = {}

    def activated(x: jax.Array, layer: Any) -> jax.Array:
        groups = 2 if norm == "group" else x.shape[-1]
        return rectified(x, layer, (1, 2, 4) if norm == "group" else (0, 1, 2, 4), groups)

    x = conv(x, params["conv"])
    for stage in range(1, 5):
        p, stride = params[f"stage{stage}_block0"], 1 if stage == 1 else 2
        a = activated(x, p["norm1"])
        y = conv(activated(conv(a, p["conv1"], stride), p["norm2"]), p["conv2"])
        x = y + (conv(a, p["projection"], stride) if stage > 1 else x)
        values[f"block{stage}"] = x
    values["block4"] = activated(x, params["norm"])
    values["block5"] = values["block4"].mean((1, 2))
    values["logits"] = values["block5"] @ params["head"]["kernel"] + params["head"]["bias"][None]
    return values


@pytest.mark.parametrize("norm", ["batch", pytest.param("group", marks=pytest.mark.slow)])
def test_layers_and_features_are_those_of_the_formula(norm: Any) -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(size=(6, 16, 16, 3)).astype(np.float32))
    module = PreActResNet(depth=10, width=4, norm=norm, groups=2, num_classes=5)
    params, state = drawn(module, x)

    @jax.jit
    def everything(params: Any, state: Any, x: jax.Array) -> Any:
        mutable = ["features", "batch_stats"]
        variables = {"params": params, "batch_stats": state}
        logits, kept = module.apply(variables, x, train=True, mutable=mutable)
        return logits, kept, by_hand(params, x, norm)

    logits, kept, expected = everything(params, state, x)

    # Ten layers, each normalized: rounding of single precision grows by about 10 in each.
    for place in PLACES:
        assert kept["features"][place].shape == expected[place].shape
        np.testing.assert_allclose(kept["features"][place], expected[place], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-3, atol=1e-3)
    assert {place: bool((expected[place] >= 0).all()) for place in PLACES} == PLACES
    assert bool(kept["batch_stats"]) == (norm == "batch")


def test_bad_fields_are_named() -> None:
    def refused(module: Any, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            shapes_of(module, images(8))

    refused(PreActResNet(depth=20), "depth=20; expected one of 10, 18, 34")
    refused(PreActResNet(norm="layer"), "norm='layer'; expected one of batch, group")
    refused(
        PreActResNet(width=16, norm="group"), "groups=32; expected a divisor of the 16 channels"
    )
    refused(ResNet(8, start="zero"), "start='zero'; expected one of fan_in, fan_out")
