"""ResNets in PyTorch's files: read, refused, and as right on real images as they are said to be."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.checkpoints import weights
from common.data.images import load_images
from common.errors import DataError
from common.nets.published_resnets import from_pytorch, normalized, read_resnet
from common.networks import from_stateful_linen
from tests.nfn.resnets import random_weights, resnet, tensor_list

# Images of the lossless subset, of 1,000, that the published networks classify as they should.
RIGHT = {20: 915, 32: 928, 44: 933, 56: 926}


def small() -> dict[str, np.ndarray]:
    """Returns arrays of a network of two blocks a stage."""
    arrays = random_weights(tensor_list((4, 8, 16), blocks=2, classes=5))
    return {name: np.asarray(array) for name, array in arrays.items()}


def with_projections() -> dict[str, np.ndarray]:
    arrays = small()
    for stage, (before, width) in ((2, (4, 8)), (3, (8, 16))):
        place = f"layer{stage}.0.shortcut"
        arrays[f"{place}.0.weight"] = np.ones((width, before, 1, 1), np.float32)
        for name in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{place}.1.{name}"] = np.ones(width, np.float32)
    return arrays


def logits(found: Any, images: Any) -> jax.Array:
    module, params, state = found
    return jax.jit(from_stateful_linen(module, images).apply)(params, state, images)[0]


def test_a_converted_network_computes_what_another_implementation_does(tmp_path: Path) -> None:
    arrays = small()
    path = tmp_path / "net.safetensors"
    others = {"bn1.num_batches_tracked": np.array(7), **arrays}
    weights.save(path, {f"module.{name}": array for name, array in others.items()})
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32))

    found = read_resnet(path)

    expected = jax.jit(resnet)({k: jnp.asarray(v) for k, v in arrays.items()}, images)
    np.testing.assert_allclose(logits(found, images), expected, rtol=1e-4, atol=1e-4)
    module = found[0]
    assert (module.depth, module.width, module.num_classes) == (14, 4, 5)


def test_which_shortcuts_there_are_is_read_from_the_names_or_said() -> None:
    assert from_pytorch(small())[0].shortcut == "padding"
    assert from_pytorch(small(), shortcut="none")[0].shortcut == "none"
    module, params, state = from_pytorch(with_projections())

    assert module.shortcut == "projection"
    assert params["stage2_block0"]["projection"]["kernel"].shape == (1, 1, 4, 8)
    assert state["stage3_block0"]["projection_norm"]["var"].shape == (16,)


def spoiled(name: str, value: float) -> dict[str, np.ndarray]:
    arrays = small()
    arrays[name] = arrays[name].copy()
    arrays[name].flat[1] = value
    return arrays


def lacking(*names: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in small().items() if name not in names}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            lacking("layer2.1.conv2.weight", "layer1.0.bn1.running_var", "linear.bias"),
            "it lacks layer1.0.bn1.running_var, layer2.1.conv2.weight, linear.bias$",
        ),
        ({}, "it lacks conv1.weight, bn1.weight, .* linear.bias$"),
        ({**small(), "layer4.0.conv1.weight": np.ones((2, 2, 3, 3))}, "stage4_block0/conv1/kernel"),
        ({**small(), "bias": np.ones(2)}, "no part of a ResNet with shortcut='padding': bias$"),
        (
            {**small(), "bn1.bias": np.zeros(5, np.float32)},
            r"for a 14-layer ResNet of width 4: bn1.bias is \(5,\), expected \(4,\)$",
        ),
        (spoiled("layer3.1.bn2.weight", np.nan), "not all finite: layer3.1.bn2.weight$"),
        (spoiled("layer1.1.bn2.running_var", -1e-3), "stage1_block1/norm2/var: .* is -0.001"),
        (spoiled("bn1.running_var", 0.0), "norm/var: a running variance is 0;"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_in_one_line(
    arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        from_pytorch(arrays)

    assert "\n" not in str(error.value)


def test_a_wrong_file_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    weights.save(path, lacking("linear.bias"))

    with pytest.raises(DataError, match=r"net\.npz: it lacks linear\.bias$"):
        read_resnet(path)


@pytest.mark.parametrize(
    "depth", [pytest.param(depth, marks=pytest.mark.slow) for depth in (20, 32, 44, 56)]
)
def test_the_published_networks_are_as_right_as_they_are_said_to_be(
    depth: int, real_data: Path
) -> None:
    images = load_images("cifar10_lossless")
    found = read_resnet(real_data / f"cifar10_resnets/resnet{depth}.npz")

    parts = np.split(normalized(images.test_images), 4)
    classes = np.concatenate([np.argmax(logits(found, part), axis=-1) for part in parts])

    # Another order of sums may move one image across a boundary.
    assert found[0].depth == depth
    assert abs(np.sum(classes == images.test_labels) - RIGHT[depth]) <= 1
