"""Weight spaces: labels, multiplicities, and what is inferred from Flax parameters."""

import itertools
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from nfn.weights import (
    Params,
    TensorSpec,
    cnn_space,
    fix_groups,
    hidden_only,
    leaves_of,
    mlp_space,
    space_from_params,
    weight_space,
)


class MLP(nn.Module):
    widths: Sequence[int]
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.widths:
            x = nn.Dense(width, use_bias=self.use_bias)(jnp.sin(x))
        return x


class CNN(nn.Module):
    pool: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3, 2))(x))
        x = nn.relu(nn.Conv(5, (3, 3), strides=2)(x))
        x = jnp.mean(x, axis=(-3, -2)) if self.pool else x.reshape(x.shape[0], -1)
        return nn.Dense(3)(x)


def shapes(module: nn.Module, *input_shape: int) -> Params:
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(input_shape))["params"]


def layer(*shape: int, bias: bool = True) -> dict[str, jax.Array]:
    kernel = {"kernel": jnp.zeros(shape)}
    return {**kernel, "bias": jnp.zeros(shape[-1])} if bias else kernel


def test_flax_networks_have_the_spaces_their_architectures_say() -> None:
    assert space_from_params(shapes(MLP((4, 5, 2)), 1, 3)) == mlp_space([3, 4, 5, 2])
    cnn = cnn_space(channels=(2, 4, 5), filters=((3, 2), (3, 3)), dense=(3,))
    assert space_from_params(shapes(CNN(), 1, 8, 8, 2)) == cnn


def test_a_chain_labels_both_sides_of_every_neuron_with_the_same_group() -> None:
    space = cnn_space(channels=(2, 4), filters=((3, 2),), dense=(3,))
    assert space.tensors == (
        TensorSpec("Conv_0/kernel", (3, 2, 2, 4), (None, None, "input", "hidden_1")),
        TensorSpec("Conv_0/bias", (4,), ("hidden_1",)),
        TensorSpec("Dense_0/kernel", (4, 3), ("hidden_1", "output")),
        TensorSpec("Dense_0/bias", (3,), ("output",)),
    )
    assert space.group_sizes == {"input": 2, "hidden_1": 4, "output": 3}
    assert [spec.multiplicity for spec in space.tensors] == [6, 1, 1, 1]
    assert [spec.multiplicity for spec in hidden_only(space).tensors] == [12, 1, 3, 3]
    assert space.size == hidden_only(space).size == 48 + 4 + 12 + 3


def test_a_single_neuron_counts_as_fixed() -> None:
    space = mlp_space([2, 3, 1])
    assert space.group_sizes == {"input": 2, "hidden_1": 3}
    assert space.groups == ("input", "hidden_1", "output")
    assert space.tensors[-2].permuted == (0,)
    assert space.tensors[-1].permuted == ()
    assert space.tensors[-1].multiplicity == 1


def test_fixing_groups_is_idempotent_and_spaces_are_static_arguments() -> None:
    space = mlp_space([2, 3, 3, 2])
    assert fix_groups(space, ("input", "output")) == hidden_only(space)
    assert hidden_only(hidden_only(space)) == hidden_only(space)
    assert hidden_only(space).group_sizes == {"hidden_1": 3, "hidden_2": 3}
    assert len({space, mlp_space([2, 3, 3, 2]), hidden_only(space)}) == 2


def test_layers_without_bias_are_allowed() -> None:
    space = space_from_params(shapes(MLP((4, 2), use_bias=False), 1, 3))
    assert [spec.path for spec in space.tensors] == ["Dense_0/kernel", "Dense_1/kernel"]


def test_layers_are_ordered_by_their_shapes_if_only_one_network_fits() -> None:
    params = {"body": layer(4, 5), "encoder": layer(2, 4), "head": layer(5, 3)}
    space = space_from_params(params)
    assert [s.path.partition("/")[0] for s in space.tensors][::2] == ["encoder", "body", "head"]
    assert space_from_params(params, order=["encoder", "body", "head"]) == space

    space = space_from_params({"classifier": layer(4, 3), "stem": layer(3, 3, 1, 4)})
    assert [s.path for s in space.tensors][::2] == ["stem/kernel", "classifier/kernel"]


@pytest.mark.parametrize(
    ("widths", "repeated"), [([3, 16, 3], 3), ([2, 8, 8, 1], 8), ([1, 4, 1], 1), ([5, 5], 5)]
)
def test_what_names_and_shapes_leave_open_is_asked(widths: list[int], repeated: int) -> None:
    """A nested call has these numbers in another order, a shortcut these very shapes."""
    params = {f"Dense_{i}": layer(*pair) for i, pair in enumerate(itertools.pairwise(widths))}
    names = re.escape(str(list(params)))
    with pytest.raises(ValueError, match=rf"width {repeated} .*space_from_apply.* order={names}"):
        space_from_params(params)
    assert space_from_params(params, order=list(params)) == mlp_space(widths)


def test_layers_that_are_numbered_backwards_are_a_chain_by_their_shapes() -> None:
    class Nested(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Dense(2)(nn.tanh(nn.Dense(16)(x)))

    paths = [spec.path for spec in space_from_params(shapes(Nested(), 1, 3)).tensors]
    assert paths[::2] == ["Dense_1/kernel", "Dense_0/kernel"]


def test_states_of_nnx_and_lists_of_layers_are_trees_too() -> None:
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(2, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 1, rngs=rngs))
    state = nnx.state(model, nnx.Param)
    for tree in (state, nnx.to_pure_dict(state)):
        paths = [spec.path for spec in space_from_params(tree).tensors]
        assert paths == ["layers/0/kernel", "layers/0/bias", "layers/2/kernel", "layers/2/bias"]
    paths = [spec.path for spec in space_from_params([layer(2, 3), layer(3, 1)]).tensors]
    assert paths == ["0/kernel", "0/bias", "1/kernel", "1/bias"]
    with pytest.raises(ValueError, match="two parameters have the path 'a/b'"):
        leaves_of({"a": {"b": 1.0}, "a/b": 2.0})


def test_an_order_may_be_given() -> None:
    params = {"b_0": layer(3, 3), "a": layer(3, 3), "end": layer(3, 2)}
    for order in (["a", "b_0", "end"], ["b_0", "a", "end"]):
        space = space_from_params(params, order=order)
        assert [s.path.partition("/")[0] for s in space.tensors][::2] == order
    with pytest.raises(ValueError, match=r"b_0/kernel: 3 inputs, but end/kernel has 2 outputs"):
        space_from_params(params, order=["a", "end", "b_0"])
    with pytest.raises(ValueError, match=r"order=\['a', 'end'\] must name each of the layers"):
        space_from_params(params, order=["a", "end"])


def test_nested_trees_keep_their_full_paths() -> None:
    space = space_from_params({"params": {"net": {"a": layer(2, 3), "b": layer(3, 1)}}})
    assert space.tensors[0].path == "params/net/a/kernel"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"Conv_0": layer(3, 3, 1, 4), "Dense_0": layer(36, 2)},
            r"Dense_0/kernel: 36 inputs, but Conv_0/kernel has 4 outputs .*9 positions.*pooling",
        ),
        (
            {"a_0": layer(2, 3), "a_1": layer(4, 6)},
            r"a_1/kernel: 4 inputs, but a_0/kernel has 3 outputs; .* `order=`; .*space_from_apply",
        ),
        (
            {"a": layer(2, 3), "b": layer(4, 5)},
            r"b/kernel: 4 inputs, but a/kernel has 3 outputs; .* `order=`",
        ),
        (
            {"first": layer(2, 3), "middle": layer(3, 3), "again": layer(3, 3)},
            "first/kernel: 2 inputs, but again/kernel has 3 outputs; .*order=`",
        ),
        (
            {"z": layer(5, 2)} | {chr(97 + i): layer(3, 3) for i in range(20)},
            "z/kernel: 5 inputs, but t/kernel",
        ),
        ({"a": layer(2, 3), "norm": {"scale": jnp.ones(3)}}, r"norm/scale: shape \(3,\)"),
        ({"a": {"kernel": 1.0, "bias": 2.0}}, r"a/bias: layer 'a' has no kernel|shape \(\)"),
        ({"a": {"kernel": jnp.zeros(3)}}, r"a/kernel: shape \(3,\) is neither"),
        ({"a": {"bias": jnp.zeros(3)}}, "a/bias: layer 'a' has no kernel"),
        (
            {"a": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(2)}},
            r"a/bias: shape \(2,\), expected \(3,\)",
        ),
        ({}, "at least one layer"),
    ],
)
def test_what_is_not_a_chain_is_refused_by_name(params: Params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        space_from_params(params)


def test_a_real_flattening_network_is_refused() -> None:
    with pytest.raises(ValueError, match="80 inputs, but Conv_1/kernel has 5 outputs"):
        space_from_params(shapes(CNN(pool=False), 1, 8, 8, 2))


def test_inconsistent_labels_are_refused() -> None:
    a = TensorSpec("a", (2, 3), ("x", "y"))
    with pytest.raises(ValueError, match=r"b: group 'x' acts on an axis of size 3, .* 2 in a"):
        weight_space([a, TensorSpec("b", (3,), ("x",))])
    with pytest.raises(ValueError, match=r"b: shape .* has 1 axes, but there are 2"):
        weight_space([a, TensorSpec("b", (3,), ("x", None))])
    with pytest.raises(ValueError, match="two tensors called 'a'"):
        weight_space([a, a])
    with pytest.raises(ValueError, match="unknown groups"):
        fix_groups(mlp_space([2, 3]), ["hidden_1"])
    with pytest.raises(ValueError, match="3 channel counts need 2 filter sizes, got 1"):
        cnn_space(channels=(1, 2, 3), filters=((3, 3),))
