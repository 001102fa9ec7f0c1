"""Attention on weight spaces: symmetry, a loop reference, false symmetries, limits."""

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn import attention, features
from nfn.attention import AttentionParams
from nfn.couplings import couplings
from nfn.dot_attention import dot_attention
from nfn.features import Features, Permutations, feature_shapes
from nfn.layers import LinearParams, equivariant_linear
from nfn.weights import WeightSpace, hidden_only, mlp_space
from tests.nfn.spaces import NETWORKS

SPACES = {
    "mlp": mlp_space([2, 3, 4, 2]),
    "hidden only": hidden_only(mlp_space([2, 3, 4, 2])),
    **NETWORKS,
}
SPACE = SPACES["mlp"]
C, HEADS, BATCH = 4, 2, 3
# float64, relative to the largest entry: sums of at most 100 terms round to 1e-14 of it.
TOLERANCE = 1e-12

Map = Callable[[Features], Features]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def random_features(space: WeightSpace, c: int = C, batch: int = BATCH) -> Features:
    generator = np.random.default_rng(0)
    shapes = feature_shapes(space, c)
    return {p: jnp.asarray(generator.normal(size=(batch, *shape))) for p, shape in shapes.items()}


@cache
def make_params(space: WeightSpace) -> AttentionParams:
    """Returns params in float64, three times as large so that the soft-max is not uniform."""
    shared = all(spec.multiplicity == 1 for spec in space.tensors)
    init = partial(attention.init_attention, space=space, c=C, shared=shared)
    params = jax.jit(init)(jax.random.key(1))
    return jax.tree.map(lambda leaf: 3 * leaf.astype(jnp.float64), params)


@cache
def make_layer(name: str, **settings: int) -> Map:
    space = SPACES[name]
    layer = partial(attention.attention, make_params(space), space=space, num_heads=HEADS)
    return jax.jit(partial(layer, **settings))


def difference(a: Any, b: Any) -> float:
    """Returns the largest difference of two trees, relative to their largest entry."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = [
        (np.asarray(x), np.asarray(y)) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    ]
    size = max(np.abs(pair).max() for pair in pairs)
    return max(float(np.abs(x - y).max()) for x, y in pairs) / size


def commutator(layer: Map, x: Features, move: Map) -> float:
    """Returns the largest relative difference between moving first and moving last."""
    return difference(layer(move(x)), move(layer(x)))


def mover(space: WeightSpace, permutations: Permutations) -> Map:
    return lambda x: features.permute_features(space, x, permutations)


def drawn(space: WeightSpace) -> Permutations:
    """Returns cyclic shifts, which are not the identity, of all groups."""
    return {g: jnp.asarray(np.roll(np.arange(n), 1)) for g, n in space.group_sizes.items()}


@pytest.mark.parametrize(
    "name",
    # The others are slow; the layer of a chain is compiled for other tests too.
    [pytest.param(x, marks=[pytest.mark.slow] * (x not in ("mlp", "cnn"))) for x in SPACES],
)
def test_attention_commutes_with_all_permutations(name: str) -> None:
    x, move = random_features(SPACES[name]), mover(SPACES[name], drawn(SPACES[name]))
    y = make_layer(name)(x)
    moved = move(y)

    assert difference(make_layer(name)(move(x)), moved) < TOLERANCE
    for path, leaf in y.items():  # a tensor without neurons stays where it is, no other does
        assert difference(moved[path], leaf) > 0.01 or leaf.ndim == 2, path


@pytest.mark.slow  # numbers: below, with loops
def test_chunks_of_queries_and_of_networks_change_no_number_and_no_gradient() -> None:
    space = mlp_space([2, 3, 2])  # five tokens of the hidden layer in chunks of three
    x, params = random_features(space), make_params(space)

    def value(params: AttentionParams, chunk: int, size: int) -> jax.Array:
        layer = partial(attention.attention, space=space, num_heads=HEADS, query_chunk=chunk)
        y = attention.by_networks(layer, params, x, size)
        by_place = {  # networks in another order would be seen
            path: jnp.tensordot(jnp.arange(1.0, 1 + len(leaf)), jnp.sin(leaf), axes=1)
            for path, leaf in y.items()
        }
        return jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in by_place.values()]))

    gradient = jax.jit(jax.value_and_grad(value), static_argnums=(1, 2))
    whole, chunked = gradient(params, 0, 0), gradient(params, 3, 2)

    # Leaf by leaf: what is differentiated is a hundred times as large as some of its gradients.
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        assert difference(a, b) < TOLERANCE


def loop_reference(params: AttentionParams, x: Features) -> dict[str, np.ndarray]:
    """Row, column and global heads of one network 2-3-4-2, entry by entry."""
    matrix, bias = (np.asarray(part["shared"]) for part in params.qkv)
    widths, layers = [2, 3, 4, 2], range(3)
    qkv = {path: np.asarray(leaf)[0] @ matrix + bias for path, leaf in x.items()}
    weights = [qkv[f"Dense_{i}/kernel"] for i in layers]  # [in, out, 3 c]
    biases = [qkv[f"Dense_{i}/bias"] for i in layers]

    def tokens(a: int) -> list[np.ndarray]:
        """Vectors along the neurons of layer a, [n_a, 3 c]."""
        found = []
        if a > 0:
            found += [weights[a - 1][k, :] for k in range(widths[a - 1])] + [biases[a - 1]]
        if a < 3:
            found += [weights[a][:, j] for j in range(widths[a + 1])]
        return found

    def attend(query: np.ndarray, keys: list[np.ndarray]) -> np.ndarray:
        q = query[..., :C].reshape(-1)
        scores = np.array([q @ key[..., C : 2 * C].reshape(-1) for key in keys])
        exps = np.exp(scores / math.sqrt(q.size))
        return np.sum(
            [e * key[..., 2 * C :] for e, key in zip(exps / exps.sum(), keys, strict=True)], axis=0
        )

    everything = [entry for y in qkv.values() for entry in y.reshape(-1, 3 * C)]
    outputs = {}
    for i in layers:
        n_in, n_out = widths[i], widths[i + 1]
        kernel, shift = np.zeros((n_in, n_out, C)), np.zeros((n_out, C))
        for j in range(n_out):
            row = attend(weights[i][:, j], tokens(i))
            shift[j] = attend(biases[i], tokens(i + 1))[j] + attend(biases[i][j], everything)
            for k in range(n_in):
                column = attend(weights[i][k, :], tokens(i + 1))
                kernel[k, j] = row[k] + column[j] + attend(weights[i][k, j], everything)
        outputs |= {f"Dense_{i}/kernel": kernel, f"Dense_{i}/bias": shift}
    return outputs


@pytest.mark.parametrize("query_chunk", [0, 5])
def test_paper_attention_equals_loops_over_rows_columns_and_weights(query_chunk: int) -> None:
    x, params = random_features(SPACE, batch=1), make_params(SPACE)

    layer = partial(attention.paper_attention, space=SPACE, query_chunk=query_chunk)
    actual = jax.jit(layer)(params, x)

    for path, expected in loop_reference(params, x).items():
        assert np.abs(actual[path][0] - expected).max() < TOLERANCE


def swapped_weights(x: Features) -> Features:
    kernel = x["Dense_1/kernel"]
    a, b = kernel[:, 0, 1], kernel[:, 2, 3]
    return x | {"Dense_1/kernel": kernel.at[:, 0, 1].set(b).at[:, 2, 3].set(a)}


def decoupled_layer(x: Features) -> Features:
    """Permutes the first hidden layer where it is written, but not where it is read."""
    return x | {path: jnp.roll(x[path], 1, axis=-2) for path in ("Dense_0/kernel", "Dense_0/bias")}


def rows_of_one_matrix(x: Features) -> Features:
    return x | {"Dense_1/kernel": jnp.roll(x["Dense_1/kernel"], 1, axis=1)}


def token_attention(x: Features) -> Features:
    """Plain attention among all weights: what is not to be built."""
    flat = {path: y.reshape(len(y), -1, C) for path, y in x.items()}
    tokens = jnp.concatenate(list(flat.values()), axis=1)[:, None]
    y = dot_attention(tokens, tokens, tokens)[:, 0]
    parts = jnp.split(y, np.cumsum([part.shape[1] for part in flat.values()])[:-1], axis=1)
    return {path: part.reshape(x[path].shape) for path, part in zip(x, parts, strict=True)}


@pytest.mark.parametrize("move", [swapped_weights, decoupled_layer, rows_of_one_matrix])
def test_false_symmetries_change_the_output_but_not_that_of_token_attention(move: Map) -> None:
    x = random_features(SPACE)

    assert commutator(make_layer("mlp"), x, move) > 0.05
    assert commutator(token_attention, x, move) < TOLERANCE


def mean_layer(params: AttentionParams) -> LinearParams:
    """Returns the equivariant linear layer of means that uniform attention is."""
    values, bias = params.qkv.matrices["shared"], params.qkv.biases["shared"]
    c_h = C // HEADS
    columns = np.concatenate([np.arange(c_h) + (3 * h + 2) * c_h for h in range(HEADS)])
    values, bias = values[:, columns], bias[columns]
    sizes = SPACE.group_sizes
    matrices = {}
    for coupling in couplings(SPACE):
        blocks = [[np.zeros((C, C)) for _ in coupling.writes] for _ in coupling.reads]
        for r, read in enumerate(coupling.reads):
            for w in range(len(coupling.writes)):
                if not coupling.groups:  # among the means of six tensors
                    blocks[r][w] += values / len(SPACE.tensors)
                if len(coupling.groups) == 1:  # among the tokens of one neuron layer
                    (group,) = coupling.groups
                    counts = [
                        math.prod(s.permuted_shape) // sizes[group]
                        for s in SPACE.tensors
                        if group in s.permuted_groups
                    ]
                    others = math.prod(read.spec.permuted_shape) // sizes[group]
                    blocks[r][w] += values * others / sum(counts)
        matrices[coupling.name] = jnp.asarray(np.block(blocks))
    terms = {spec.path: 1 + len(spec.permuted) for spec in SPACE.tensors}
    return LinearParams(matrices, {path: count * bias for path, count in terms.items()})


def test_attention_without_queries_and_keys_is_the_linear_layer_of_means() -> None:
    params, x = make_params(SPACE), random_features(SPACE)
    is_value = np.arange(3 * C) // (C // HEADS) % 3 == 2
    qkv = jax.tree.map(
        lambda leaf: jnp.where(np.broadcast_to(is_value, leaf.shape), leaf, 0), params.qkv
    )

    @jax.jit
    def both(qkv: LinearParams, mean: LinearParams, x: Features) -> tuple[Features, Features]:
        same = params._replace(qkv=qkv)
        actual = attention.attention(same, x, space=SPACE, num_heads=HEADS)
        return actual, equivariant_linear(mean, x, space=SPACE)

    assert difference(*both(qkv, mean_layer(params), x)) < TOLERANCE


def test_the_two_terms_add_up_and_the_one_among_tensors_is_constant_on_each() -> None:
    x = random_features(SPACE)
    neurons, tensors = make_layer("mlp", use_tensors=False), make_layer("mlp", use_neurons=False)

    total = jax.tree.map(jnp.add, neurons(x), tensors(x))

    assert difference(total, make_layer("mlp")(x)) < TOLERANCE
    for leaf in tensors(x).values():
        rows = leaf.reshape(BATCH, -1, C)
        assert float(jnp.ptp(rows, axis=1).max()) < TOLERANCE
    nothing = make_layer("mlp", use_neurons=False, use_tensors=False)(x)
    assert not any(np.any(leaf) for leaf in nothing.values())


def test_scores_are_scaled_by_the_whole_length_of_a_token() -> None:
    generator = np.random.default_rng(0)
    q, k = (jnp.asarray(generator.normal(size=(1, 1, 64, 8 * 32))) for _ in range(2))
    identity = jnp.eye(64)[None, None]

    def entropy(factor: float) -> float:
        weights = dot_attention(factor * q, k, identity)
        return float(-jnp.mean(jnp.sum(weights * jnp.log(weights + 1e-300), axis=-1)))

    # Scores ~ N(0, 1): entropy log 64 - 1 / 2. By the channels only they have variance 32.
    assert abs(entropy(1.0) - (math.log(64) - 0.5)) < 0.1
    assert entropy(math.sqrt(32)) < 1.2


@pytest.mark.slow
def test_dropout_keeps_the_mean_of_the_output() -> None:
    x = jax.tree.map(
        lambda leaf: jnp.tile(leaf[:1], (500, *[1] * (leaf.ndim - 1))), random_features(SPACE)
    )
    layer = partial(
        attention.attention, make_params(SPACE), space=SPACE, num_heads=HEADS, dropout=0.2
    )

    y, dropped = jax.jit(lambda x, key: (layer(x), layer(x, key=key)))(x, jax.random.key(3))

    for path, leaf in dropped.items():
        error, spread = np.abs(np.mean(leaf, axis=0) - y[path][0]), np.std(leaf, axis=0)
        assert spread.max() > 0.05
        assert (error / (spread + 1e-3)).max() < 5 / math.sqrt(500)


def test_wrong_sizes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Conv_0/kernel.*shared=False"):
        attention.init_attention(jax.random.key(0), space=SPACES["cnn"], c=C)
    with pytest.raises(ValueError, match="heads that divide"):
        attention.attention(make_params(SPACE), random_features(SPACE), space=SPACE, num_heads=3)
