"""Axes of several groups: zero-padded shortcuts, with the published ResNets for CIFAR-10."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn.features import check_finite, permute_params
from nfn.splits import SplitSpace, Tensor, join_params, split_params, split_space
from nfn.tracing import space_from_apply, split_from_apply
from nfn.weights import TensorSpec, WeightSpace, hidden_only, mlp_space
from tests.nfn.resnets import random_weights, resnet, stages, tensor_list

SMALL = tensor_list((4, 8, 16), blocks=1, classes=3)
FEW = [
    Tensor("first", (2, 3, 8), (None, "input", (("new", 2), ("old", 4), ("new", 2)))),
    Tensor("second", (8, 4), ((("new", 2), ("old", 4), ("new", 2)), "old")),
    Tensor("bias", (4,), ("old",)),
]


def renamed(space: WeightSpace) -> dict[str, TensorSpec]:
    """Returns the tensors by path, hidden groups numbered as they come along the sorted paths."""
    names: dict[str | None, str | None] = {None: None, "input": "input", "output": "output"}
    tensors = {}
    for spec in sorted(space.tensors):
        for group in spec.groups:
            names.setdefault(group, str(len(names)))
        tensors[spec.path] = spec._replace(groups=tuple(names[group] for group in spec.groups))
    return tensors


def moved(split: SplitSpace, weights: Any, seed: int) -> Any:
    """Returns the weights with all hidden neurons in another order."""
    hidden, generator = hidden_only(split.space), np.random.default_rng(seed)
    sizes = hidden.group_sizes
    order = {group: jnp.asarray(generator.permutation(n)) for group, n in sizes.items()}

    @jax.jit
    def move(weights: Any) -> Any:
        return join_params(split, permute_params(hidden, split_params(split, weights), order))

    return move(weights)


def test_the_groups_of_zero_padded_shortcuts_by_hand_are_those_of_the_forward_pass() -> None:
    by_hand = split_space(SMALL)
    weights = random_weights(SMALL)
    traced = split_from_apply(resnet, weights, jnp.zeros((1, 8, 8, 3)))

    assert renamed(traced.space) == renamed(by_hand.space)
    assert {p.path: p for p in traced.pieces} == {p.path: p for p in by_hand.pieces}
    sizes = by_hand.space.group_sizes
    assert {group: sizes[group] for group in ("stage 1", "stage 2", "stage 3")} == {
        "stage 1": 4,
        "stage 2": 4,
        "stage 3": 8,
    }
    with pytest.raises(ValueError, match=r"layer2\..*: an axis holds several .*split_from_apply"):
        space_from_apply(resnet, weights, jnp.zeros((1, 8, 8, 3)))


def test_no_order_of_hidden_channels_changes_what_a_resnet_computes() -> None:
    split, weights = split_space(SMALL), random_weights(SMALL)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    network = jax.jit(resnet)
    expected = network(weights, images)

    other = moved(split, weights, seed=1)
    assert np.abs(other["layer3.0.bn2.bias"] - weights["layer3.0.bn2.bias"]).max() > 0.1
    # float32 sums of up to 144 terms in another order, through 7 layers.
    np.testing.assert_allclose(network(other, images), expected, atol=1e-4)
    assert np.std(expected) > 0.05
    # All channels of a stage in any order, those of the stage before among them: no symmetry.
    last = stages((4, 8, 16))[-1]
    whole = [
        tensor._replace(axes=tuple("whole" if axis == last else axis for axis in tensor.axes))
        for tensor in SMALL
    ]
    false = moved(split_space(whole), weights, seed=1)
    assert np.abs(network(false, images) - expected).max() > 0.05


def test_pieces_go_there_and_back_with_any_batch() -> None:
    split, generator = split_space(FEW), np.random.default_rng(0)
    weights = {tensor.path: generator.normal(size=(2, *tensor.shape)) for tensor in FEW}
    weights = {path: w.astype(np.float32) for path, w in weights.items()}
    pieces = split_params(split, weights)
    check_finite(split.space, pieces)

    np.testing.assert_array_equal(pieces["second"]["part_0_0"], weights["second"][:, [0, 1, 6, 7]])
    for path, back in join_params(split, pieces).items():
        np.testing.assert_array_equal(back, weights[path])
    assert sum(w.size for w in jax.tree.leaves(pieces)) == 2 * split.space.size


def test_a_space_without_parts_is_the_space() -> None:
    space = mlp_space([2, 3, 1])
    split = split_space(Tensor(*spec) for spec in space.tensors)
    assert split.space == space
    assert split.is_whole
    assert not split_space(SMALL).is_whole


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("b", (5,), ((("x", 2), ("y", 2)),)), r"b: parts .* axis 0 of size 5"),
        (Tensor("b", (5, 2), ("x",)), r"b: shape \(5, 2\) has 2 axes, but groups .* for 1"),
        (Tensor("b", (4,), ((("old", 3), ("new", 1)),)), "b/.*'old' acts on .* 3, .* 2 in a/"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(tensor: Tensor, message: str) -> None:
    first = Tensor("a", (4,), ((("old", 2), ("new", 2)),))
    with pytest.raises(ValueError, match=message):
        split_space([first, tensor])


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    split, weights = split_space(SMALL), random_weights(SMALL)
    with pytest.raises(ValueError, match="bn1.bias: missing in the parameters"):
        split_params(split, {k: v for k, v in weights.items() if k != "bn1.bias"})
    with pytest.raises(ValueError, match=r"linear.bias: shape \(4,\), expected \[\*batch, \*\(3,"):
        split_params(split, {**weights, "linear.bias": jnp.zeros(4)})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9)])
def test_the_published_resnets_have_the_groups_of_their_shortcuts(
    real_data: Path, name: str, blocks: int
) -> None:
    with np.load(real_data / "cifar10_resnets" / f"{name}.npz") as arrays:
        weights = {key: jnp.asarray(arrays[key]) for key in arrays.files}
    by_hand = split_space(tensor_list((16, 32, 64), blocks, classes=10))
    images = jax.random.normal(jax.random.key(0), (8, 32, 32, 3))
    network = jax.jit(resnet)

    traced = split_from_apply(resnet, weights, images)
    assert renamed(traced.space) == renamed(by_hand.space)
    expected = network(weights, images)
    other = moved(by_hand, weights, seed=1)
    assert np.abs(other["conv1.weight"] - weights["conv1.weight"]).max() > 0.1
    np.testing.assert_allclose(network(other, images), expected, atol=1e-3)
