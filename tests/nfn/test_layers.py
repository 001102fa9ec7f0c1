"""Equivariance of the layers in float64, false symmetries, initialization, pools, regularizers."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn import encodings, features, layers
from nfn.couplings import couplings
from nfn.features import Features, Permutations, feature_shapes
from nfn.layers import LinearParams
from nfn.weights import (
    INPUT,
    OUTPUT,
    TensorSpec,
    WeightSpace,
    cnn_space,
    hidden_only,
    mlp_space,
    weight_space,
)
from tests.nfn.spaces import NETWORKS

SPACES = {
    "mlp": mlp_space([3, 4, 5, 2]),
    "conv last": cnn_space(channels=(2, 3, 4), filters=((2, 2), (2, 1))),
    **NETWORKS,
}
SPACE = SPACES["mlp"]
C_IN, C_OUT, BATCH = 2, 3, 2
# float64: sums of at most 100 terms of size 1, so 1e-14 is expected and 1e-12 is asked.
TOLERANCE = 1e-12

Map = Callable[[Features], Features]

# One compilation for a space and a number of channels, not one for every small operation.
channel_dropout = jax.jit(layers.channel_dropout, static_argnames=("space", "rate"))
equivariant_linear = jax.jit(layers.equivariant_linear, static_argnames="space")
init_equivariant_linear = jax.jit(
    layers.init_equivariant_linear, static_argnames=("space", "c_in", "c_out", "scheme")
)
init_pointwise = jax.jit(layers.init_pointwise, static_argnames=("space", "c_in", "c_out"))
invariant_pool = jax.jit(layers.invariant_pool, static_argnames="space")
permute_features = jax.jit(features.permute_features, static_argnums=0)
refold = jax.jit(features.refold, static_argnums=(0, 1))


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def random_features(space: WeightSpace, c: int = C_IN, seed: int = 0) -> Features:
    generator = np.random.default_rng(seed)
    shapes = feature_shapes(space, c)
    return {p: jnp.asarray(generator.normal(size=(BATCH, *shape))) for p, shape in shapes.items()}


@cache
def make_layer(kind: str, space: WeightSpace) -> Map:
    """Returns a random layer as a map from features of the full space to features of it."""
    key, key_embedding = jax.random.split(jax.random.key(1))
    if kind == "pt":
        params = init_pointwise(key, space=space, c_in=C_IN, c_out=C_OUT)
        return jax.jit(partial(layers.pointwise, params, space=space))
    inner = hidden_only(space) if kind == "hnp" else space
    c_in = C_IN + 5 if kind == "np + io code" else C_IN
    params = init_equivariant_linear(key, space=inner, c_in=c_in, c_out=C_OUT)
    embedding = encodings.init_io_embedding(key_embedding, space=space, c=C_IN)

    def apply(x: Features) -> Features:
        if kind == "np + io code":
            x = encodings.io_encoding(x, space=space, num_bands=2, max_frequency=3.0)
        if kind == "np + io embedding":
            x = encodings.io_embedding(embedding, x)
        y = layers.equivariant_linear(params, features.refold(space, inner, x), space=inner)
        return features.refold(inner, space, y)

    return jax.jit(apply)


def difference(a: Features, b: Mapping[str, jax.Array | np.ndarray]) -> float:
    """Returns the largest absolute difference."""
    assert a.keys() == b.keys()
    return max(float(np.abs(np.asarray(a[path]) - np.asarray(b[path])).max()) for path in a)


def commutator(layer: Map, x: Features, move: Map) -> float:
    """Returns the largest difference between moving first and moving last."""
    return difference(layer(move(x)), move(layer(x)))


def mover(space: WeightSpace, permutations: Permutations) -> Map:
    identity = {group: jnp.arange(size) for group, size in space.group_sizes.items()}
    return lambda x: permute_features(space, x, identity | permutations)


def rolls(space: WeightSpace, *groups: str) -> Permutations:
    """Returns cyclic shifts, which are not the identity, of those groups that can move."""
    sizes = space.group_sizes
    return {g: jnp.asarray(np.roll(np.arange(sizes[g]), 1)) for g in groups if g in sizes}


CODED = ("pt", "np + io code", "np + io embedding")
PAIRS = [(kind, name) for kind in ("np", "hnp") for name in SPACES]
PAIRS += [(kind, name) for kind in CODED for name in ("mlp", "conv last")]
slow = partial(pytest.param, marks=pytest.mark.slow)
# The other pairs are slow: test_span.py has more of such spaces, every map of them.
DEFAULT = [("np", "cnn"), ("np", "rnn"), ("hnp", "mlp"), ("pt", "conv last")]
DEFAULT += [("np + io code", "conv last")]


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*p, marks=[pytest.mark.slow] * (p not in DEFAULT)) for p in PAIRS],
)
def test_layers_commute_with_exactly_the_permutations_they_promise(kind: str, name: str) -> None:
    space = SPACES[name]
    layer, x = make_layer(kind, space), random_features(space)
    y = layer(x)

    generator, hidden = np.random.default_rng(2), set(space.group_sizes) - {INPUT, OUTPUT}
    drawn = {g: jnp.asarray(generator.permutation(space.group_sizes[g])) for g in sorted(hidden)}
    for permutations in (drawn, rolls(space, *hidden)):
        moved = mover(space, permutations)(y)
        assert difference(layer(mover(space, permutations)(x)), moved) < TOLERANCE
    assert difference(moved, y) > 1e-2  # the layer is not constant

    for group in {"input", "output"}.intersection(space.group_sizes):
        change = commutator(layer, x, mover(space, rolls(space, group)))
        if kind in ("np", "pt"):
            assert change < TOLERANCE
        else:
            assert change > 1e-2


SLOW_PAIRS = [("np", name) for name in ("mlp", "rnn")]
SLOW_PAIRS += [(kind, name) for kind in ("hnp", "pt") for name in ("cnn", "rnn")]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("np", "cnn"), ("hnp", "mlp"), ("pt", "mlp")),
        *(slow(*pair) for pair in SLOW_PAIRS),
    ],
)
def test_only_the_pointwise_layer_has_the_decoupled_symmetry(kind: str, name: str) -> None:
    space = SPACES[name]
    first_layer = {spec.path for spec in space.tensors[:2]}

    def move_first_layer_only(x: Features) -> Features:
        moved = mover(space, rolls(space, "hidden_1"))(x)
        return {path: moved[path] if path in first_layer else leaf for path, leaf in x.items()}

    layer, x = make_layer(kind, space), random_features(space)
    change = commutator(layer, x, move_first_layer_only)
    if kind == "pt":
        assert change < TOLERANCE
    else:
        assert change > 1e-2


@pytest.mark.parametrize(("kind", "name"), [slow("np", "rnn"), ("hnp", "mlp")])
def test_gradients_of_an_invariant_loss_are_equivariant(kind: str, name: str) -> None:
    space, hidden = SPACES[name], hidden_only(SPACES[name])
    layer, x = make_layer(kind, space), random_features(space)

    @jax.jit
    @jax.grad
    def gradient(x: Features) -> jax.Array:
        y = features.refold(space, hidden, jax.tree.map(jax.nn.relu, layer(x)))
        return jnp.sum(jnp.sin(layers.invariant_pool(y, space=hidden)))

    move = mover(space, rolls(space, *hidden.group_sizes))
    assert commutator(gradient, x, move) < TOLERANCE
    assert difference(move(gradient(x)), gradient(x)) > 1e-3


def test_the_layer_for_np_is_the_formula_of_the_paper() -> None:
    """Loops over Eq. 2-3 with W^(i)_{jk} = kernel[k, j]; blocks of matrices found by hand."""
    widths, num_layers = [2, 3, 4, 2], 3
    space = mlp_space(widths)
    params = init_equivariant_linear(jax.random.key(0), space=space, c_in=C_IN, c_out=C_OUT)
    x = random_features(space)
    y = equivariant_linear(params, x, space=space)
    matrices, biases, x, y = jax.tree.map(np.asarray, (*params, x, y))

    W = {i: x[f"Dense_{i - 1}/kernel"].transpose(0, 2, 1, 3) for i in (1, 2, 3)}
    v = {i: x[f"Dense_{i - 1}/bias"] for i in (1, 2, 3)}
    groups = ["input", "hidden_1", "hidden_2", "output"]

    def block(group: str, member: int) -> np.ndarray:
        return matrices[group][:, member * C_OUT : (member + 1) * C_OUT]

    g = [t for i in (1, 2, 3) for t in (W[i].mean((1, 2)), v[i].mean(1))]
    g = np.concatenate(g, axis=-1)
    for i in (1, 2, 3):
        D = matrices[f"{groups[i - 1]},{groups[i]}"]
        A, G = block("global", 2 * (i - 1)), block("global", 2 * (i - 1) + 1)
        # Neuron j of layer i: C^(i)_j, v^(i)_j and, unless i = L, R^(i+1)_j, in this order.
        E, F = block(groups[i], 0), block(groups[i], 1)
        B = block(groups[i - 1], 0 if i == 1 else 2)
        for j in range(widths[i]):
            at_j = [W[i][:, j].mean(1), v[i][:, j]]
            at_j = np.concatenate(
                at_j + ([W[i + 1][:, :, j].mean(1)] if i < num_layers else []), axis=-1
            )
            h = at_j @ F + g @ G + biases[f"Dense_{i - 1}/bias"]
            np.testing.assert_allclose(y[f"Dense_{i - 1}/bias"][:, j], h, atol=1e-13)
            for k in range(widths[i - 1]):
                at_k = [W[i - 1][:, k].mean(1), v[i - 1][:, k]] if i > 1 else []
                at_k = np.concatenate([*at_k, W[i][:, :, k].mean(1)], axis=-1)
                H = W[i][:, j, k] @ D + g @ A + at_k @ B + at_j @ E
                H += biases[f"Dense_{i - 1}/kernel"]
                np.testing.assert_allclose(y[f"Dense_{i - 1}/kernel"][:, k, j], H, atol=1e-13)


def test_an_axis_order_may_differ_between_tensors() -> None:
    """A tied tensor stored transposed: the same map, whatever the order of the axes."""
    bias = TensorSpec("b", (4,), ("h",))
    kernels = TensorSpec("a", (3, 4), ("g", "h")), TensorSpec("a", (4, 3), ("h", "g"))
    spaces = [weight_space([bias, kernel]) for kernel in kernels]
    params = init_equivariant_linear(jax.random.key(0), space=spaces[0], c_in=C_IN, c_out=C_OUT)
    x = random_features(spaces[0])
    y = equivariant_linear(params, x, space=spaces[0])
    transposed = equivariant_linear(params, {**x, "a": x["a"].swapaxes(1, 2)}, space=spaces[1])
    np.testing.assert_allclose(transposed["a"].swapaxes(1, 2), y["a"], atol=1e-14)
    np.testing.assert_allclose(transposed["b"], y["b"], atol=1e-14)


@pytest.mark.slow  # every test above has a batch
def test_leading_axes_are_a_batch() -> None:
    layer, x = make_layer("np", SPACE), random_features(SPACE)
    y = layer(x)
    alone = layer({path: leaf[1] for path, leaf in x.items()})
    nested = layer({path: leaf[None, :, None] for path, leaf in x.items()})
    for path, leaf in y.items():
        np.testing.assert_allclose(alone[path], leaf[1], atol=1e-14)
        np.testing.assert_allclose(nested[path][0, :, 0], leaf, atol=1e-14)


def test_wrong_features_are_refused() -> None:
    with pytest.raises(ValueError, match="Dense_0/kernel: features of shape"):
        make_layer("np", SPACE)(random_features(hidden_only(SPACE)))


def fan_ins(space: WeightSpace, c_in: int) -> dict[str, int]:
    """Counts, for every tensor A, the channels of all maps into it: partitions of axes."""
    bell = (1, 1, 2, 5, 15)
    counts = dict.fromkeys((spec.path for spec in space.tensors), 0)
    for a, b in itertools.product(space.tensors, repeat=2):
        axes = Counter(a.permuted_groups + b.permuted_groups)
        counts[a.path] += c_in * b.multiplicity * math.prod(bell[n] for n in axes.values())
    return counts


@pytest.mark.parametrize("space", [slow(SPACE), slow(hidden_only(SPACES["cnn"])), SPACES["rnn"]])
def test_all_maps_into_a_tensor_share_one_fan_in(space: WeightSpace) -> None:
    c_in, c_out = 8, 16
    fan_in = fan_ins(space, c_in)
    uniform, normal = (
        init_equivariant_linear(jax.random.key(0), space=space, c_in=c_in, c_out=c_out, scheme=s)
        for s in ("uniform", "kaiming_normal")
    )
    for coupling in couplings(space):
        specs = [view.spec for view in coupling.writes]
        ends = np.cumsum([c_out * spec.multiplicity for spec in specs])
        for spec, u, n in zip(
            specs,
            np.split(np.asarray(uniform.matrices[coupling.name]), ends[:-1], axis=1),
            np.split(np.asarray(normal.matrices[coupling.name]), ends[:-1], axis=1),
            strict=True,
        ):
            bound = fan_in[spec.path] ** -0.5
            assert 0.95 * bound < np.abs(u).max() <= bound
            # Standard error of a standard deviation: (2 size)^-1/2; five of them.
            assert abs(n.std() / (2**0.5 * bound) - 1) < 5 * (2 * n.size) ** -0.5
    for name, bias in uniform.biases.items():
        bound = fan_in[name.partition(":")[0]] ** -0.5
        assert 0.5 * bound < np.abs(bias).max() <= bound
        assert not np.any(normal.biases[name])


def test_the_pointwise_layer_has_the_fan_in_of_its_tensor() -> None:
    params = init_pointwise(jax.random.key(0), space=SPACES["cnn"], c_in=8, c_out=16)
    for spec in SPACES["cnn"].tensors:
        bound = (8 * spec.multiplicity) ** -0.5
        assert 0.95 * bound < jnp.abs(params.matrices[spec.path]).max() <= bound


@pytest.mark.slow  # the bounds above say it of one layer
@pytest.mark.parametrize("space", [hidden_only(SPACE), SPACE])
def test_variance_survives_five_layers(space: WeightSpace) -> None:
    """He initialization keeps E[relu(y)^2] of features that do not vary along permuted axes."""
    c = 64
    generator = np.random.default_rng(0)
    x = {
        path: np.broadcast_to(generator.normal(size=shape[-1]), (1, *shape))
        for path, shape in feature_shapes(space, c).items()
    }
    # sqrt(2) so that E[relu(x)^2] = 1.
    y = {path: jnp.asarray(2**0.5 * np.maximum(leaf, 0)) for path, leaf in x.items()}
    for key in jax.random.split(jax.random.key(0), 5):
        params = init_equivariant_linear(key, space=space, c_in=c, c_out=c, scheme="kaiming_normal")
        y = equivariant_linear(params, y, space=space)
        y = {path: jnp.asarray(np.maximum(leaf, 0)) for path, leaf in y.items()}
    power = np.mean([np.mean(leaf**2) for leaf in y.values()])
    # Every layer averages at least 64 channels per tensor: relative spread (5 * 2 / 64)^1/2 = 0.4.
    assert 1 / 3 < power < 3


@pytest.mark.parametrize("name", [slow("mlp"), "conv last"])
def test_pools_are_invariant_means_in_the_order_of_the_tensors(name: str) -> None:
    space, hidden = SPACES[name], hidden_only(SPACES[name])
    x = random_features(space)
    for inner in (space, hidden):
        folded = refold(space, inner, x)
        pooled = invariant_pool(folded, space=inner)
        leaves = [np.asarray(folded[spec.path]) for spec in inner.tensors]
        means = [leaf.mean(tuple(range(1, leaf.ndim - 1))) for leaf in leaves]
        np.testing.assert_allclose(pooled, np.concatenate(means, axis=-1), atol=1e-14)
        moved = mover(space, rolls(space, *inner.group_sizes))(x)
        again = invariant_pool(refold(space, inner, moved), space=inner)
        np.testing.assert_allclose(again, pooled, atol=TOLERANCE)

    moved = mover(space, rolls(space, "input"))(x)
    change = invariant_pool(refold(space, hidden, moved), space=hidden) - pooled
    assert np.abs(change).max() > 1e-2


@pytest.mark.slow
def test_dropout_zeroes_whole_kernel_channels_and_single_bias_entries() -> None:
    space, rate = SPACES["cnn"], 0.25
    x = {p: jnp.asarray(np.ones((500, *shape))) for p, shape in feature_shapes(space, 2).items()}
    dropped = channel_dropout(jax.random.key(0), x, space=space, rate=rate)
    for spec in space.tensors:
        y = np.asarray(dropped[spec.path])
        assert set(np.unique(y)) == {0, 1 / (1 - rate)}
        neurons = tuple(range(1, y.ndim - 1))
        is_constant = np.ptp(y, axis=neurons) == 0
        assert is_constant.all() == (len(spec.shape) > 1)
        y = y.mean(neurons) if len(spec.shape) > 1 else y
        assert abs((y == 0).mean() - rate) < 5 * (rate * (1 - rate) / y.size) ** 0.5
    chex.assert_trees_all_equal(channel_dropout(jax.random.key(0), x, space=space, rate=0.0), x)
    with pytest.raises(ValueError, match="dropout rate 1"):
        channel_dropout(jax.random.key(0), x, space=space, rate=1.0)


def test_layer_norm_standardizes_the_channels_and_keeps_the_symmetry() -> None:
    space, c = SPACES["cnn"], 4
    params = layers.init_layer_norm(space=space, c=c)
    norm = jax.jit(layers.layer_norm)
    x = random_features(space, c)
    y = norm(params, x)
    for path, leaf in y.items():
        np.testing.assert_allclose(np.mean(leaf, axis=-1), 0, atol=1e-14)
        spread = np.std(x[path], axis=-1, ddof=1)
        np.testing.assert_allclose(np.std(leaf, axis=-1, ddof=1), spread / (spread + 1e-5))
    move = mover(space, rolls(space, *space.group_sizes))
    assert commutator(partial(norm, params), x, move) < TOLERANCE

    scaled = layers.LayerNormParams(
        {path: 2 * gamma for path, gamma in params.gamma.items()},
        {path: beta + 3 for path, beta in params.beta.items()},
    )
    expected = {path: 2 * np.asarray(y[path]) + 3 for path in x}
    assert difference(norm(scaled, x), expected) < TOLERANCE

    dead = {path: jnp.asarray(np.zeros(leaf.shape)) for path, leaf in x.items()}  # after a ReLU
    loss = lambda x: sum(jnp.sum(leaf) for leaf in layers.layer_norm(params, x).values())
    chex.assert_tree_all_finite(jax.jit(jax.grad(loss))(dead))
    with pytest.raises(ValueError, match="Dense_0/kernel: layer_norm needs 2 or more channels"):
        layers.init_layer_norm(space=SPACE, c=1)


def test_parameters_are_plain_pytrees_of_the_promised_shapes() -> None:
    params = init_equivariant_linear(jax.random.key(0), space=SPACE, c_in=2, c_out=3)
    assert isinstance(params, LinearParams)
    pairs = {"input,hidden_1", "hidden_1,hidden_2", "hidden_2,output"}
    assert params.matrices.keys() == {"global", *SPACE.group_sizes} | pairs
    assert params.matrices["global"].shape == (2 * 6, 3 * 6)
    assert params.matrices["hidden_1"].shape == (2 * 3, 3 * 3)
    assert params.matrices["hidden_1,hidden_2"].shape == (2, 3)
    assert {path: b.shape for path, b in params.biases.items()} == {
        spec.path: (3,) for spec in SPACE.tensors
    }
