"""Groups on two axes of a tensor: recurrent and residual networks, and the layers for them."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from nfn import layers
from nfn.couplings import couplings, num_constants, num_linear_parameters
from nfn.features import (
    Features,
    feature_shapes,
    features_from_params,
    features_from_vector,
    params_from_features,
    permute_features,
    permute_params,
    random_permutation,
)
from nfn.readers import invariant_reader
from nfn.stack import StackSpec, linear_trunk
from nfn.weights import (
    TensorSpec,
    WeightSpace,
    hidden_only,
    residual_mlp_space,
    rnn_space,
    weight_space,
)

equivariant_linear = jax.jit(layers.equivariant_linear, static_argnames="space")
init_equivariant_linear = jax.jit(
    layers.init_equivariant_linear, static_argnames=("space", "c_in", "c_out")
)
invariant_pool = jax.jit(layers.invariant_pool, static_argnames="space")


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


class RNN(nn.Module):
    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.widths[:-1]:
            x = jnp.asarray(nn.RNN(nn.SimpleCell(width, param_dtype=x.dtype))(x))
        return nn.Dense(self.widths[-1])(x[..., -1, :])


class ResidualMLP(nn.Module):
    """Pre-activation residual blocks; `inner` is None for blocks of one square layer."""

    width: int
    blocks: int
    outputs: int
    inner: int | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width)(x)
        for _ in range(self.blocks):
            y = nn.relu(x)
            if self.inner is not None:
                y = nn.relu(nn.Dense(self.inner)(y))
            x = x + nn.Dense(self.width)(y)
        return nn.Dense(self.outputs)(x)


# Networks that compute the same function with permuted hidden neurons: module, input, space.
ARCHITECTURES = {
    "rnn": (RNN((5, 2)), (2, 6, 3), rnn_space([3, 5, 2])),
    "stacked rnn": (RNN((5, 4, 2)), (2, 6, 3), rnn_space([3, 5, 4, 2])),
    "residual": (
        ResidualMLP(4, 2, 2, inner=6),
        (7, 3),
        residual_mlp_space(inputs=3, width=4, blocks=2, outputs=2, inner=6),
    ),
    "square residual": (
        ResidualMLP(4, 2, 2, inner=None),
        (7, 3),
        residual_mlp_space(inputs=3, width=4, blocks=2, outputs=2),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] * (x != "rnn")) for x in ARCHITECTURES]
)
def test_permuting_hidden_neurons_preserves_the_function_of_a_flax_network(name: str) -> None:
    module, input_shape, space = ARCHITECTURES[name]
    key_x, key_init, key_permutation = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key_x, input_shape)
    hidden = hidden_only(space)
    # Also the biases, which Flax starts at 0, so that they notice a wrong permutation.
    draws = jax.random.normal(key_init, (space.size,)) / 2
    params = params_from_features(hidden, features_from_vector(hidden, draws))
    apply = jax.jit(lambda params: module.apply({"params": params}, x))
    y = apply(params)
    permutations = random_permutation(key_permutation, hidden)
    # Sums of at most 10 products of size 1, six times in a row.
    np.testing.assert_allclose(apply(permute_params(hidden, params, permutations)), y, atol=1e-12)
    assert np.ptp(y) > 0.1
    for spec in hidden.tensors:
        if len(set(spec.permuted_groups)) < len(spec.permuted):
            moved = features_from_params(hidden, params)
            axis = {
                spec.path: jnp.take(moved[spec.path], permutations[spec.permuted_groups[0]], axis=0)
            }
            false = params_from_features(hidden, moved | axis)  # rows of W_hh only
            assert np.abs(apply(false) - y).max() > 1e-2


def test_recurrent_and_square_residual_kernels_carry_their_group_twice() -> None:
    rnn = rnn_space([3, 5, 4, 2])
    carried = {spec.path: spec.groups for spec in rnn.tensors}
    assert carried["SimpleCell_1/i/kernel"] == ("hidden_1", "hidden_2")
    assert carried["SimpleCell_1/h/kernel"] == ("hidden_2", "hidden_2")
    assert hidden_only(rnn).group_sizes == {"hidden_1": 5, "hidden_2": 4}

    square = residual_mlp_space(inputs=3, width=4, blocks=2, outputs=2)
    twice = [spec.path for spec in square.tensors if spec.groups == ("stream", "stream")]
    assert twice == ["Dense_1/kernel", "Dense_2/kernel"]
    assert hidden_only(square).group_sizes == {"stream": 4}
    inner = residual_mlp_space(inputs=3, width=4, blocks=2, outputs=2, inner=6)
    assert hidden_only(inner).group_sizes == {"stream": 4, "inner_1": 6, "inner_2": 6}

    with pytest.raises(ValueError, match=r"widths \(3, 2\): an RNN needs"):
        rnn_space([3, 2])
    with pytest.raises(ValueError, match="0 residual blocks"):
        residual_mlp_space(inputs=3, width=4, blocks=0, outputs=2)


SQUARE = weight_space([TensorSpec("h", (5, 5), ("h", "h"))])


def random_features(space: WeightSpace, c: int) -> Features:
    generator = np.random.default_rng(0)
    shapes = feature_shapes(space, c)
    return {p: jnp.asarray(generator.normal(size=(2, *shape))) for p, shape in shapes.items()}


def test_maps_of_one_square_kernel_are_the_fifteen_partitions_of_four_axes() -> None:
    """2 x 1 through no index, 3 x 3 through one, 2 x 2 of them through two: Bell(4)."""
    sizes = [(len(c.groups), len(c.reads), len(c.writes)) for c in couplings(SQUARE)]
    assert sizes == [(0, 2, 2), (1, 3, 3), (2, 2, 1)]
    assert sum(reads * writes for _, reads, writes in sizes) == 15
    assert num_linear_parameters(SQUARE) == 15
    assert num_constants(SQUARE) == 2
    assert num_linear_parameters(SQUARE, 3, 4) == 180
    params = init_equivariant_linear(jax.random.key(0), space=SQUARE, c_in=3, c_out=4)
    assert {name: m.shape for name, m in params.matrices.items()} == {
        "global": (6, 8),
        "h": (9, 12),
        "h,h": (6, 4),
    }
    assert {name: b.shape for name, b in params.biases.items()} == {"h": (4,), "h:0=1": (4,)}


def test_the_layer_of_a_square_kernel_is_the_formula_written_out() -> None:
    c_in, c_out = 2, 3
    params = init_equivariant_linear(jax.random.key(1), space=SQUARE, c_in=c_in, c_out=c_out)
    x = random_features(SQUARE, c_in)
    y = np.asarray(equivariant_linear(params, x, space=SQUARE)["h"])
    matrices, biases, w = jax.tree.map(np.asarray, (*params, x["h"]))

    def block(name: str, read: int, write: int) -> np.ndarray:
        rows = slice(read * c_in, (read + 1) * c_in)
        return matrices[name][rows, write * c_out : (write + 1) * c_out]

    diagonal = np.stack([w[:, i, i] for i in range(5)], axis=1)
    scalars = [w.mean((1, 2)), diagonal.mean(1)]
    # Along the kept axis 0, along the kept axis 1, on the diagonal.
    vectors = [w.mean(2), w.mean(1), diagonal]
    for i in range(5):
        for j in range(5):
            expected = w[:, i, j] @ block("h,h", 0, 0) + w[:, j, i] @ block("h,h", 1, 0)
            expected += biases["h"] + sum(s @ block("global", k, 0) for k, s in enumerate(scalars))
            expected += sum(v[:, i] @ block("h", k, 0) for k, v in enumerate(vectors))
            expected += sum(v[:, j] @ block("h", k, 1) for k, v in enumerate(vectors))
            if i == j:
                expected += biases["h:0=1"]
                expected += sum(s @ block("global", k, 1) for k, s in enumerate(scalars))
                expected += sum(v[:, i] @ block("h", k, 2) for k, v in enumerate(vectors))
            np.testing.assert_allclose(y[:, i, j], expected, atol=1e-13)


@pytest.mark.slow
def test_a_group_on_three_axes_works_too() -> None:
    """Bell(6) = 203 maps, Bell(3) = 5 constants; fixed axes multiply; other groups in between."""
    cube = TensorSpec("t", (4, 2, 4, 3, 4), ("h", None, "h", "g", "h"))
    space = weight_space([cube, TensorSpec("b", (4,), ("h",))])
    c_in, c_out = 2, 1
    params = init_equivariant_linear(jax.random.key(0), space=space, c_in=c_in, c_out=c_out)
    counts = [sum(leaf.size for leaf in part.values()) for part in params]
    # Bell(6) Bell(2) 2^2 + 2 * Bell(4) 2 + Bell(2); Bell(3) 2 + Bell(1).
    assert counts == [c_in * c_out * (203 * 2 * 4 + 2 * 15 * 2 + 2), c_out * (5 * 2 + 1)]
    assert counts == [num_linear_parameters(space, c_in, c_out), num_constants(space, c_out)]

    x = random_features(space, c_in)
    move = {"h": jnp.array([2, 0, 3, 1]), "g": jnp.array([1, 2, 0])}
    first = equivariant_linear(params, permute_features(space, x, move), space=space)
    last = permute_features(space, equivariant_linear(params, x, space=space), move)
    for path, leaf in last.items():
        np.testing.assert_allclose(first[path], leaf, atol=1e-12)
        assert np.ptp(leaf) > 0.1


@pytest.mark.parametrize(
    ("size", "rank"),
    [(2, 8), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((3, 14), (4, 15)))],
)
def test_a_group_smaller_than_its_axes_has_redundant_parameters(size: int, rank: int) -> None:
    """Four indices among two neurons are never all different; see `num_linear_parameters`."""
    space = weight_space([TensorSpec("h", (size, size), ("h", "h"))])
    params = init_equivariant_linear(jax.random.key(0), space=space, c_in=1, c_out=1)
    flat, unravel = ravel_pytree(params.matrices)
    x = {"h": jnp.eye(size**2).reshape(size**2, size, size, 1)}

    @jax.jit
    @jax.vmap
    def image(matrices: jax.Array) -> jax.Array:
        inner = layers.LinearParams(unravel(matrices), params.biases)
        return layers.equivariant_linear(inner, x, space=space)["h"].ravel()

    maps = np.asarray(image(jnp.eye(flat.size)) - image(jnp.zeros((1, flat.size))))
    assert len(maps) == 15
    assert np.linalg.matrix_rank(maps, tol=1e-9) == rank


def test_the_pool_has_the_mean_of_the_diagonal() -> None:
    space = hidden_only(rnn_space([2, 4, 1]))
    x = random_features(space, 3)
    pooled = invariant_pool(x, space=space)
    assert pooled.shape == (2, num_constants(space, 3))
    w = x["SimpleCell_0/h/kernel"]
    trace = np.einsum("biic->bc", w) / 4
    blocks = [x["SimpleCell_0/i/kernel"].mean(1), x["SimpleCell_0/i/bias"].mean(1)]
    blocks += [w.mean((1, 2)), trace, x["Dense_0/kernel"].mean(1), x["Dense_0/bias"]]
    np.testing.assert_allclose(pooled, np.concatenate(blocks, axis=-1), atol=1e-14)


def test_a_reader_of_recurrent_networks_is_invariant() -> None:
    """Weights in, numbers out, with the code of inputs and outputs: nothing else is needed."""
    space = rnn_space([2, 4, 3])
    spec = StackSpec(
        "np", (3, 2), io="sinusoidal", io_bands=2, io_max_frequency=3.0, dtype="float64"
    )
    reader = invariant_reader(linear_trunk(space, spec), head_widths=(8,), num_outputs=2)
    params = jax.jit(reader.init)(jax.random.key(0))
    apply = jax.jit(reader.apply)
    x = random_features(space, 1)
    y = apply(params, x)
    hidden = {"hidden_1": jnp.array([2, 0, 3, 1])}
    moved = apply(params, permute_features(space, x, hidden))
    np.testing.assert_allclose(moved, y, rtol=1e-5)  # the head works in float32
    for group, order in (("input", [1, 0]), ("output", [1, 2, 0])):
        moved = permute_features(space, x, {group: jnp.array(order)})
        assert np.abs(apply(params, moved) - y).max() > 1e-4
    rows_only = {**x, "SimpleCell_0/h/kernel": x["SimpleCell_0/h/kernel"][:, hidden["hidden_1"]]}
    assert np.abs(apply(params, rows_only) - y).max() > 1e-4
