"""The image classifiers of Li et al. (2018): their sizes, where they start, and what is added."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from common.nets.densenet import DenseNet
from common.nets.initializers import variance_keeping
from common.nets.residual_mlp import ResidualMLP
from common.nets.resnet import ResNet
from common.nets.vgg import VGG9
from common.networks import from_stateful_linen

IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
# Parameters, those in tensors with more than one axis, filters: of the official classes.
SIZES = {
    "ResNet-20": (ResNet(20), 272_474, 270_896, 794),
    "ResNet-20 without shortcuts": (ResNet(20, shortcut="none"), 269_722, 268_336, 698),
    "ResNet-32 without shortcuts": (ResNet(32, shortcut="none"), 464_154, 461_872, 1_146),
    "ResNet-44 without shortcuts": (ResNet(44, shortcut="none"), 658_586, 655_408, 1_594),
    "ResNet-56": (ResNet(56), 855_770, 851_504, 2_138),
    "ResNet-56 without shortcuts": (ResNet(56, shortcut="none"), 853_018, 848_944, 2_042),
    "ResNet-110": (ResNet(110), 1_730_714, 1_722_416, 4_154),
    "ResNet-110 without shortcuts": (ResNet(110, shortcut="none"), 1_727_962, 1_719_856, 4_058),
    "WRN-56-2": (ResNet(56, width=32), 3_412_394, 3_403_872, 4_266),
    "WRN-56-2 without shortcuts": (ResNet(56, 32, "none"), 3_401_770, 3_393_632, 4_074),
    "WRN-56-4": (ResNet(56, width=64), 13_628_234, 13_611_200, 8_522),
    "WRN-56-4 without shortcuts": (ResNet(56, 64, "none"), 13_586_506, 13_570_240, 8_138),
    "WRN-56-8": (ResNet(56, width=128), 54_470_282, 54_436_224, 17_034),
    "WRN-56-8 without shortcuts": (ResNet(56, 128, "none"), 54_304_906, 54_272_384, 16_266),
    "VGG-9": (VGG9(), 2_789_706, 2_785_472, 1_418),
    "DenseNet-121": (DenseNet(), 6_956_298, 6_872_768, 10_250),
}


QUICK = ("ResNet-20", "WRN-56-2 without shortcuts", "VGG-9")


def sizes_of(module: nn.Module) -> list[int]:
    """Returns how many parameters, those in tensors with more than one axis, and filters."""
    params, _ = jax.eval_shape(from_stateful_linen(module, IMAGE).init, jax.random.key(0))
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    tensors = [shape for shape in shapes if len(shape) > 1]
    sizes = [sum(map(math.prod, each)) for each in (shapes, tensors)]
    return [*sizes, sum(shape[-1] for shape in tensors)]


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SIZES],
)
def test_the_networks_have_the_sizes_of_the_official_ones(name: str) -> None:
    module, *expected = SIZES[name]
    assert sizes_of(module) == expected


@pytest.mark.parametrize(
    ("shortcut", "ending"), [("projection", ""), ("none", " without shortcuts")]
)
def test_every_block_more_of_a_resnet_adds_as_much(shortcut: Any, ending: str) -> None:
    shallow, deeper = (np.array(sizes_of(ResNet(depth, shortcut=shortcut))) for depth in (8, 14))

    for depth in (20, 56, 110):
        expected = shallow + (depth - 8) // 6 * (deeper - shallow)
        assert SIZES[f"ResNet-{depth}{ending}"][1:] == tuple(expected)


def densenet_sizes(growth: int, blocks: tuple[int, ...]) -> list[int]:
    """Returns the sizes of a DenseNet for ten classes, counted layer by layer."""
    c, kernels = 2 * growth, [(27, 2 * growth)]  # (inputs, outputs)
    scales = 0
    for i, layers in enumerate(blocks):
        for _ in range(layers):
            kernels += [(c, 4 * growth), (9 * 4 * growth, growth)]
            scales, c = scales + c + 4 * growth, c + growth
        if i < len(blocks) - 1:  # a transition
            kernels.append((c, c // 2))
            scales, c = scales + c, c // 2
    kernels.append((c, 10))
    tensors = sum(n * out for n, out in kernels)
    return [tensors + 2 * (scales + c) + 10, tensors, sum(out for _, out in kernels)]


def test_a_densenet_has_the_sizes_counted_by_hand_and_the_official_one_too() -> None:
    assert densenet_sizes(32, (6, 12, 24, 16)) == [*SIZES["DenseNet-121"][1:]]
    assert sizes_of(DenseNet(growth=6, blocks=(2, 1, 2))) == densenet_sizes(6, (2, 1, 2))


def test_a_resnet_with_padding_has_the_parameters_of_one_without_shortcuts() -> None:
    init = [
        from_stateful_linen(ResNet(20, shortcut=kind), IMAGE).init for kind in ("padding", "none")
    ]
    padding, none = (jax.eval_shape(function, jax.random.key(0)) for function in init)

    assert padding == none


def test_weights_start_where_those_of_the_official_code_do() -> None:
    init = from_stateful_linen(ResNet(8), IMAGE).init

    @jax.jit
    def start(key: jax.Array) -> Any:
        params, state = init(key)
        block = params["stage3_block0"]
        kernels = [block[name]["kernel"] for name in ("conv2", "projection")]
        return kernels, params["head"], block["norm2"], state["stage3_block0"]["norm2"]

    kernels, head, norm, statistics = jax.tree.map(np.asarray, start(jax.random.key(0)))
    for kernel in kernels:
        fan_in = math.prod(kernel.shape[:-1])
        # The variance of n normal numbers has a relative deviation of sqrt(2 / n).
        assert abs(kernel.var() * fan_in / 2 - 1) < 4 * math.sqrt(2 / kernel.size)
    assert abs(head["kernel"].std() / 0.001 - 1) < 4 / math.sqrt(2 * head["kernel"].size)
    assert not np.any(head["bias"])
    assert np.all(norm["scale"] == 1) and not np.any(norm["bias"])
    assert np.all(statistics["var"] == 1) and not np.any(statistics["mean"])


def test_kernels_are_drawn_as_linen_draws_them() -> None:
    shape = (36, 8)
    theirs = nn.initializers.variance_scaling(2.0, "fan_in", "normal")

    both = jax.jit(
        lambda key: [draw(jax.random.clone(key), shape) for draw in (variance_keeping, theirs)]
    )
    ours, expected = both(jax.random.key(3))

    # The same normal numbers, times one constant.
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def drawn(module: nn.Module, example: Any) -> tuple[Any, Any]:
    """Returns parameters of size 1, and statistics, in which nothing is 0 or 1."""
    shapes = jax.eval_shape(from_stateful_linen(module, example).init, jax.random.key(0))
    generator = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> jax.Array:
        values = generator.normal(size=leaf.shape) / math.sqrt(max(1, math.prod(leaf.shape[:-1])))
        is_positive = path[-1].key in ("var", "scale")
        values = abs(values) + 0.5 if is_positive else values
        return jnp.asarray(values.astype(np.float32))

    params, state = jax.tree_util.tree_map_with_path(draw, shapes)
    return params, state


def silent(params: Any) -> Any:
    """Returns parameters with which every block computes 0 but for its shortcut."""

    def zeroed(path: Any, leaf: jax.Array) -> jax.Array:
        names = "/".join(key.key for key in path)
        is_last = "block" in names and ("norm2" in names or "_2_norm" in names)
        return jnp.asarray(np.zeros(leaf.shape, leaf.dtype)) if is_last else leaf

    return jax.tree_util.tree_map_with_path(zeroed, params)


def test_padding_passes_every_second_pixel_on_in_the_middle_of_the_channels() -> None:
    module = ResNet(8, width=4, shortcut="padding", num_classes=5)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32))
    params, state = drawn(module, x)
    apply = jax.jit(lambda p: from_stateful_linen(module, x).apply(p, state, x)[0])

    host_params, host_state = jax.tree.map(np.asarray, (params, state))
    kernel, norm = host_params["conv"]["kernel"], {**host_params["norm"], **host_state["norm"]}
    around = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = sum(around[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3))
    stem = (taps - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
    pooled = np.maximum(stem, 0)[:, ::4, ::4].mean(axis=(1, 2))
    head = host_params["head"]
    expected = pooled @ head["kernel"][6:10] + head["bias"]  # 6 of 16 are new on each side

    np.testing.assert_allclose(apply(silent(params)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shortcuts", [True, False])
def test_without_shortcuts_nothing_passes_a_silent_block(shortcuts: bool) -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 7)).astype(np.float32))
    module = ResidualMLP(blocks=2, width=6, shortcuts=shortcuts, num_classes=4)
    params, state = drawn(module, x)
    logits, _ = jax.jit(from_stateful_linen(module, x).apply)(silent(params), state, x)
    params, state = jax.tree.map(np.asarray, (params, state))

    stem = np.asarray(x).reshape(3, 14) @ params["stem_dense"]["kernel"]
    norm = {**params["stem_norm"], **state["stem_norm"]}
    stem = (stem - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
    passed = np.maximum(stem, 0) if shortcuts else np.zeros((3, 6))
    expected = passed @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def convolved(x: jax.Array, layer: Any) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    kernel = layer["kernel"]
    out = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return out + layer["bias"][None, None, None] if "bias" in layer else out


def activated(x: jax.Array, norm: Any) -> jax.Array:
    """Returns ReLU of `x` normalized by its own moments."""
    scale, bias = (norm[k].reshape((1,) * (x.ndim - 1) + (-1,)) for k in ("scale", "bias"))
    axes = tuple(range(x.ndim - 1))
    x = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)
    return jax.nn.relu(x * scale + bias)


def halved(x: jax.Array) -> jax.Array:
    """Returns 2x2 blocks of pixels, [n, h / 2, 2, w / 2, 2, c]."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c)


def vgg_by_hand(params: Any, x: jax.Array) -> jax.Array:
    for place, pooled in ((1, 0), (2, 1), (3, 0), (4, 1), (5, 0), (6, 0), (7, 1)):
        x = activated(convolved(x, params[f"conv{place}"]), params[f"norm{place}"])
        x = halved(x).max((2, 4)) if pooled else x
    x = x.reshape(len(x), -1) @ params["dense"]["kernel"] + params["dense"]["bias"][None]
    x = activated(x, params["dense_norm"])
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def densenet_by_hand(params: Any, x: jax.Array) -> jax.Array:
    x = convolved(x, params["conv"])
    for block in (1, 2):
        own = params[f"block{block}_layer1"]
        y = convolved(activated(x, own["norm1"]), own["conv1"])
        y = convolved(activated(y, own["norm2"]), own["conv2"])
        x = jnp.concatenate([y, x], -1)
        x = activated(x, params[f"block{block}_norm"])
        if block == 1:
            x = halved(convolved(x, params["block1_conv"])).mean((2, 4))
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]


@pytest.mark.parametrize(
    ("module", "by_hand"),
    [
        pytest.param(VGG9(width=2), vgg_by_hand, id="VGG-9"),
        pytest.param(
            DenseNet(growth=3, blocks=(1, 1)),
            densenet_by_hand,
            id="DenseNet",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_layers_are_those_of_the_papers(module: nn.Module, by_hand: Any) -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32))
    params, state = drawn(module, x)
    network = from_stateful_linen(module, x)

    both = jax.jit(lambda p, x: (network.apply(p, state, x, train=True)[0], by_hand(p, x)))

    # Some ten layers, each normalized: rounding of single precision grows by about 10 in each.
    logits, expected = both(params, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [7, 2, 21, -4])
def test_a_depth_that_no_resnet_has_is_named(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}; expected 6 n"):
        jax.eval_shape(from_stateful_linen(ResNet(depth), IMAGE).init, jax.random.key(0))
