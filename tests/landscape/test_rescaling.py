"""Per-neuron rescaling: what filter normalization does not know, balanced directions do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.directions import filter_normalized
from landscape.rescaling import Neurons, balancing_scales, chain, rescaled, rescaling_invariant
from landscape.vectors import moved
from tests.landscape.problems import init_relu, relu_network, rounding

NEURONS = chain(["dense_0", "dense_1", "dense_2"])


@jax.jit
def study(params: Any, x: jax.Array) -> dict[str, Any]:
    """Returns outputs at the network and along two directions, and its balanced form."""
    invariant = rescaling_invariant(jax.random.key(0), params, NEURONS)
    filters = filter_normalized(jax.random.key(0), params)
    scales = balancing_scales(params, NEURONS)
    return {
        "here": relu_network(params, x),
        "invariant": relu_network(moved(params, [invariant], [0.7]), x),
        "filters": relu_network(moved(params, [filters], [0.7]), x),
        "balanced": rescaled(params, NEURONS, scales),
        "scales": scales,
        "direction": invariant,
    }


def test_a_rescaled_network_is_the_same_along_its_balanced_direction_only() -> None:
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        params = init_relu(0, (5, 8, 6, 3), has_bias=True)
        x = jnp.asarray(random.normal(size=(20, 5)))
        scales = [np.exp(random.normal(size=n) * 1.5) for n in (8, 6)]
        again = jax.jit(lambda params, scales: rescaled(params, NEURONS, scales))(params, scales)
        one, other = jax.device_get((study(params, x), study(again, x)))
        apart = lambda name: np.max(np.abs(one[name] - other[name]))

        # The same function to the rounding of sums over the inputs of three layers; scales are
        # balanced to 10 eps in their logarithms, several sweeps after one another.
        least = rounding(one["here"], 5 + 8 + 6)
        assert apart("here") < least
        assert apart("invariant") < 100 * least
        assert apart("filters") > 1  # a limit of filter normalization, not a mistake in it
        assert np.max(np.abs(one["invariant"] - one["here"])) > 0.1


def test_balanced_neurons_have_equal_lengths_in_and_out_and_dead_ones_stay() -> None:
    with jax.enable_x64(True):
        params = init_relu(1, (5, 8, 6, 3), has_bias=True)
        kernel = np.array(params["dense_1"]["kernel"])
        kernel[2] = 0  # read by nobody
        params["dense_1"]["kernel"] = jnp.asarray(kernel)
        found = study(params, jnp.ones((20, 5)))

        for layer, after in ((0, 1), (1, 2)):
            enters = np.sum(np.square(found["balanced"][f"dense_{layer}"]["kernel"]), axis=0)
            enters = enters + np.square(found["balanced"][f"dense_{layer}"]["bias"])
            leaves = np.sum(np.square(found["balanced"][f"dense_{after}"]["kernel"]), axis=1)
            used = np.arange(len(leaves)) != (2 if layer == 0 else -1)
            np.testing.assert_allclose(enters[used], leaves[used], rtol=1e-12)
        assert found["scales"][0][2] == 1
        assert np.all(np.isfinite(found["direction"]["dense_0"]["kernel"]))


def test_convolutions_and_what_reads_their_flattened_images_share_channels() -> None:
    def network(params: dict, x: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(
            x, params["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=numbers
        )
        return jax.nn.relu(h).reshape(len(x), -1) @ params["dense"]["kernel"]

    random = np.random.default_rng(0)
    kernels = [random.normal(size=shape).astype("f4") for shape in ((3, 3, 2, 4), (36, 3))]
    params = {"conv": {"kernel": kernels[0]}, "dense": {"kernel": kernels[1]}}
    x = jnp.asarray(random.normal(size=(5, 3, 3, 2)).astype(np.float32))
    neurons = (Neurons((("conv/kernel", -1),), (("dense/kernel", 0),)),)
    scales = np.array([0.1, 1.0, 3.0, 20.0], np.float32)
    other = jax.jit(lambda params, scales: rescaled(params, neurons, [scales]))(params, scales)

    @jax.jit
    def both(params: dict) -> tuple[jax.Array, jax.Array]:
        d = rescaling_invariant(jax.random.key(0), params, neurons)
        return network(params, x), network(moved(params, [d], [0.5]), x)

    (here, along), (same, along_other) = jax.device_get((both(params), both(other)))

    assert np.max(np.abs(along - here)) > 1
    # float32 sums of 36 products of size 10
    np.testing.assert_allclose(same, here, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(along_other, along, rtol=1e-3, atol=1e-3)


def test_groups_that_do_not_fit_are_refused() -> None:
    params = init_relu(0, (5, 8, 6, 3))
    wrong = {
        r"neurons\[0\].incoming='dens_0' matches no": Neurons((("dens_0", -1),), (("dense_1", 0),)),
        r"dense_1/kernel has 6 of them on axis 1, .*dense_0/kernel has 8": Neurons(
            (("dense_0", -1),), (("dense_1", 1),)
        ),
        "axis 2 of params/dense_0/kernel": Neurons((("dense_0", 2),), (("dense_1", 0),)),
    }
    for message, group in wrong.items():
        with pytest.raises(ValueError, match=message):
            balancing_scales(params, [group])
    with pytest.raises(ValueError, match="expected two layers or more"):
        chain(["dense_0"])
