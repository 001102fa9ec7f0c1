"""Weight spaces read from a forward pass: whatever names say, groups are those of the function."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nfn.features import features_from_params, permute_params
from nfn.tracing import space_from_apply, split_from_apply
from nfn.weights import (
    TensorSpec,
    WeightSpace,
    cnn_space,
    hidden_only,
    leaf_path,
    leaves_of,
    mlp_space,
    residual_mlp_space,
    rnn_space,
)
from tests.nfn.test_splits import renamed


def module(call: Callable[..., Any]) -> nn.Module:
    """Returns a compact module of what `call` does."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, *inputs: jax.Array) -> jax.Array:
            return call(*inputs)

    return Net()


def chain(x: jax.Array) -> jax.Array:
    for width in (4, 5):
        x = nn.tanh(nn.Dense(width)(x))
    return nn.Dense(2)(x)


def nested_calls(x: jax.Array) -> jax.Array:
    return nn.Dense(3)(nn.tanh(nn.Dense(16)(x)))


def cnn(x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Conv(4, (3, 2))(x))
    x = nn.avg_pool(nn.relu(nn.Conv(5, (3, 3), strides=2)(x)), (2, 2))
    return nn.Dense(3)(jnp.mean(x, axis=(-3, -2)))


def residual(x: jax.Array) -> jax.Array:
    x = nn.Dense(6)(x)
    for _ in range(2):
        y = nn.Dense(6)(nn.gelu(x))  # not in one call: Flax would number them backwards
        x = x + nn.Dense(6)(nn.gelu(y))
    return nn.Dense(2)(x)


def residual_without_inner(x: jax.Array) -> jax.Array:
    x = nn.Dense(4)(x)
    x = x + nn.Dense(4)(nn.tanh(x))
    return nn.Dense(2)(x)


def recurrent(x: jax.Array) -> jax.Array:
    for size in (4, 5):
        x = jnp.asarray(nn.RNN(nn.SimpleCell(size))(x))
    return nn.Dense(2)(x[:, -1])


def normalized(x: jax.Array) -> jax.Array:
    x = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x))
    x = nn.relu(nn.Conv(4, (3, 3), feature_group_count=4)(x))  # a filter for every channel
    return nn.Dense(2)(nn.LayerNorm()(jnp.max(x, axis=(1, 2))))


def tied(params: Any, x: jax.Array) -> jax.Array:
    return nn.tanh(x @ params["w"] + params["b"][None]) @ params["w"].T


def lstm(x: jax.Array) -> jax.Array:
    return nn.Dense(1)(jnp.asarray(nn.RNN(nn.OptimizedLSTMCell(3))(x))[:, -1])


def variables_of(net: nn.Module, *inputs: jax.Array) -> Any:
    """Returns drawn variables, no two of them equal."""
    variables = jax.eval_shape(net.init, jax.random.key(0), *inputs)
    generator = np.random.default_rng(0)

    def draw(keys: Any, leaf: Any) -> jax.Array:
        signs = 1 if leaf_path(keys).endswith("var") else generator.choice([1, -1], leaf.shape)
        return jnp.asarray(generator.uniform(0.2, 1, leaf.shape) * signs, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, variables)


def inputs_of(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


IMAGE, VECTOR, SERIES = (2, 7, 6, 2), (5, 3), (2, 4, 3)
BY_NAME = {
    chain: (VECTOR, mlp_space([3, 4, 5, 2])),
    cnn: (IMAGE, cnn_space(channels=(2, 4, 5), filters=((3, 2), (3, 3)), dense=(3,))),
    residual: (VECTOR, residual_mlp_space(inputs=3, width=6, blocks=2, outputs=2, inner=6)),
    residual_without_inner: (VECTOR, residual_mlp_space(inputs=3, width=4, blocks=1, outputs=2)),
    recurrent: (SERIES, rnn_space([3, 4, 5, 2])),
}


@pytest.mark.parametrize("call", BY_NAME)
def test_flax_networks_have_the_spaces_their_architectures_say(call: Callable[..., Any]) -> None:
    shape, expected = BY_NAME[call]
    net, x = module(call), jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    space = space_from_apply(lambda p, x: net.apply({"params": p}, x), params, x)

    assert renamed(space) == renamed(expected)
    if call in (chain, cnn):
        assert space == expected


def test_the_numbers_of_nested_calls_are_not_the_order_of_the_layers() -> None:
    net, x = module(nested_calls), inputs_of(*VECTOR)
    params = variables_of(net, x)["params"]
    space = space_from_apply(lambda p, x: net.apply({"params": p}, x), params, x)

    assert space.tensors == (
        TensorSpec("Dense_1/kernel", (3, 16), ("input", "hidden_1")),
        TensorSpec("Dense_1/bias", (16,), ("hidden_1",)),
        TensorSpec("Dense_0/kernel", (16, 3), ("hidden_1", "output")),
        TensorSpec("Dense_0/bias", (3,), ("output",)),
    )


def test_gates_tied_weights_and_norms_get_the_groups_they_have() -> None:
    net, x = module(lstm), jax.ShapeDtypeStruct(SERIES, jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    space = space_from_apply(net.apply, variables, x)
    groups = {spec.path.removeprefix("params/"): spec.groups for spec in space.tensors}
    for gate in "ifgo":
        assert groups[f"OptimizedLSTMCell_0/i{gate}/kernel"] == ("input", "hidden_1")
        assert groups[f"OptimizedLSTMCell_0/h{gate}/kernel"] == ("hidden_1", "hidden_1")
        assert groups[f"OptimizedLSTMCell_0/h{gate}/bias"] == ("hidden_1",)
    assert groups["Dense_0/kernel"] == ("hidden_1", "output")

    space = space_from_apply(tied, {"w": np.ones((3, 5)), "b": np.ones(5)}, np.ones((2, 3)))
    assert {s.path: s.groups for s in space.tensors} == {
        "w": ("input", "hidden_1"),
        "b": ("hidden_1",),
    }

    net, x = module(normalized), inputs_of(*IMAGE)
    space = space_from_apply(net.apply, variables_of(net, x), x)
    assert space.groups == ("input", "hidden_1", "output")
    groups = {spec.path: spec.groups for spec in space.tensors}
    assert groups["batch_stats/BatchNorm_0/mean"] == ("hidden_1",)
    assert groups["params/Conv_1/kernel"] == (None, None, None, "hidden_1")


@pytest.mark.parametrize(
    ("call", "shape"),
    [(nested_calls, VECTOR), (residual, VECTOR), (lstm, SERIES), (normalized, IMAGE)],
)
def test_no_order_of_hidden_neurons_changes_what_the_network_computes(
    call: Callable[..., Any], shape: tuple[int, ...]
) -> None:
    net, x = module(call), inputs_of(*shape)
    variables = variables_of(net, x)
    space = hidden_only(space_from_apply(net.apply, variables, x))
    network = jax.jit(net.apply)
    expected = network(variables, x)

    permute = jax.jit(partial(permute_params, space))  # compiled once, for all orders
    generator = np.random.default_rng(2)
    order = {group: generator.permutation(n) for group, n in space.group_sizes.items()}
    moved = permute(variables, order)
    np.testing.assert_allclose(network(moved, x), expected, rtol=1e-4, atol=1e-4)
    same = {group: np.arange(n) for group, n in space.group_sizes.items()}
    for group, numbers in same.items():  # every group moves something that counts
        first = next(spec.path for spec in space.tensors if group in spec.groups)
        false = leaves_of(permute(variables, {**same, group: np.roll(numbers, 1)}))
        leaves, tree = jax.tree.flatten(variables)
        mixed = [
            false[path] if path == first else leaf
            for path, leaf in zip(leaves_of(variables), leaves, strict=True)
        ]
        assert np.abs(network(jax.tree.unflatten(tree, mixed), x) - expected).max() > 2e-3


def test_states_of_nnx_and_lists_of_layers_are_parameters() -> None:
    layers = [nnx.Linear(3, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 3, rngs=nnx.Rngs(1))]
    model = nnx.Sequential(layers[0], nnx.tanh, layers[1])
    graph, state = nnx.split(model, nnx.Param)
    space = space_from_apply(lambda s, x: nnx.merge(graph, s)(x), state, np.ones((1, 3)))
    assert [spec.path for spec in space.tensors] == [
        f"layers/{i}/{leaf}" for i in (0, 2) for leaf in ("kernel", "bias")
    ]
    features = features_from_params(space, state)
    np.testing.assert_array_equal(features["layers/2/kernel"][..., 0], layers[1].kernel[...])

    def apply(params: list, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params[0]["kernel"]) @ params[1]["kernel"]

    params = [{"kernel": np.ones((2, 4))}, {"kernel": np.ones((4, 2))}]
    space = space_from_apply(apply, params, np.ones((1, 2)))
    assert [spec.groups for spec in space.tensors] == [
        ("input", "hidden_1"),
        ("hidden_1", "output"),
    ]


def dense_after(change: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    return lambda x: nn.Dense(2)(change(nn.Dense(8)(x)))


def stacked_layers(params: Any, x: jax.Array) -> jax.Array:
    step = lambda x, w: (jnp.tanh(x @ w), None)
    return jax.lax.scan(step, x @ params["first"], params["all"])[0] @ params["last"]


REFUSED = {
    "flattened": (
        lambda x: nn.Dense(2)(nn.Conv(4, (3, 3))(x).reshape(len(x), -1)),
        IMAGE,
        r"Conv_0/kernel, axis 3: a reshape .* global pooling",
    ),
    "groups of channels": (
        lambda x: nn.Dense(2)(nn.GroupNorm(num_groups=2)(nn.Conv(4, (3, 3))(x)).mean((1, 2))),
        IMAGE,
        r"Conv_0/kernel, axis 3: a reshape",
    ),
    "heads": (
        lambda x: nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=6)(x, x),
        SERIES,
        r"/kernel, axis \d: a product that makes several axes of neurons",
    ),
    "a gate": (
        dense_after(lambda x: jnp.multiply(*jnp.split(x, 2, axis=-1))),
        VECTOR,
        "Dense_1/kernel, axis 1: one neuron has two places",
    ),
    "places of neurons": (
        dense_after(lambda x: jnp.cumsum(x, axis=-1)),
        VECTOR,
        "Dense_1/kernel, axis 1: `cumsum`",
    ),
    "a constant": (
        dense_after(lambda x: x * np.arange(8.0, dtype=np.float32)[None]),
        VECTOR,
        "Dense_1/kernel, axis 1: a constant array",
    ),
    "an ensemble": (
        lambda x: nn.vmap(
            nn.Dense,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=2,
        )(4)(x).sum(0),
        VECTOR,
        r"kernel, axis 0: a product that makes several axes of neurons",
    ),
    "concatenated": (
        lambda x: nn.Dense(2)(jnp.concatenate([nn.Dense(4)(x), nn.tanh(nn.Dense(3)(x))], -1)),
        VECTOR,
        "Dense_0/kernel: an axis holds several groups",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_labels_of_axes_cannot_describe_is_refused_by_name(what: str) -> None:
    call, shape, message = REFUSED[what]
    net, x = module(call), jax.ShapeDtypeStruct(shape, jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    with pytest.raises(ValueError, match=message):
        space_from_apply(lambda p, x: net.apply({"params": p}, x), params, x)


def test_layers_in_one_array_are_refused() -> None:
    params = {"first": np.ones((3, 4)), "all": np.ones((5, 4, 4)), "last": np.ones((4, 2))}
    with pytest.raises(ValueError, match="all, axis 0: a loop over them"):
        space_from_apply(stacked_layers, params, np.ones((1, 3)))

    def one_by_one(params: Any, x: jax.Array) -> jax.Array:
        x = x @ params["first"]
        for i in range(5):
            x = jnp.tanh(x @ params["all"][i])
        return x @ params["last"]

    with pytest.raises(ValueError, match="all, axis 0: an index into them"):
        space_from_apply(one_by_one, params, np.ones((1, 3)))


def test_numbered_neurons_are_refused_and_numbered_classes_of_inputs_are_not() -> None:
    params = {"first": np.ones((3, 4)), "middle": np.ones((4, 4)), "last": np.ones((4, 2))}

    def nearly_identity(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["first"]) @ (params["middle"] + jnp.eye(4)) @ params["last"]

    with pytest.raises(ValueError, match=r"first, axis 1: numbering them"):
        space_from_apply(nearly_identity, params, np.ones((1, 3)))

    def of_classes(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(jax.nn.one_hot(x, 3) @ params["first"]) @ params["last"]

    del params["middle"]
    space = space_from_apply(of_classes, params, np.ones(5, np.int32))
    assert [spec.groups for spec in space.tensors] == [(None, "hidden_1"), ("hidden_1", "output")]


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        (lambda h: h + h[:, :1], [1, 7]),
        (lambda h: jnp.maximum(h, h[:, 2][:, None]), [1, 7]),
        (lambda h: h / jnp.sum(h[:, 3:], axis=-1, keepdims=True), [3, 5]),
        (lambda h: jnp.concatenate([nn.softmax(h[:, :2]), h[:, 2:]], axis=-1), [2, 6]),
        (lambda h: h / jnp.sum(h, axis=-1, keepdims=True), [8]),
    ],
)
def test_neurons_that_are_picked_or_summed_apart_are_a_group_of_their_own(
    change: Callable[[jax.Array], jax.Array], sizes: list[int]
) -> None:
    def apply(params: Any, x: jax.Array) -> jax.Array:
        return change(x @ params["first"]) @ params["last"]

    params = {"first": np.ones((3, 8)), "last": np.ones((8, 2))}
    space = hidden_only(split_from_apply(apply, params, np.ones((4, 3))).space)
    first = [spec for spec in space.tensors if spec.path.startswith("first")]
    assert sorted(spec.shape[1] for spec in first) == sizes
    assert len({spec.groups[1] for spec in first}) == len(sizes)


def test_what_arranges_inputs_or_outputs_anew_is_none_of_the_hidden_neurons() -> None:
    def image_to_image(x: jax.Array) -> jax.Array:
        y = nn.Dense(5)((x.reshape(len(x), -1) - 0.5) / np.arange(1, 85, dtype=np.float32)[None])
        return nn.Dense(84)(nn.relu(y)).reshape(x.shape)

    net, x = module(image_to_image), jax.ShapeDtypeStruct(IMAGE, jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    space = space_from_apply(lambda p, x: net.apply({"params": p}, x), params, x)
    assert space == mlp_space([84, 5, 84])


def test_rows_of_a_table_and_places_of_filters_are_fixed() -> None:
    def look_up(x: jax.Array) -> jax.Array:
        return nn.Dense(2)(nn.Embed(10, 4)(x).mean(axis=1))

    net, x = module(look_up), jax.ShapeDtypeStruct((3, 6), jnp.int32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    space: WeightSpace = space_from_apply(lambda p, x: net.apply({"params": p}, x), params, x)
    assert {spec.path: spec.groups for spec in space.tensors} == {
        "Embed_0/embedding": (None, "hidden_1"),
        "Dense_0/kernel": ("hidden_1", "output"),
        "Dense_0/bias": ("output",),
    }
