"""Blocks: which leaves are in which, by path, by depth and of residual networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nets.preactivation_resnet import PreActResNet
from common.nets.resnet import ResNet
from common.networks import from_stateful_linen
from common.subtrees import join
from finetune.blocks import (
    blocks_by_depth,
    blocks_by_path,
    by_block,
    check_mask,
    leaf_paths,
    over_blocks,
    resnet_blocks,
    split,
    stacked_masks,
    tuned_mask,
)
from finetune.programs import has_convolution, loop_safe, program

IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
# Layers in an order that no name tells: z is first.
PARAMS = {
    "z": {"kernel": np.ones((2, 3)), "bias": np.ones(3)},
    "scale": {"gain": np.ones(3)},
    "a": {"kernel": np.ones((3, 4)), "bias": np.ones(4)},
    "m": {"kernel": np.ones((4, 2)), "bias": np.ones(2)},
}


def apply(params: Any, x: Any) -> jax.Array:
    for name in "zam":
        x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"][None])
        x = x * params["scale"]["gain"][None] if name == "z" else x
    return x


def variables_of(module: Any) -> tuple[Any, Any]:
    network = from_stateful_linen(module, IMAGES)
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    return {"params": params, "batch_stats": stats}, network


def test_blocks_by_path_hold_what_their_expressions_match_in_order() -> None:
    found = blocks_by_path(PARAMS, [("head", "^m/"), ("biases", "^[az]/bias")])
    assert found.names == ("head", "biases")
    assert found.paths == (("m/bias", "m/kernel"), ("a/bias", "z/bias"))
    assert found.others == ("a/kernel", "scale/gain", "z/kernel")
    assert [found.of(path) for path in ("m/bias", "z/bias", "z/kernel")] == [0, 1, None]
    values = {path: i for i, path in enumerate(leaf_paths(PARAMS))}
    assert by_block(found, values) == {"head": [2, 3], "biases": [0, 5]}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            [("a", "^a/"), ("b", "nowhere")],
            "block 'b': 'nowhere' matches no leaf; paths are a/bias",
        ),
        ([("a", "^a/"), ("b", "bias")], "matches a/bias, which is in block 'a' already"),
        ([("a", "^a/"), ("a", "^z/")], "'a' names two of them"),
        ([("all", "^a/")], "'all' stands for all or no leaves"),
    ],
)
def test_groups_that_are_no_blocks_are_refused(groups: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blocks_by_path(PARAMS, groups)


def test_blocks_by_depth_follow_the_program_and_not_the_names() -> None:
    x = np.ones((1, 2))
    two = blocks_by_depth(PARAMS, 2, apply=jax.jit(apply), inputs=x)
    assert two.names == ("block1", "last")
    assert set(two.paths[1]) == {"m/kernel", "m/bias"}
    three = blocks_by_depth(PARAMS, 3, apply=apply, inputs=x)
    assert [set(paths) for paths in three.paths] == [
        {"z/kernel", "z/bias", "scale/gain"},  # what has no matrix goes with the layer before it
        {"a/kernel", "a/bias"},
        {"m/kernel", "m/bias"},
    ]
    flat = {"w2": np.ones((3, 2)), "b": np.ones(3), "w9": np.ones((2, 3)), "c": np.ones(2)}
    line = lambda p, x: (x @ p["w9"] + p["b"][None]) @ p["w2"] + p["c"][None]
    found = blocks_by_depth(flat, 2, apply=line, inputs=x)
    assert [set(paths) for paths in found.paths] == [{"w9", "b"}, {"w2", "c"}]
    with pytest.raises(ValueError, match="num_blocks=4; expected 2 to 3, the layers"):
        blocks_by_depth(PARAMS, 4, apply=apply, inputs=x)


def test_blocks_of_residual_networks_are_stem_and_stages_and_head() -> None:
    variables, network = variables_of(ResNet(20))
    found = resnet_blocks(variables)
    assert found.names == ("block1", "block2", "block3", "last")
    assert set(found.others) == {"params/norm/scale", "params/norm/bias"}
    assert len(found.fixed) == 2 * 21  # mean and variance of 19 + 2 normalizations
    # He et al. (2016): 3 x 2 convolutions of every stage, and the stem.
    kernels = [[p for p in paths if p.endswith("kernel")] for paths in found.paths]
    assert [len(names) for names in kernels] == [7, 7, 7, 1]
    assert "params/conv/kernel" in found.paths[0]
    of_params = resnet_blocks(variables["params"], with_norm=True)
    assert not of_params.others and "norm/scale" in of_params.paths[0]
    assert resnet_blocks(variables_of(PreActResNet(18, 8))[0]).names[3:] == ("block4", "last")
    # By depth, the same stages: their layers are contiguous, and as many.
    apply = lambda v, x: network.apply(v["params"], v["batch_stats"], x)[0]
    depth = blocks_by_depth(variables, 4, apply=apply, inputs=IMAGES)
    for ours, stages in zip(depth.paths[1:], found.paths[1:], strict=True):
        assert set(ours) == set(stages)
    with pytest.raises(ValueError, match=r"no stage1_\.\.\. among the paths a/bias"):
        resnet_blocks(PARAMS)


def test_masks_split_a_tree_and_join_it_again() -> None:
    groups = blocks_by_path(PARAMS, [("first", "^z/"), ("head", "^m/")])
    mask = tuned_mask(PARAMS, groups, ("head",))
    tuned, frozen = split(PARAMS, mask)
    assert leaf_paths(tuned) == groups.paths[1]
    assert len(jax.tree.leaves(frozen)) == len(jax.tree.leaves(PARAMS)) - 2
    whole = join(tuned, frozen)
    assert all(a is b for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(PARAMS), strict=True))
    assert all(jax.tree.leaves(tuned_mask(PARAMS, groups, "all")))
    stacked = stacked_masks(PARAMS, groups, ["first", ("first", "head"), "all"])
    np.testing.assert_array_equal(stacked["z"]["bias"], [1, 1, 1])
    np.testing.assert_array_equal(stacked["m"]["bias"], [0, 1, 1])
    np.testing.assert_array_equal(stacked["a"]["bias"], [0, 0, 1])
    spread = over_blocks(PARAMS, groups, jnp.array([2.0, 3.0]))
    assert [spread[name]["bias"] for name in "zma"] == [2, 3, 0]


def test_statistics_are_never_tuned() -> None:
    variables, _ = variables_of(ResNet(8))
    mask = tuned_mask(variables, resnet_blocks(variables), "all")
    assert all(jax.tree.leaves(mask["params"])) and not any(jax.tree.leaves(mask["batch_stats"]))


def test_masks_that_tune_nothing_are_refused() -> None:
    groups = blocks_by_path(PARAMS, [("first", "^z/"), ("head", "^m/")])
    with pytest.raises(ValueError, match=r"no block 'heat' \(did you mean \"head\"\?\)"):
        tuned_mask(PARAMS, groups, "heat")
    with pytest.raises(ValueError, match="freezes everything"):
        tuned_mask(PARAMS, groups, ())
    with pytest.raises(ValueError, match="mask freezes everything"):
        check_mask(jax.tree.map(lambda _: False, PARAMS), PARAMS)
    with pytest.raises(ValueError, match="another structure"):
        check_mask({"a": True}, PARAMS)


def test_convolutions_are_found_and_made_fast_in_loops() -> None:
    def plain(kernel: Any, x: Any) -> jax.Array:
        order = ("NHWC", "HWIO", "NHWC")
        convolved = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", None, None, order)
        return jax.nn.relu(convolved)

    kernel, x = np.ones((3, 3, 2, 4), np.float32), np.ones((1, 5, 5, 2), np.float32)
    assert has_convolution(jax.jit(plain), kernel, x)
    assert not has_convolution(apply, PARAMS, np.ones((1, 2)))
    primitives = lambda f: [o.primitive for o in program(f, kernel, x).operations]
    before, after = primitives(plain), primitives(loop_safe(jax.jit(plain)))
    assert jax.lax.conv_general_dilated_p in before
    assert jax.lax.conv_general_dilated_p not in after
    assert [p.name for p in before] == [p.name for p in after]
    # The middle pixel sees 3 x 3 x 2 ones.
    found = jax.jit(loop_safe(plain))(kernel, x)
    np.testing.assert_array_equal(found[0, 2, 2], np.full(4, 18))
