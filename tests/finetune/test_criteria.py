"""Criteria: hand cases, and least squares, whose gradients are a line of NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune import criteria
from finetune.blocks import Blocks, blocks_by_path

PyTree = Any
# Norms of gradients and parameters of the three tensors: (2, 4), (1, 1), (3, 2).
PARAMS = {
    "a": {"kernel": jnp.array([[4.0, 0.0], [0.0, 0.0]])},
    "b": {"bias": jnp.array([0.6, 0.8])},
    "norm": {"scale": jnp.array([0.0, 2.0])},
}
GRADS = {
    "a": {"kernel": jnp.array([[1.0, 1.0], [1.0, 1.0]])},
    "b": {"bias": jnp.array([1.0, 0.0])},
    "norm": {"scale": jnp.array([3.0, 0.0])},
}
BLOCKS = blocks_by_path(PARAMS, [("low", "^a/"), ("high", "^(b|norm)/")])


def values(tree: PyTree) -> list[float]:
    return [float(x) for x in jax.tree.leaves(tree)]


def test_relative_gradient_norms_and_rates_by_hand() -> None:
    found = criteria.relative_gradient_norm(GRADS, PARAMS, BLOCKS)
    np.testing.assert_allclose(values(found.tensors), [0.5, 1.0, 1.5], rtol=1e-6)
    # Of a block: sqrt(1 + 9) / sqrt(1 + 4).
    np.testing.assert_allclose(found.blocks, [0.5, 2**0.5], rtol=1e-6)
    np.testing.assert_allclose(
        values(criteria.normalized(found.tensors)), [1 / 3, 2 / 3, 1], rtol=1e-6
    )

    rates = lambda **options: values(criteria.rates_of(found, PARAMS, BLOCKS, **options))
    np.testing.assert_allclose(rates(), [0.5, 1, 0], rtol=1e-6)  # normalizations rest
    np.testing.assert_allclose(rates(left_out=""), [1 / 3, 2 / 3, 1], rtol=1e-6)
    np.testing.assert_allclose(rates(granularity="matrix"), [1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(rates(granularity="block"), [0.5**1.5, 1, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="granularity='leaf'; expected one of tensor, block"):
        rates(granularity="leaf")
    with pytest.raises(ValueError, match="leaves out every leaf"):
        rates(left_out=".")


def test_a_tensor_of_zeros_has_the_ratio_of_the_floor() -> None:
    """Without one it is infinite; with the smallest it still takes the maximum."""
    params = {**PARAMS, "b": {"bias": jnp.zeros(2)}}
    low = criteria.relative_gradient_norm(GRADS, params, BLOCKS)
    rates = values(criteria.rates_of(low, params, BLOCKS))
    assert rates[1] == 1 and rates[0] < 1e-6
    high = criteria.relative_gradient_norm(GRADS, params, BLOCKS, floor=0.5)
    np.testing.assert_allclose(values(high.tensors), [0.5, 2**0.5, 1.5], rtol=1e-6)


def test_the_snr_of_the_released_code_by_hand() -> None:
    """Its axis 0 is our last one: [[1, 2], [3, 4]] there has variances 2 and 2."""
    there = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    grads = {"a": {"kernel": there.T}, "b": {"bias": jnp.array([1.0, 3.0])}}
    blocks = Blocks(("both",), (("a/kernel", "b/bias"),))
    found = criteria.output_axis_snr(grads, grads, blocks)
    np.testing.assert_allclose(values(found.tensors), [3.75, (1 + 9) / 2 / 2], rtol=1e-6)
    np.testing.assert_allclose(found.blocks, [(4 * 3.75 + 2 * 2.5) / 6], rtol=1e-6)
    single = {"a": {"kernel": jnp.ones((3, 1))}, "b": {"bias": jnp.array([1.0, 3.0])}}
    found = criteria.output_axis_snr(single, single, blocks)
    assert np.isnan(values(found.tensors)[0]) and not values(found.tensors)[0] >= 0.95
    np.testing.assert_allclose(found.blocks, [2.5], rtol=1e-6)


def loss(params: PyTree, batch: PyTree) -> jax.Array:
    x, y = batch
    return jnp.mean((x @ params["w"] + params["c"] - y) ** 2) / 2


@pytest.fixture(scope="module")
def squares() -> Any:
    """Returns parameters, examples, and the gradient of every example in float64."""
    random = np.random.default_rng(0)
    params = {"c": np.float32(0.3), "w": random.normal(size=3).astype(np.float32)}
    x, y = random.normal(size=(12, 3)).astype(np.float32), random.normal(size=12).astype(np.float32)
    errors = x.astype(float) @ params["w"] + params["c"] - y
    return params, (x, y), {"c": errors, "w": errors[:, None] * x}


GROUPS = Blocks(("w", "c"), (("w",), ("c",)))


@pytest.mark.parametrize("chunk", [1, 4])
def test_moments_of_single_examples_give_snr_and_fisher(squares: Any, chunk: int) -> None:
    params, examples, grads = squares
    found = jax.jit(criteria.example_moments, static_argnames=("loss", "chunk"))(
        loss=loss, params=params, examples=examples, chunk=chunk
    )
    assert found.count == 12
    snr, fisher = criteria.example_snr(found, GROUPS), criteria.fisher(found, GROUPS)
    for number, name in enumerate("wc"):
        mean, variance = grads[name].mean(0), grads[name].var(0, ddof=1)
        # Float32 sums of 12 numbers of like size, in whatever order.
        np.testing.assert_allclose(found.mean[name], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.variance[name], variance, rtol=1e-5)
        np.testing.assert_allclose(snr.blocks[number], np.mean(mean**2 / variance), rtol=1e-4)
        np.testing.assert_allclose(fisher.blocks[number], np.mean(grads[name] ** 2), rtol=1e-5)


def test_moments_want_two_examples_and_a_divisor(squares: Any) -> None:
    params, examples, _ = squares
    with pytest.raises(ValueError, match="12 examples, chunk=5; expected"):
        criteria.example_moments(loss, params, examples, chunk=5)


def test_a_criterion_is_averaged_over_batches_and_not_of_the_average(squares: Any) -> None:
    params, (x, y), grads = squares
    batches = (x.reshape(3, 4, 3), y.reshape(3, 4))
    found = criteria.averaged(criteria.relative_gradient_norm, loss, params, batches, GROUPS)
    of_batches = grads["w"].reshape(3, 4, 3).mean(1)
    wanted = np.mean(np.linalg.norm(of_batches, axis=1)) / np.linalg.norm(params["w"])
    np.testing.assert_allclose(found.tensors["w"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found.blocks[0], wanted, rtol=1e-5)
    assert wanted > np.linalg.norm(of_batches.mean(0)) / np.linalg.norm(params["w"]) * 1.01


def test_profiles_relative_to_clean_data_show_what_changed() -> None:
    clean = criteria.Profile(PARAMS, jnp.array([2.0, 4.0]))
    found = criteria.relative_to(criteria.Profile(PARAMS, jnp.array([6.0, 3.0])), clean)
    np.testing.assert_allclose(found.blocks, [1 / 0.5, 0.5 / 1])
