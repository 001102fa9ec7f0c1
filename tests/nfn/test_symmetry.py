"""The symmetries of sine neurons: what keeps the function, and what is invariant under them."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfn import probes, symmetry
from nfn.features import permute_features, permute_params, random_permutation
from nfn.siren import SirenParams, coordinate_grid, init_siren, siren, siren_space
from nfn.weights import hidden_only

OMEGA = 10.0
# One hidden layer has another rule than more; of three, the order of their signs matters.
WIDTHS = [(2, 5, 1), (2, 4, 5, 4, 2)]

# One compilation for a shape instead of one for every small operation.
canonical_siren = jax.jit(symmetry.canonical_siren, static_argnames="omega")
random_sine_symmetry = jax.jit(symmetry.random_sine_symmetry, static_argnames="omega")
activation_channels = jax.jit(probes.activation_channels, static_argnames=("space", "omega"))
sine_invariant_channels = jax.jit(
    probes.sine_invariant_channels, static_argnames=("space", "omega")
)
outputs = jax.jit(lambda params: siren(params, coordinate_grid(6), omega=OMEGA))


@partial(jax.jit, static_argnums=1)
def wild_siren(seed: int | jax.Array, widths: tuple[int, ...]) -> SirenParams:
    """Returns a SIREN whose phases wind around several times."""
    params = init_siren(jax.random.key(seed), widths=widths, omega=OMEGA)
    for name in params:
        params[name] = {**params[name], "bias": params[name]["bias"] * 5}
    return params


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("seed", [0, 1])
def test_symmetries_and_the_canonical_form_keep_the_function(
    seed: int, widths: tuple[int, ...]
) -> None:
    params = wild_siren(seed, widths)
    moved = random_sine_symmetry(jax.random.key(seed + 10), params, omega=OMEGA)
    expected = outputs(params)

    assert jnp.abs(moved["dense_0"]["kernel"] - params["dense_0"]["kernel"]).max() > 0.1
    # Phases of tens of radians in float32: a few units in the last place, through the layers.
    chex.assert_trees_all_close(outputs(moved), expected, atol=3e-5)
    canonical = canonical_siren(params, omega=OMEGA)
    chex.assert_trees_all_close(outputs(canonical), expected, atol=3e-5)
    phases = [
        jnp.abs(OMEGA * canonical[f"dense_{i}"]["bias"]).max() for i in range(len(widths) - 2)
    ]
    assert max(phases) <= jnp.pi / 2 + 1e-5


@pytest.mark.parametrize("widths", WIDTHS)
def test_all_equivalent_weights_have_one_canonical_form(widths: tuple[int, ...]) -> None:
    params = wild_siren(3, widths)
    space = hidden_only(siren_space(widths))
    order = random_permutation(jax.random.key(4), space)
    moved = random_sine_symmetry(jax.random.key(5), params, omega=OMEGA)
    moved = permute_params(space, moved, order)
    expected = permute_params(space, canonical_siren(params, omega=OMEGA), order)

    chex.assert_trees_all_close(canonical_siren(moved, omega=OMEGA), expected, atol=1e-5)
    weights = [layer["kernel"] for layer in expected.values()]
    assert min(float(jnp.abs(kernel).max()) for kernel in weights) > 0.02


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_canonical_form_is_unique_where_weights_are_zero(widths: tuple[int, ...]) -> None:
    """Of pruned networks: first weights, whole neurons, outgoing weights and their sums."""
    params = jax.tree.map(np.array, wild_siren(3, widths))
    params["dense_0"]["kernel"][0, :3] = 0
    params["dense_0"]["kernel"][1, 1] = 0
    params["dense_0"]["bias"][2] = 0
    if len(widths) > 3:
        params[f"dense_{len(widths) - 2}"]["kernel"][:2] = [[0.5, -0.5], [0, 0]]
    params = jax.tree.map(jnp.asarray, params)
    expected = canonical_siren(params, omega=OMEGA)
    for seed in range(3):
        moved = random_sine_symmetry(jax.random.key(seed), params, omega=OMEGA)
        chex.assert_trees_all_close(canonical_siren(moved, omega=OMEGA), expected, atol=1e-5)
    chex.assert_trees_all_close(outputs(expected), outputs(params), atol=3e-5)


def test_the_canonical_form_takes_any_batch() -> None:
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[wild_siren(s, (2, 5, 4, 1)) for s in range(3)]
    )
    single = jax.tree.map(lambda leaf: leaf[2], stacked)
    whole = canonical_siren(stacked, omega=OMEGA)

    # One more rounding, where a program subtracts a product at once: biases of 3 and less.
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[2], whole), canonical_siren(single, omega=OMEGA), atol=1e-6
    )


def test_layers_without_an_order_are_refused() -> None:
    with pytest.raises(ValueError, match="dense_0, dense_1"):
        canonical_siren({"first": {}, "second": {}}, omega=1.0)


@pytest.mark.parametrize("widths", WIDTHS)
def test_products_with_the_gradient_are_invariant_under_sine_symmetries(
    widths: tuple[int, ...],
) -> None:
    params = wild_siren(1, widths)
    space = hidden_only(siren_space(widths))
    points = jax.random.uniform(jax.random.key(2), (3, 2), minval=-1, maxval=1)
    readout = jax.random.normal(jax.random.key(3), (3, widths[-1]))
    moved = random_sine_symmetry(jax.random.key(5), params, omega=OMEGA)

    def channels(weights: SirenParams) -> dict:
        return sine_invariant_channels(weights, points, readout, space=space, omega=OMEGA)

    expected = channels(params)
    assert min(float(jnp.abs(x).max()) for x in expected.values()) > 1e-3
    chex.assert_trees_all_close(channels(moved), expected, rtol=1e-3, atol=1e-4)
    order = random_permutation(jax.random.key(4), space)
    chex.assert_trees_all_close(
        channels(permute_params(space, params, order)),
        permute_features(space, expected, order),
        rtol=1e-4,
        atol=1e-5,
    )
    # The summands of the last layer add up to the output: sum of u du + b = readout . f(point).
    last = f"dense_{len(widths) - 2}"
    folded = np.asarray(expected[f"{last}/kernel"]).reshape(widths[-2], widths[-1], 3)
    bias = np.asarray(expected[f"{last}/bias"]).reshape(widths[-1], 3)
    values = jnp.sum(siren(params, points, omega=OMEGA) * readout, axis=-1)
    np.testing.assert_allclose(folded.sum((0, 1)) + bias.sum(0), values, rtol=1e-4, atol=1e-4)


def test_activation_channels_are_the_sums_and_outputs_of_neurons() -> None:
    params = wild_siren(1, (2, 5, 4, 3))
    full = siren_space((2, 5, 4, 3))
    points = jax.random.uniform(jax.random.key(2), (6, 2), minval=-1, maxval=1)
    channels = activation_channels(params, points, space=full, omega=OMEGA)

    np.testing.assert_allclose(
        channels["dense_2/bias"].T, siren(params, points, omega=OMEGA), atol=1e-5
    )
    first = jnp.sin(
        OMEGA * (points @ params["dense_0"]["kernel"] + params["dense_0"]["bias"][None])
    )
    np.testing.assert_allclose(channels["dense_0/bias"].T, first, atol=1e-5)
    summed = channels["dense_1/kernel"].sum(0).T + params["dense_1"]["bias"][None]
    np.testing.assert_allclose(channels["dense_1/bias"].T, jnp.sin(OMEGA * summed), atol=1e-5)
    space = hidden_only(full)
    order = random_permutation(jax.random.key(4), space)
    chex.assert_trees_all_close(
        activation_channels(permute_params(space, params, order), points, space=space, omega=OMEGA),
        permute_features(
            space, activation_channels(params, points, space=space, omega=OMEGA), order
        ),
        atol=1e-5,
    )
