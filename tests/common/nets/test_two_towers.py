"""Two towers: outputs of length 1, linear heads of a given rank, and gradients in both."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from common.contrastive import contrastive_loss
from common.nets.features import places_of
from common.nets.text_encoder import TextEncoder
from common.nets.transformer_sharding import transformer_rules
from common.nets.two_towers import Tower, TwoTowers, unit
from common.nets.vit import ViT
from common.networks import from_stateful_linen
from common.sharding import make_mesh, shardings
from tests.common.nets.counts import drawn, shapes_of
from tests.processes import Child

BOTTLENECK = 2
OVER_DEVICES = """
import json
import jax
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec
from common.contrastive import contrastive_loss
from common.nets.transformer import TransformerBlock
from common.nets.transformer_sharding import transformer_rules
from common.sharding import make_mesh, shardings

mesh, block = make_mesh({"data": 4, "model": 2}), TransformerBlock(2, 16)
x = jax.random.normal(jax.random.key(0), (8, 4, 8))
params = block.init(jax.random.key(1), x)["params"]

def loss(params, x):
    y = block.apply({"params": params}, x)
    return contrastive_loss(y[:, 0], y[:, 1], temperature=0.5)

rules = transformer_rules(tensor="model", min_size=8)
placed = shardings({"params": {"layer1": params}}, rules, mesh, "state")["params"]["layer1"]
split = jax.device_put(params, placed)
assert split["mlp_in"]["kernel"].sharding.spec == PartitionSpec("data", "model")
rows = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
both = [jax.jit(jax.value_and_grad(loss))(*pair) for pair in ((params, x), (split, rows))]
print(json.dumps([ravel_pytree(jax.device_get(found))[0].tolist() for found in both]))
"""
MODULE = TwoTowers(
    Tower(ViT(4, hidden=8, layers=1, heads=2, mlp=12, num_classes=None), 6, BOTTLENECK),
    Tower(TextEncoder(9, hidden=8, layers=1, heads=2, mlp=12, max_length=5), 6),
)
DRAW = np.random.default_rng(0)
IMAGES = jnp.asarray(DRAW.normal(size=(7, 8, 8, 2)).astype(np.float32))
TEXTS = jnp.asarray(DRAW.integers(0, 9, (7, 5)), jnp.int32)


def test_heads_are_linear_of_the_bottleneck_s_rank_and_both_towers_learn() -> None:
    network = from_stateful_linen(MODULE, IMAGES, TEXTS)
    params, state = drawn(MODULE, IMAGES, TEXTS)
    places = places_of(network, params, state, (IMAGES, TEXTS))

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def slopes_of(params: Any) -> Any:
        outputs, kept = MODULE.apply({"params": params}, IMAGES, TEXTS, mutable=["features"])
        return contrastive_loss(*outputs, temperature=0.5), (outputs, kept["features"])

    slopes, (outputs, kept) = slopes_of(params)
    found = {f"{tower}/{at}": kept[tower][at] for tower in kept for at in ("before_head", "head")}
    assert {place: value.shape for place, value in found.items()}.items() <= places.items()
    for tower, output in zip(("first", "second"), outputs, strict=True):
        head = np.asarray(found[f"{tower}/head"], np.float64)
        # Single precision, and numbers up to 1.
        np.testing.assert_allclose(np.linalg.norm(output, axis=1), 1, rtol=1e-6)
        lengths = np.linalg.norm(head, axis=1, keepdims=True)
        np.testing.assert_allclose(output, head / lengths, atol=1e-6)
        linear = head - np.asarray(params[tower]["head_dense"]["bias"])
        if tower == "first":
            linear = head - head.mean(0)
        values = np.linalg.svd(linear, compute_uv=False)
        rank = int((values > 1e-5 * values[0]).sum())
        assert rank == (BOTTLENECK if tower == "first" else 6)
    layer = params["second"]["head_dense"]
    expected = found["second/before_head"] @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(found["second/head"], expected, rtol=1e-4, atol=1e-4)
    for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
        # A bias of keys changes no softmax: its gradient is 0.
        assert "['key']['bias']" in jax.tree_util.keystr(path) or np.abs(slope).max() > 1e-6


def test_a_vector_of_zeros_stays_and_has_no_gradient() -> None:
    x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    total = lambda x: (jnp.sum(unit(x)), unit(x))
    slope, value = jax.jit(jax.grad(total, has_aux=True))(x)
    np.testing.assert_allclose(value, [[0, 0], [0.6, 0.8]], rtol=1e-6)
    # d/dx_i sum_j x_j / |x| = 1 / |x| - x_i sum_j x_j / |x|^3
    np.testing.assert_allclose(slope[1], [1 / 5 - 21 / 125, 1 / 5 - 28 / 125], rtol=1e-5)
    np.testing.assert_array_equal(slope[0], [0, 0])


def test_rules_split_heads_neurons_and_whatever_is_large() -> None:
    params, _ = shapes_of(MODULE, IMAGES, TEXTS)
    mesh = make_mesh({"data": 1, "model": 1})
    rules = transformer_rules(tensor="model", min_size=32)

    found = shardings({"params": params}, rules, mesh, "state")["params"]["second"]["body"]
    block, spec = found["layer1"], PartitionSpec
    assert block["attention"]["query"]["kernel"].spec == spec("data", "model", None)
    assert block["attention"]["out"]["kernel"].spec == spec("model", None, "data")
    assert block["mlp_in"]["kernel"].spec == spec("data", "model")
    assert block["mlp_in"]["bias"].spec == spec("model")
    assert block["mlp_out"]["kernel"].spec == spec("model", "data")
    assert block["mlp_out"]["bias"].spec == block["norm1"]["scale"].spec == spec()
    assert found["tokens"]["embedding"].spec == spec("data", None)
    plain = shardings({"params": params}, transformer_rules(data=None), mesh, "state")
    assert all(leaf.spec == spec() for leaf in jax.tree.leaves(plain))


@pytest.mark.slow  # eight devices, in a process of its own
def test_a_loss_of_all_pairs_is_the_same_over_devices(child: Child) -> None:
    done = child(OVER_DEVICES, devices=8)
    assert done.returncode == 0, done.stderr
    # Gradients add up 32 products of single precision in another order.
    whole, parts = (np.asarray(values) for values in json.loads(done.stdout))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6 * np.abs(whole).max())


def test_a_head_without_outputs_is_refused() -> None:
    tower = Tower(ViT(4, hidden=8, layers=1, heads=2, mlp=12, num_classes=None), 6, 0)
    with pytest.raises(ValueError, match="Tower: bottleneck=0; expected at least 1"):
        shapes_of(tower, IMAGES)
