"""Side by side with the authors' package: golden_package.npz, from make_golden_package.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn import encodings, layers
from nfn.compat import (
    Kind,
    features_from_package,
    features_to_package,
    io_embedding_from_package,
    layer_norm_from_package,
    linear_from_package,
    package_parameters,
    package_shapes,
    pool_to_package,
)
from nfn.compat_state import submodule
from nfn.couplings import num_linear_parameters
from nfn.features import Features, fold, refold, unfold
from nfn.statistics import tensor_statistics
from nfn.weights import WeightSpace, cnn_space, hidden_only, mlp_space, rnn_space
from tests.nfn.golden import SPACES, Golden

GOLDEN = Golden("golden_package.npz")
BOTH = ("3-4-5-2", "cnn")
# float32: at most 60 terms of size 1 in a sum, in another order.
TOLERANCE = 1e-5

equivariant_linear = jax.jit(layers.equivariant_linear, static_argnames="space")
fourier_features = jax.jit(encodings.fourier_features, static_argnames="space")
invariant_pool = jax.jit(layers.invariant_pool, static_argnames="space")
io_encoding = jax.jit(
    encodings.io_encoding, static_argnames=("space", "num_bands", "max_frequency")
)
layer_norm = jax.jit(layers.layer_norm)
statistics = jax.jit(tensor_statistics, static_argnames="space")
pointwise = jax.jit(layers.pointwise, static_argnames="space")


def assert_close(actual: Features, expected: Features, atol: float = TOLERANCE) -> None:
    assert actual.keys() == expected.keys()
    for path, leaf in expected.items():
        assert np.std(leaf) > 0.05
        np.testing.assert_allclose(actual[path], leaf, atol=atol)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("cnn", kind) for kind in ("np", "hnp", "pt", "np io")),
        *(
            pytest.param(name, kind, marks=pytest.mark.slow)
            for name, kind in (
                *((x, k) for x in ("2-3-2", "2-3-4-3-2", "3-2-2-1") for k in ("np", "hnp")),
                *(("3-4-5-2", kind) for kind in ("np", "hnp")),
                *(("3-4-5-2", kind) for kind in ("pt", "np io")),
            )
        ),
    ],
)
def test_layers_compute_what_the_package_computes(name: str, kind: str) -> None:
    space = SPACES[name]
    inner = hidden_only(space) if kind == "hnp" else space
    state = GOLDEN.part(f"{name}/{kind}/state")
    family: Kind = "hnp" if kind == "hnp" else "pt" if kind == "pt" else "np"
    params = linear_from_package(state, space, family)
    init = layers.init_pointwise if kind == "pt" else layers.init_equivariant_linear
    ours = jax.eval_shape(lambda key: init(key, space=inner, c_in=2, c_out=3), jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, ours)

    x = GOLDEN.features(f"{name}/in", space)
    if kind == "np io":
        embedding = io_embedding_from_package(state, space)
        shapes = encodings.init_io_embedding(jax.random.key(0), space=space, c=2)
        assert jax.tree.map(jnp.shape, embedding) == jax.tree.map(jnp.shape, shapes)
        x = encodings.io_embedding(embedding, x)
    x = refold(space, inner, x)
    layer = pointwise if kind == "pt" else equivariant_linear
    y = refold(inner, space, layer(params, x, space=inner))
    assert_close(y, GOLDEN.features(f"{name}/{kind}/out", space))


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in BOTH for kind in ("np", "np io", "hnp", "pt")]
)
def test_the_counts_are_the_sizes_of_the_stored_arrays(name: str, kind: str) -> None:
    state = GOLDEN.part(f"{name}/{kind}/state")
    matrices = sum(array.size for key, array in state.items() if key.endswith("weight"))
    biases = sum(array.size for key, array in state.items() if key.endswith(".bias"))
    family: Kind = "hnp" if kind == "hnp" else "pt" if kind == "pt" else "np"
    assert package_parameters(SPACES[name], family, 2, 3) == (matrices, biases)


@pytest.mark.parametrize(
    ("space", "np_stored", "hnp_stored"),
    [
        (mlp_space([2, 3, 2]), 32, 98),
        (mlp_space([2, 3, 3, 2]), 62, 142),
        (mlp_space([2, 2, 3, 2, 2]), 100, 198),
        (mlp_space([3, 2, 2, 1]), 62, 125),
        (cnn_space(channels=(1, 3, 2), filters=((1, 2), (1, 1))), 54, 107),
        (mlp_space([2, 32, 32, 1]), 62, 98),
        (mlp_space([2, 32, 32, 3]), 62, 196),
        (cnn_space(channels=(1, 16, 16, 16), filters=((3, 3),) * 3, dense=(10,)), 2196, 4415),
    ],
)
def test_the_package_stores_as_many_parameters_as_its_modules_have(
    space: WeightSpace, np_stored: int, hnp_stored: int
) -> None:
    """Values: modules made in PyTorch, matrix entries for one channel."""
    assert package_parameters(space, "np")[0] == np_stored >= num_linear_parameters(space)
    hidden = hidden_only(space)
    assert package_parameters(space, "hnp")[0] == hnp_stored > num_linear_parameters(hidden)


@pytest.mark.parametrize(
    ("space", "kind", "missing"),
    [
        pytest.param(mlp_space([3, 2, 2, 1]), "np", 0, marks=pytest.mark.slow),
        pytest.param(mlp_space([2, 3, 2]), "hnp", 2, marks=pytest.mark.slow),
        (cnn_space(channels=(1, 3, 2), filters=((1, 2), (1, 1))), "hnp", 2),
    ],
)
def test_the_package_reaches_all_of_np_and_all_but_one_map_of_hnp(
    space: WeightSpace, kind: Kind, missing: int
) -> None:
    """The map from its parameters to ours misses the last hidden bias to the last kernel."""
    inner = hidden_only(space) if kind == "hnp" else space
    reached = np.linalg.matrix_rank(parameter_map(space, kind), tol=1e-5)
    assert reached == num_linear_parameters(inner) - missing


def parameter_map(space: WeightSpace, kind: Kind) -> np.ndarray:
    """Returns our matrices for random states of the package, more than it has parameters."""
    generator = np.random.default_rng(0)
    num_states = package_parameters(space, kind)[0] + 5
    shapes = package_shapes(space, kind)
    rows = []
    for _ in range(num_states):
        drawn = {k: generator.normal(size=shape) for k, shape in shapes.items()}
        state = {f"{k}.weight": array.astype(np.float32) for k, array in drawn.items()}
        state |= {f"{k}.bias": np.zeros(shape[0], np.float32) for k, shape in shapes.items()}
        matrices = linear_from_package(state, space, kind).matrices.values()
        rows.append(np.concatenate([np.ravel(m) for m in matrices]))
    return np.stack(rows)


@pytest.mark.parametrize("name", BOTH)
def test_features_go_there_and_back(name: str) -> None:
    space, arrays = SPACES[name], GOLDEN.part(f"{name}/in")
    weights, biases = features_to_package(space, GOLDEN.features(f"{name}/in", space))
    for key, back in (("weights", weights), ("biases", biases)):
        for i, array in enumerate(back):
            np.testing.assert_array_equal(array, arrays[f"{key}.{i}"])


@pytest.mark.parametrize("name", ["cnn", pytest.param("3-4-5-2", marks=pytest.mark.slow)])
def test_statistics_agree(name: str) -> None:
    space = SPACES[name]
    x = GOLDEN.features(f"{name}/in", space)
    expected = GOLDEN.arrays[f"{name}/statistics/out"]  # [batch, c, 14 a layer]
    for channel in range(expected.shape[1]):
        one = {spec.path: unfold(spec, x[spec.path])[..., [channel]] for spec in space.tensors}
        folded = {spec.path: fold(spec, one[spec.path]) for spec in space.tensors}
        actual = statistics(folded, space=space)
        np.testing.assert_allclose(actual, expected[:, channel], atol=TOLERANCE)


@pytest.mark.parametrize("name", ["cnn", pytest.param("3-4-5-2", marks=pytest.mark.slow)])
def test_pools_encodings_and_norms_agree(name: str) -> None:
    space = SPACES[name]
    x = GOLDEN.features(f"{name}/in", space)
    for kind, inner in (("np", space), ("hnp", hidden_only(space))):
        pooled = invariant_pool(refold(space, inner, x), space=inner)
        expected = GOLDEN.arrays[f"{name}/{kind} pool/out"]
        arranged = jax.jit(pool_to_package, static_argnums=0)(inner, pooled)
        np.testing.assert_allclose(arranged, expected, atol=TOLERANCE)

    frequencies = jnp.asarray(GOLDEN.arrays[f"{name}/fourier/state/_B"])
    waves = fourier_features(encodings.FourierParams(frequencies), x, space=space)
    # Phases of tens of radians: a unit in their last place is 4e-6.
    assert_close(waves, GOLDEN.features(f"{name}/fourier/out", space), atol=1e-4)

    coded = io_encoding(x, space=space, num_bands=2, max_frequency=3)
    assert_close(coded, GOLDEN.features(f"{name}/io code/out", space))

    norm = layer_norm_from_package(GOLDEN.part(f"{name}/layer norm/state"), space)
    normed = layer_norm(norm, x)
    # Two channels may be close to each other: their rounding is divided by their spread.
    for path, leaf in GOLDEN.features(f"{name}/layer norm/out", space).items():
        spread = np.std(x[path], axis=-1, ddof=1, keepdims=True) + 1e-5
        np.testing.assert_allclose(normed[path] * spread, leaf * spread, rtol=0, atol=TOLERANCE)


def test_a_layer_of_a_whole_model_is_taken_by_its_name() -> None:
    space, state = SPACES["3-4-5-2"], GOLDEN.part("3-4-5-2/np/state")
    model = {f"nfnet.0.{k}": v for k, v in state.items()} | {"head.weight": np.ones((2, 2))}
    with pytest.raises(ValueError, match=r"layer_0.weight: missing in the .* `.*submodule\("):
        linear_from_package(model, space, "np")
    with pytest.raises(ValueError, match=r"no module 'nfnet.1' in the state; .* nfnet.0.layer_0, "):
        submodule(model, "nfnet.1")
    taken = linear_from_package(submodule(model, "nfnet.0"), space, "np")
    expected = linear_from_package(state, space, "np")
    for name, matrix in expected.matrices.items():
        np.testing.assert_array_equal(taken.matrices[name], matrix)


def test_states_in_double_precision_are_not_rounded() -> None:
    space = SPACES["3-4-5-2"]
    state = {k: v.astype(np.float64) for k, v in GOLDEN.part("3-4-5-2/np/state").items()}
    weights, biases = ([np.ones((1, 1, *shape))] for shape in ((3, 2), (3,)))
    with pytest.raises(ValueError, match=r"layer_0.weight: float64, but JAX computes in float32"):
        linear_from_package(state, space, "np")
    with pytest.raises(ValueError, match=r"Dense_0/kernel: float64"):
        features_from_package(mlp_space([2, 3]), weights, biases)
    near = {k: v * (1 + 1e-10) for k, v in state.items()}
    with jax.enable_x64(True):
        first, second = (linear_from_package(s, space, "np").matrices for s in (state, near))
        assert features_from_package(mlp_space([2, 3]), weights, biases)
    for name, matrix in first.items():
        change, expected = np.asarray(second[name]) - np.asarray(matrix), 1e-10 * np.asarray(matrix)
        np.testing.assert_allclose(change, expected, rtol=0, atol=1e-15)


def test_what_the_package_cannot_have_is_refused_by_name() -> None:
    state = GOLDEN.part("3-4-5-2/np/state")
    with pytest.raises(ValueError, match=r"Dense_0/kernel: the package knows only chains"):
        linear_from_package(state, hidden_only(SPACES["3-4-5-2"]), "np")
    with pytest.raises(ValueError, match=r"SimpleCell_0/h/kernel: the package knows only chains"):
        linear_from_package(state, rnn_space([3, 4, 2]), "np")
    with pytest.raises(ValueError, match=r"layer_1_r.weight: shape .* expected"):
        linear_from_package(
            {**state, "layer_1_r.weight": np.ones((3, 4), np.float32)}, SPACES["3-4-5-2"], "np"
        )
    bad = {**state, "layer_1_r.bias": np.ones(7, np.float32)}
    with pytest.raises(ValueError, match=r"layer_1_r.bias: shape \(7,\), expected"):
        linear_from_package(bad, SPACES["3-4-5-2"], "np")
    with pytest.raises(ValueError, match=r"pooled .* \(2, 7\), expected a multiple of 6 channels"):
        pool_to_package(SPACES["3-4-5-2"], jnp.zeros((2, 7)))
    with pytest.raises(ValueError, match="no HNPLinear for a network of one layer"):
        package_parameters(mlp_space([3, 4]), "hnp")
