"""Neurons put in the order of another network: by brute force, and on lines between two."""

import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.grids import axis
from landscape.interpolation import aligned, dense_groups, interpolation
from landscape.shapes import barrier
from tests.landscape.problems import classification, init_relu, labelled, predicted

GROUPS = dense_groups(("dense_0", "dense_1", "dense_2"))


def permuted(params: Any, orders: list[np.ndarray]) -> Any:
    """Permutes hidden neurons of dense layers, written out."""
    params = jax.tree.map(np.asarray, params)
    for i, order in enumerate(orders):
        here, after = params[f"dense_{i}"], params[f"dense_{i + 1}"]
        here["kernel"], here["bias"] = here["kernel"][:, order], here["bias"][order]
        after["kernel"] = after["kernel"][order]
    return jax.tree.map(jnp.asarray, params)


def network(seed: int = 0) -> tuple[Any, Any]:
    params = init_relu(seed, (4, 9, 7, 3), has_bias=True)
    random = np.random.default_rng(seed)
    return params, permuted(params, [random.permutation(9), random.permutation(7)])


def test_a_network_with_other_numbers_of_its_neurons_is_found_again_bit_for_bit() -> None:
    for seed in range(3):
        params, other = network(seed)
        chex.assert_trees_all_equal(aligned(params, other, GROUPS), params)


def test_the_order_is_the_best_of_all_orders() -> None:
    first, second = (init_relu(seed, (3, 5, 2), has_bias=True) for seed in (0, 1))

    def distance(other: Any) -> float:
        pairs = zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True)
        return sum(float(np.sum((np.asarray(a) - np.asarray(b)) ** 2)) for a, b in pairs)

    orders = [np.array(order) for order in itertools.permutations(range(5))]
    best = min(distance(permuted(second, [order])) for order in orders)
    found = aligned(first, second, dense_groups(("dense_0", "dense_1")))
    assert distance(found) == pytest.approx(best, rel=1e-6)
    assert distance(found) < 0.99 * distance(second)


def test_alignment_keeps_the_function_and_takes_the_barrier_away() -> None:
    params, other = network()
    rows = labelled(1, 64)
    a = axis(0, 1, 11)
    plain, ordered = (
        interpolation(classification, params, other, a, rows, groups=groups).values["loss"]
        for groups in ((), GROUPS)
    )

    fresh = init_relu(5, (4, 9, 7, 3), has_bias=True)
    kept = predicted(aligned(params, fresh, GROUPS), rows)
    np.testing.assert_allclose(kept, predicted(fresh, rows), rtol=1e-5, atol=1e-5)
    # Sums over neurons in another order: float32 rounding.
    np.testing.assert_allclose(plain[[0, -1]], ordered[[0, -1]], rtol=1e-5)
    assert np.abs(barrier(ordered, a)) < 1e-5 * ordered[0]
    assert np.ptp(ordered) < 1e-5 * ordered[0] < 1e-2 < np.ptp(plain)


def test_groups_and_networks_that_do_not_fit_are_told() -> None:
    params, other = network()
    with pytest.raises(ValueError, match="different trees or shapes, as at dense_0/bias"):
        aligned(params, init_relu(0, (4, 8, 7, 3), has_bias=True), GROUPS)
    with pytest.raises(ValueError, match=r"groups\[0\]: no axis 2 of dense_0/kernel; there are"):
        aligned(params, other, [[("dense_0/kernel", 2)]])
    wrong = [GROUPS[0], [("dense_1/kernel", 1), ("dense_1/kernel", 0)]]
    with pytest.raises(ValueError, match=r"groups\[1\]: expected as many neurons everywhere"):
        aligned(params, other, wrong)
