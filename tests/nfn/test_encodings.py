"""Encodings of weights: values by definition, and the symmetries each keeps or breaks."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn import encodings, features, layers
from nfn.features import Features, feature_shapes, unfold
from nfn.weights import WeightSpace, cnn_space, hidden_only, mlp_space

MLP_SPACE = mlp_space([3, 4, 5, 2])
CONV_LAST = cnn_space(channels=(2, 3, 4), filters=((3, 2), (1, 2)))
BANDS, MAX_FREQUENCY = 3, 5.0

io_encoding = jax.jit(
    encodings.io_encoding, static_argnames=("space", "num_bands", "max_frequency")
)
fourier_features = jax.jit(encodings.fourier_features, static_argnames="space")
normalization_statistics = jax.jit(encodings.normalization_statistics, static_argnames="space")
permute_features = jax.jit(features.permute_features, static_argnums=0)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def random_features(space: WeightSpace, c: int, *batch: int) -> Features:
    generator = np.random.default_rng(0)
    shapes = feature_shapes(space, c)
    return {p: jnp.asarray(generator.normal(size=(*batch, *shape))) for p, shape in shapes.items()}


def roll(space: WeightSpace, x: Features, *groups: str) -> Features:
    sizes = space.group_sizes
    shifts = {g: jnp.asarray(np.roll(np.arange(sizes[g]), int(g in groups))) for g in sizes}
    return permute_features(space, x, shifts)


def difference(a: Features, b: Features) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(np.asarray(a[path]) - np.asarray(b[path])).max()) for path in a)


def test_fourier_features_are_sines_and_cosines_of_every_weight() -> None:
    space, c = CONV_LAST, 2
    params = encodings.init_fourier_features(
        jax.random.key(0), c_in=c, num_frequencies=3, scale=2.0
    )
    x = random_features(space, c, 2)
    y = fourier_features(params, x, space=space)
    assert features.num_channels(space, y) == 6
    for spec in space.tensors:
        angle = 2 * np.pi * np.asarray(unfold(spec, x[spec.path])) @ np.asarray(params.frequencies)
        expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)
        np.testing.assert_allclose(unfold(spec, y[spec.path]), expected, atol=1e-13)
    moved = roll(space, x, *space.group_sizes)
    again = fourier_features(params, moved, space=space)
    assert difference(again, roll(space, y, *space.group_sizes)) < 1e-13


def test_fourier_features_agree_in_float32() -> None:
    params = encodings.init_fourier_features(
        jax.random.key(0), c_in=1, num_frequencies=8, scale=10.0
    )
    x = random_features(MLP_SPACE, 1, 4)
    exact = fourier_features(params, x, space=MLP_SPACE)
    params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, x))
    single = fourier_features(params, x, space=MLP_SPACE)
    assert {leaf.dtype for leaf in single.values()} == {jnp.dtype("float32")}
    # Angles up to 2 pi * 10 * 3 * 3 = 600, rounded three times to 2^-24 of themselves: 1e-4.
    assert difference(single, exact) < 2e-4


def test_fourier_frequencies_are_not_trained_and_have_the_scale_asked_for() -> None:
    params = encodings.init_fourier_features(
        jax.random.key(0), c_in=1, num_frequencies=10_000, scale=3.0
    )
    assert abs(params.frequencies.std() - 3.0) < 5 * 3.0 / 20_000**0.5

    x = random_features(MLP_SPACE, 1, 1)
    small = encodings.FourierParams(params.frequencies[:, :2])

    def loss(params: encodings.FourierParams, x: Features) -> jax.Array:
        y = encodings.fourier_features(params, x, space=MLP_SPACE)
        return jnp.sum(features.vector_from_features(MLP_SPACE, y) ** 3)

    of_params, of_x = jax.jit(jax.grad(loss, argnums=(0, 1)))(small, x)
    assert not np.any(of_params.frequencies)
    assert np.abs(of_x["Dense_0/kernel"]).min() > 0


def code(position: float) -> np.ndarray:
    scales = np.array([1.0, 1.75, 2.5])  # linspace(1, MAX_FREQUENCY / 2, BANDS)
    angle = np.pi * scales * position
    return np.concatenate([np.sin(angle), np.cos(angle), [position]])


@pytest.mark.parametrize(
    "space",
    [
        *(pytest.param(x, marks=pytest.mark.slow) for x in (MLP_SPACE, mlp_space([3, 4, 1]))),
        CONV_LAST,
        mlp_space([3, 2]),
    ],
)
def test_weights_get_the_code_of_their_input_or_output(space: WeightSpace) -> None:
    x = random_features(space, 2, 2)
    y = io_encoding(x, space=space, num_bands=BANDS, max_frequency=MAX_FREQUENCY)
    for spec in space.tensors:
        whole = np.asarray(unfold(spec, y[spec.path]))
        np.testing.assert_array_equal(whole[..., :2], unfold(spec, x[spec.path]))
        is_kernel = spec.path.endswith("kernel")
        for index in np.ndindex(*spec.shape):
            expected = np.zeros(2 * BANDS + 1)
            if spec.path == space.tensors[0].path:  # kernel [.., in, out] of the first layer
                expected += code(np.linspace(-1, 1, spec.shape[-2])[index[-2]])
            if spec.path in (space.tensors[-1].path, space.tensors[-2].path):
                expected += code(np.linspace(-1, 1, spec.shape[-1])[index[-1]])
            assert is_kernel or spec.path == space.tensors[-1].path or not expected.any()
            np.testing.assert_allclose(whole[(0, *index)][2:], expected, atol=1e-14)
            np.testing.assert_allclose(whole[(1, *index)][2:], expected, atol=1e-14)


@pytest.mark.parametrize("space", [CONV_LAST, pytest.param(MLP_SPACE, marks=pytest.mark.slow)])
def test_codes_move_with_hidden_neurons_only(space: WeightSpace) -> None:
    x = random_features(space, 2, 2)
    embedding = encodings.init_io_embedding(jax.random.key(0), space=space, c=2)
    hidden = hidden_only(space).group_sizes

    def encode(x: Features) -> Features:
        return io_encoding(x, space=space, num_bands=BANDS, max_frequency=MAX_FREQUENCY)

    for function in (encode, lambda x: encodings.io_embedding(embedding, x)):
        y = function(x)
        assert difference(function(roll(space, x, *hidden)), roll(space, y, *hidden)) < 1e-14
        for group in ("input", "output"):
            assert difference(function(roll(space, x, group)), roll(space, y, group)) > 1e-2


def test_the_embedding_has_one_vector_per_input_and_output() -> None:
    shapes = {
        path: leaf.shape
        for path, leaf in encodings.init_io_embedding(
            jax.random.key(0), space=CONV_LAST, c=5
        ).items()
    }
    assert shapes == {
        "Conv_0/kernel": (2, 1, 6 * 5),
        "Conv_1/kernel": (1, 4, 2 * 5),
        "Conv_1/bias": (4, 5),
    }


def test_codes_need_a_space_with_inputs_and_outputs() -> None:
    space = hidden_only(MLP_SPACE)
    with pytest.raises(ValueError, match="no axis is labelled 'input' or 'output'"):
        io_encoding(random_features(space, 1, 1), space=space, num_bands=1, max_frequency=2.0)
    with pytest.raises(ValueError, match="full space"):
        encodings.init_io_embedding(jax.random.key(0), space=space, c=1)


@pytest.mark.parametrize(
    "space", [pytest.param(hidden_only(MLP_SPACE), marks=pytest.mark.slow), CONV_LAST]
)
def test_normalized_data_have_mean_0_and_std_1_in_every_folded_channel(space: WeightSpace) -> None:
    x = random_features(space, 2, 4, 3)
    x = {path: 3 * leaf + 5 for path, leaf in x.items()}
    y = encodings.normalize(normalization_statistics(x, space=space), x)
    for spec in space.tensors:
        leaf = np.asarray(y[spec.path])
        axes = tuple(range(leaf.ndim - 1))
        # Sums of at most 60 terms of size 5 before they are centered: 1e-15 is seen.
        np.testing.assert_allclose(leaf.mean(axes), 0, atol=1e-13)
        np.testing.assert_allclose(leaf.std(axes), 1, atol=1e-13)
        assert leaf.shape == x[spec.path].shape


def test_what_does_not_vary_is_centered_but_not_blown_up() -> None:
    x = random_features(MLP_SPACE, 1, 4)
    x["Dense_1/bias"] = jnp.asarray(np.full(x["Dense_1/bias"].shape, 7.0))
    statistics = normalization_statistics(x, space=MLP_SPACE)
    assert statistics.std["Dense_1/bias"] == 1
    assert not np.any(encodings.normalize(statistics, x)["Dense_1/bias"])


def test_statistics_are_the_same_for_every_permuted_copy_of_the_data() -> None:
    x = random_features(MLP_SPACE, 2, 4)
    sigma = normalization_statistics(x, space=MLP_SPACE)
    moved = normalization_statistics(roll(MLP_SPACE, x, *MLP_SPACE.group_sizes), space=MLP_SPACE)
    for before, after in zip(sigma, moved, strict=True):
        assert difference(before, after) < 1e-14

    # Statistics of the inputs apart are those of a space in which inputs do not move.
    hidden = hidden_only(MLP_SPACE)
    folded = features.refold(MLP_SPACE, hidden, x)
    apart = normalization_statistics(folded, space=hidden).mean["Dense_0/kernel"].reshape(3, 2)
    expected = np.asarray(x["Dense_0/kernel"]).mean((0, 2))
    np.testing.assert_allclose(apart, expected, atol=1e-14)


def test_the_whole_pipeline_is_invariant() -> None:
    space = MLP_SPACE
    data = {path: 3 * leaf + 1 for path, leaf in random_features(space, 1, 4).items()}
    statistics = normalization_statistics(data, space=space)
    key_fourier, key_layer = jax.random.split(jax.random.key(0))
    fourier = encodings.init_fourier_features(key_fourier, c_in=1, num_frequencies=2, scale=1.0)
    linear = layers.init_equivariant_linear(key_layer, space=space, c_in=4 + 2 * BANDS + 1, c_out=3)

    @jax.jit
    def pipeline(x: Features) -> jax.Array:
        x = encodings.normalize(statistics, x)
        x = encodings.fourier_features(fourier, x, space=space)
        x = encodings.io_encoding(x, space=space, num_bands=BANDS, max_frequency=MAX_FREQUENCY)
        x = jax.tree.map(jax.nn.relu, layers.equivariant_linear(linear, x, space=space))
        return layers.invariant_pool(x, space=space)

    y = pipeline(data)
    moved = pipeline(roll(space, data, "hidden_1", "hidden_2"))
    np.testing.assert_allclose(moved, y, atol=1e-12)
    assert np.abs(pipeline(roll(space, data, "input")) - y).max() > 1e-3
    assert np.ptp(np.asarray(y), axis=0).max() > 1e-2
