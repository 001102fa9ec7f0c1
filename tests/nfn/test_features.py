"""Features and parameters: exact inverses, group actions, and functions left as they are."""

from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from nfn import features as nfn_features
from nfn.features import (
    Features,
    align_rank,
    check_finite,
    feature_shapes,
    fold,
    num_channels,
    unfold,
)
from nfn.weights import (
    TensorSpec,
    WeightSpace,
    cnn_space,
    hidden_only,
    mlp_space,
    space_from_params,
)

MLP_SPACE = mlp_space([3, 4, 5, 2])
CNN_SPACE = cnn_space(channels=(2, 3, 4), filters=((3, 2), (1, 2)), dense=(3,))
SPACES = [
    hidden_only(CNN_SPACE),
    *(
        pytest.param(space, marks=pytest.mark.slow)
        for space in (MLP_SPACE, hidden_only(MLP_SPACE), CNN_SPACE, mlp_space([2, 4, 1]))
    ),
]

# One compilation a space instead of one for every small operation.
concatenate = jax.jit(nfn_features.concatenate, static_argnums=0)
features_from_params = jax.jit(nfn_features.features_from_params, static_argnums=0)
features_from_vector = jax.jit(nfn_features.features_from_vector, static_argnums=0)
params_from_features = jax.jit(nfn_features.params_from_features, static_argnums=0)
permute_features = jax.jit(nfn_features.permute_features, static_argnums=0)
permute_params = jax.jit(nfn_features.permute_params, static_argnums=0)
random_permutation = jax.jit(nfn_features.random_permutation, static_argnums=1)
refold = jax.jit(nfn_features.refold, static_argnums=(0, 1))
vector_from_features = jax.jit(nfn_features.vector_from_features, static_argnums=0)


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def random_features(space: WeightSpace, c: int, *batch: int, seed: int = 0) -> Features:
    generator = np.random.default_rng(seed)
    shapes = feature_shapes(space, c)
    return {
        path: jnp.asarray(generator.normal(size=(*batch, *shape))) for path, shape in shapes.items()
    }


class SineMLP(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in (5, 4):
            x = jnp.sin(3 * nn.Dense(width, bias_init=nn.initializers.normal(1.0))(x))
        return nn.Dense(2)(x)


class PooledCNN(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for channels in (5, 4):
            x = nn.Conv(channels, (3, 2), bias_init=nn.initializers.normal(1.0))(x)
            x = nn.relu(x)
        return nn.Dense(3)(jnp.mean(x, axis=(-3, -2)))


@pytest.mark.parametrize("space", SPACES)
def test_every_change_of_form_is_undone_exactly(space: WeightSpace) -> None:
    x = random_features(space, 1, 2, 3)
    params = params_from_features(space, x)
    chex.assert_trees_all_equal(features_from_params(space, params), x)
    for spec in space.tensors:
        name, leaf = spec.path.split("/")
        assert params[name][leaf].shape == (2, 3, *spec.shape)

    y = random_features(space, 3, 2, seed=1)
    vector = vector_from_features(space, y)
    assert vector.shape == (2, 3 * space.size)
    chex.assert_trees_all_equal(features_from_vector(space, vector), y)


def test_fixed_axes_are_folded_before_the_channels() -> None:
    spec = TensorSpec("k", (2, 3, 4, 5), (None, "a", None, "b"))
    x = np.arange(7 * 2 * 3 * 4 * 5 * 6.0).reshape(7, 2, 3, 4, 5, 6)
    y = fold(spec, jnp.asarray(x))
    assert y.shape == (7, 3, 5, 2 * 4 * 6)
    assert y[1, 2, 3, (1 * 4 + 2) * 6 + 5] == x[1, 1, 2, 2, 3, 5]
    np.testing.assert_array_equal(unfold(spec, y), x)


@pytest.mark.parametrize("space", [pytest.param(MLP_SPACE, marks=pytest.mark.slow), CNN_SPACE])
def test_refolding_moves_inputs_and_outputs_into_channels_and_back(space: WeightSpace) -> None:
    hidden = hidden_only(space)
    x = random_features(space, 2, 3)
    folded = refold(space, hidden, x)
    assert num_channels(hidden, folded) == 2
    chex.assert_trees_all_equal(refold(hidden, space, folded), x)
    np.testing.assert_array_equal(
        vector_from_features(space, x), vector_from_features(hidden, folded)
    )


def test_concatenation_keeps_the_channels_of_a_weight_together() -> None:
    a, b = random_features(CNN_SPACE, 2, 3), random_features(CNN_SPACE, 1, 3, seed=1)
    both = concatenate(CNN_SPACE, [a, b])
    assert num_channels(CNN_SPACE, both) == 3
    for spec in CNN_SPACE.tensors:
        whole = unfold(spec, both[spec.path])
        np.testing.assert_array_equal(whole[..., :2], unfold(spec, a[spec.path]))
        np.testing.assert_array_equal(whole[..., 2:], unfold(spec, b[spec.path]))


@pytest.mark.parametrize("space", SPACES)
def test_permutations_act_as_a_group(space: WeightSpace) -> None:
    key_1, key_2 = jax.random.split(jax.random.key(0))
    first, second = random_permutation(key_1, space), random_permutation(key_2, space)
    x = random_features(space, 2, 3)
    moved = permute_features(space, x, first)

    # Place j of the second receives place second[j] of the first, which held first[second[j]].
    product = {group: first[group][second[group]] for group in first}
    twice = permute_features(space, moved, second)
    chex.assert_trees_all_equal(twice, permute_features(space, x, product))

    inverse = {group: jnp.argsort(permutation) for group, permutation in first.items()}
    chex.assert_trees_all_equal(permute_features(space, moved, inverse), x)
    assert {group: p.size for group, p in first.items()} == space.group_sizes


@pytest.mark.parametrize("space", SPACES)
def test_permuting_commutes_with_changes_of_form(space: WeightSpace) -> None:
    x = random_features(space, 1, 3)
    permutations = random_permutation(jax.random.key(3), space)
    permuted = permute_features(space, x, permutations)
    params = permute_params(space, params_from_features(space, x), permutations)
    chex.assert_trees_all_equal(features_from_params(space, params), permuted)


def test_the_action_on_a_kernel_is_that_of_the_paper() -> None:
    w = np.random.default_rng(0).normal(size=(3, 4))  # [in, out], so W^(1)_{jk} = w[k, j]
    params = {"Dense_0": {"kernel": w, "bias": np.zeros(4)}}
    sigma_0, sigma_1 = np.array([1, 2, 0]), np.array([3, 0, 2, 1])
    inverse = {"input": jnp.argsort(sigma_0), "output": jnp.argsort(sigma_1)}
    moved = permute_params(mlp_space([3, 4]), params, inverse)["Dense_0"]["kernel"]
    for k in range(3):
        for j in range(4):
            assert moved[sigma_0[k], sigma_1[j]] == w[k, j]


def test_every_network_of_a_batch_can_have_its_own_permutation() -> None:
    x = random_features(MLP_SPACE, 2, 3)
    keys = jax.random.split(jax.random.key(0), 3)
    permutations = jax.vmap(lambda key: random_permutation(key, MLP_SPACE))(keys)
    batched = jax.vmap(lambda one, p: permute_features(MLP_SPACE, one, p))(x, permutations)
    x, permutations, batched = jax.tree.map(np.asarray, (x, permutations, batched))
    for i in range(3):
        one, p = jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf[i]), (x, permutations))
        expected = permute_features(MLP_SPACE, one, p)
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf, i=i: leaf[i], batched), expected)
    assert np.unique(permutations["hidden_2"], axis=0).shape[0] > 1


def test_permutations_are_uniform() -> None:
    keys = jax.random.split(jax.random.key(0), 6_000)
    draws = jax.vmap(lambda key: random_permutation(key, mlp_space([3, 2, 3])))(keys)
    code = draws["input"] @ jnp.array([100, 10, 1])
    _, counts = np.unique(np.asarray(code), return_counts=True)
    assert counts.size == 6
    # 1000 expected, standard deviation 29; five of them.
    assert np.abs(counts - 1_000).max() < 145
    agree = (draws["input"] == draws["output"]).all(axis=1).mean()
    assert abs(agree - 1 / 6) < 5 * (5 / 36 / 6_000) ** 0.5  # groups are independent


@pytest.mark.parametrize(
    ("module", "input_shape"),
    [pytest.param(SineMLP(), (6, 3), marks=pytest.mark.slow), (PooledCNN(), (2, 7, 6, 2))],
)
def test_networks_do_not_change_under_coupled_permutations_of_hidden_neurons(
    module: nn.Module, input_shape: tuple[int, ...]
) -> None:
    key_x, key_init, key_p = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key_x, input_shape)
    params = jax.jit(module.init)(key_init, x)["params"]
    apply = jax.jit(lambda params: module.apply({"params": params}, x))
    space = space_from_params(params)
    hidden = hidden_only(space)
    reference = apply(params)

    permuted = permute_params(hidden, params, random_permutation(key_p, hidden))
    np.testing.assert_allclose(apply(permuted), reference, atol=1e-13)
    chex.assert_tree_all_finite(permuted)
    first = next(iter(params))
    assert np.abs(permuted[first]["kernel"] - params[first]["kernel"]).max() > 0.1

    rolled = jnp.roll(jnp.arange(space.group_sizes["hidden_1"]), 1)
    false = permute_params(space, params, {"hidden_1": rolled})
    false = {**params, first: false[first]}  # the next layer does not follow
    assert np.abs(apply(false) - reference).max() > 1e-2

    for group in ("input", "output"):
        rolled = jnp.roll(jnp.arange(space.group_sizes[group]), 1)
        moved = permute_params(space, params, {group: rolled})
        assert np.abs(apply(moved) - reference).max() > 1e-2


def test_leading_axes_are_added_for_batch_and_neurons() -> None:
    assert align_rank(jnp.zeros(4), jnp.zeros((2, 3, 4))).shape == (1, 1, 4)
    assert align_rank(jnp.zeros((3, 4)), jnp.zeros((2, 3, 4))).shape == (1, 3, 4)


def test_nonfinite_weights_are_named() -> None:
    params = params_from_features(MLP_SPACE, random_features(MLP_SPACE, 1, 2))
    check_finite(MLP_SPACE, params)
    kernel = params["Dense_1"]["kernel"].at[1, 2, 3].set(jnp.nan).at[1, 3, 0].set(jnp.inf)
    bad = {**params, "Dense_1": {**params["Dense_1"], "kernel": kernel}}
    with pytest.raises(ValueError, match=r"Dense_1/kernel: 2 of 40 .* index \(1, 2, 3\)"):
        check_finite(MLP_SPACE, bad)


def test_what_does_not_belong_to_the_space_is_refused_by_name() -> None:
    x = random_features(MLP_SPACE, 2, 3)
    params = params_from_features(MLP_SPACE, random_features(MLP_SPACE, 1))
    with pytest.raises(ValueError, match="2 channels"):
        params_from_features(MLP_SPACE, x)
    with pytest.raises(ValueError, match=r"Dense_0/kernel: features of shape .*refold"):
        num_channels(hidden_only(MLP_SPACE), x)
    with pytest.raises(ValueError, match="no group"):
        permute_features(MLP_SPACE, x, {"hidden_9": jnp.arange(4)})
    with pytest.raises(ValueError, match="Dense_2/bias: missing in the parameters"):
        features_from_params(MLP_SPACE, {**params, "Dense_2": {"kernel": jnp.zeros((5, 2))}})
    with pytest.raises(ValueError, match="Dense_3/bias: missing in the weight space"):
        features_from_params(MLP_SPACE, {**params, "Dense_3": {"bias": jnp.zeros(5)}})
    with pytest.raises(ValueError, match=r"Dense_0/kernel: shape \(3, 4\)"):
        features_from_params(mlp_space([4, 4, 5, 2]), params)
    with pytest.raises(ValueError, match="different tensors"):
        refold(MLP_SPACE, CNN_SPACE, x)
    with pytest.raises(ValueError, match="no multiple"):
        features_from_vector(MLP_SPACE, jnp.zeros(MLP_SPACE.size + 1))
    with pytest.raises(ValueError, match="expected"):
        num_channels(MLP_SPACE, {"Dense_0/kernel": x["Dense_0/kernel"]})
