"""Magnitude pruning and masked training: exact counts, hand-made tickets, zeros that stay zeros."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn import pruning
from nfn.pruning import Recipe
from nfn.weights import WeightSpace, cnn_space, mlp_space

MLP = mlp_space((16, 6, 5, 3))
CNN = cnn_space(channels=(1, 3, 4), filters=((3, 3),) * 2, dense=(5, 3))
RECIPE = Recipe(steps=20, batch_size=8, learning_rate=1e-2)

# One compilation for a space instead of one for every small operation.
init_network = jax.jit(pruning.init_network, static_argnames="space")
keep_top = jax.jit(pruning.keep_top, static_argnames=("sparsity", "scope"))
magnitude_ticket = jax.jit(
    pruning.magnitude_ticket, static_argnames=("recipe", "sparsity", "scope", "rounds")
)
random_mask = jax.jit(pruning.random_mask, static_argnames=("sparsity", "scope"))
train = jax.jit(pruning.train, static_argnames="recipe")


def weights(space: WeightSpace, seed: int = 0) -> Any:
    return init_network(jax.random.key(seed), space=space)


def examples(count: int = 40) -> tuple[jax.Array, jax.Array]:
    """Returns images of 4 x 4 pixels whose class shows in their mean."""
    labels = jnp.arange(count) % 3
    noise = jax.random.normal(jax.random.key(5), (count, 4, 4, 1))
    return noise + (labels[:, None, None, None] - 1.0) * 2, labels


def count(tree: Any) -> int:
    return sum(int(jnp.sum(m)) for m in pruning.kernels_of(tree))


@pytest.mark.parametrize(
    ("space", "sparsity"),
    [
        pytest.param(MLP, 0.0, id="mlp, all", marks=pytest.mark.slow),
        pytest.param(MLP, 0.9, id="mlp"),
        pytest.param(CNN, 0.5, id="cnn, half", marks=pytest.mark.slow),
        pytest.param(CNN, 0.95, id="cnn"),
    ],
)
def test_masks_have_exactly_the_stated_sparsity_and_keep_all_biases(
    space: WeightSpace, sparsity: float
) -> None:
    params = weights(space)
    sizes = [kernel.size for kernel in pruning.kernels_of(params)]
    everywhere = keep_top(params, sparsity=sparsity)
    in_layers = keep_top(params, sparsity=sparsity, scope="layer")

    assert count(everywhere) == round((1 - sparsity) * sum(sizes))
    for kernel, size in zip(pruning.kernels_of(in_layers), sizes, strict=True):
        assert int(jnp.sum(kernel)) == max(1, round((1 - sparsity) * size))
    assert all(layer["bias"].all() for layer in everywhere.values())
    # Ties: still exactly as many.
    tied = keep_top(jax.tree.map(jnp.zeros_like, params), sparsity=sparsity)
    assert count(tied) == round((1 - sparsity) * sum(sizes))


def test_keep_top_keeps_the_entries_that_sorting_finds() -> None:
    magnitudes = jax.tree.map(jnp.abs, weights(MLP))
    flat = np.concatenate([np.ravel(kernel) for kernel in pruning.kernels_of(magnitudes)])
    threshold = np.sort(flat)[-round(0.1 * len(flat))]

    mask = keep_top(magnitudes, sparsity=0.9)

    for kernel, kept in zip(pruning.kernels_of(magnitudes), pruning.kernels_of(mask), strict=True):
        np.testing.assert_array_equal(kept, kernel >= threshold)


@pytest.mark.parametrize(("sparsity", "scope"), [(1.0, "global"), (0.5, "neuron")])
def test_a_sparsity_of_one_and_an_unknown_scope_are_refused(sparsity: float, scope: str) -> None:
    with pytest.raises(ValueError, match=r"sparsity=.*scope="):
        pruning.keep_top(weights(MLP), sparsity=sparsity, scope=scope)


def test_the_ticket_of_a_network_that_does_not_move_is_its_largest_weights() -> None:
    images, labels = examples()
    still = RECIPE._replace(learning_rate=0.0)
    kernel = jnp.array([[0.1, -0.9], [0.5, 0.2], [-0.3, 0.0], [0.4, -0.6]])
    params = {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(2)}}
    find = {"images": images[:, :2, :2], "labels": labels % 2, "recipe": still}
    ticket = magnitude_ticket(jax.random.key(0), params, sparsity=0.75, **find)
    twice = magnitude_ticket(jax.random.key(0), params, sparsity=0.75, rounds=2, **find)

    expected = [[False, True], [False, False], [False, False], [False, True]]  # 0.9 and 0.6
    np.testing.assert_array_equal(ticket["Dense_0"]["kernel"], expected)
    np.testing.assert_array_equal(twice["Dense_0"]["kernel"], expected)


@pytest.mark.parametrize(
    "space", [pytest.param(MLP, id="mlp", marks=pytest.mark.slow), pytest.param(CNN, id="cnn")]
)
def test_training_under_a_mask_learns_and_leaves_pruned_weights_at_zero(
    space: WeightSpace,
) -> None:
    images, labels = examples()
    params = weights(space)
    mask = random_mask(jax.random.key(1), params, sparsity=0.6, scope="layer")
    recipe = RECIPE._replace(steps=200)
    trained = train(jax.random.key(2), params, mask, images, labels, recipe=recipe)

    for before, after, kept in zip(
        pruning.kernels_of(params),
        pruning.kernels_of(trained),
        pruning.kernels_of(mask),
        strict=True,
    ):
        np.testing.assert_array_equal(after[~kept], 0)
        assert (np.asarray(after)[kept] != np.asarray(before)[kept]).any()
    assert pruning.accuracy(trained, images, labels) > 60  # chance: a third


@pytest.mark.slow
def test_a_member_is_the_same_in_any_chunk_and_in_any_company() -> None:
    images, labels = examples()

    def ticket(key: jax.Array, shared: Any) -> Any:
        key_weights, key_ticket = jax.random.split(key)
        params = pruning.init_network(key_weights, space=MLP)
        mask = pruning.full_mask(params)
        return pruning.train(key_ticket, params, mask, *shared, recipe=RECIPE)

    def made(n: int, chunk: int) -> Any:
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(n))
        return jax.jit(
            lambda keys, shared: pruning.over_members(ticket, keys, shared, chunk=chunk)
        )(keys, (images, labels))

    reference = made(7, 1)
    for n, chunk in ((7, 3), (4, 4)):
        for expected, got in zip(
            jax.tree.leaves(reference), jax.tree.leaves(made(n, chunk)), strict=True
        ):
            # 20 steps of Adam, 0.2 at most, in programs that round differently.
            np.testing.assert_allclose(got, expected[:n], atol=1e-3)
            assert np.std(expected, axis=0).max() > 0.01  # members differ


@pytest.mark.slow
def test_random_masks_share_with_a_ticket_what_chance_gives() -> None:
    params = weights(mlp_space((40, 30, 20, 10)))
    ticket = keep_top(jax.tree.map(jnp.abs, params), sparsity=0.9)
    draw = jax.jit(
        jax.vmap(
            lambda key: pruning.overlap(
                pruning.random_mask(key, params, sparsity=0.9, scope="global"), ticket
            )
        )
    )
    shared = draw(jax.random.split(jax.random.key(0), 50))

    assert pruning.overlap(ticket, ticket) == 100
    # 200 of 2000 kept: 10 % in common, hypergeometric deviation 2.0 % of a draw.
    assert jnp.mean(shared) == pytest.approx(10, abs=4 * 2.0 / 50**0.5)
