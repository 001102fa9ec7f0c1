"""Batch normalization in one pass: that of linen to rounding, and that of NumPy in float64."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from common.nets.batch_norm import BatchNorm, check_statistics

SHAPE = (16, 5, 4, 3)


def case(dtype: Any = jnp.float32) -> tuple[Any, jax.Array]:
    """Returns variables in which no two numbers are alike, and inputs of mean 2."""
    draw = np.random.default_rng(0).normal
    x = jnp.asarray((2 + draw(size=SHAPE)).astype(dtype))
    one = {name: np.float32(1 + 0.3 * draw(size=3)) for name in ("scale", "bias")}
    two = {name: np.float32(2 + 0.3 * draw(size=3)) for name in ("mean", "var")}
    return {"params": one, "batch_stats": two}, x


def everything(layer: nn.Module, train: bool, variables: Any, x: jax.Array) -> Any:
    """Returns outputs, new statistics, and the gradients by parameters and inputs."""
    options: Any = {"train": train} if isinstance(layer, BatchNorm) else {}
    if not options:
        options = {"use_running_average": not train}

    def loss(params: Any, x: jax.Array) -> Any:
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        out, new = layer.apply(state, x, mutable=["batch_stats"], **options)
        return jnp.sum(jnp.sin(out)), (out, new)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)


@pytest.mark.parametrize("train", [True, False])
def test_outputs_statistics_and_gradients_are_those_of_linen(train: bool) -> None:
    variables, x = case()
    layers = BatchNorm(momentum=0.7), nn.BatchNorm(momentum=0.7)
    both = jax.jit(lambda v, x: [everything(layer, train, v, x) for layer in layers])
    ours, theirs = both(variables, x)

    # Numbers of size 1 to 10, sums over 320 of them in another order.
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4)
    key = jax.random.key(0)
    fresh = jax.eval_shape(lambda x: BatchNorm().init(key, x, train=True), x)
    assert fresh == jax.eval_shape(nn.BatchNorm(use_running_average=False).init, key, x)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_trained_batch_is_that_of_numpy_in_double_precision(dtype: Any) -> None:
    variables, x = case(dtype)
    layer = BatchNorm(momentum=0.9, epsilon=1e-3)
    out, new = jax.jit(partial(layer.apply, train=True, mutable=["batch_stats"]))(variables, x)

    exact = np.asarray(x, np.float64).reshape(-1, 3)
    mean, var = exact.mean(0), exact.var(0)
    scale, shift = (np.asarray(variables["params"][k], np.float64) for k in ("scale", "bias"))
    expected = (exact - mean) / np.sqrt(var + 1e-3) * scale + shift
    assert isinstance(out, jax.Array) and out.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)  # of outputs up to 5
    np.testing.assert_allclose(np.asarray(out, np.float64).reshape(-1, 3), expected, atol=30 * eps)
    for name, value in (("mean", mean), ("var", var)):
        kept = 0.9 * np.asarray(variables["batch_stats"][name], np.float64) + 0.1 * value
        found: Any = new["batch_stats"][name]
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, kept, rtol=1e-5)


def test_a_constant_channel_has_no_variance_and_no_nan() -> None:
    x = np.full((64, 3), 1234.567, np.float32)
    variables, _ = case()
    apply = partial(BatchNorm(momentum=0.0).apply, train=True, mutable=["batch_stats"])
    out, new = jax.jit(apply)(variables, x)

    statistics, values = jax.tree.map(np.asarray, (new["batch_stats"], out))
    assert (statistics["var"] >= 0).all()
    np.testing.assert_allclose(statistics["mean"], 1234.567, rtol=1e-6)
    assert np.isfinite(values).all() and not np.ptp(values, axis=0).any()


@pytest.mark.parametrize("wrong", [0.0, -0.5, np.nan, np.inf])
def test_a_running_variance_that_is_none_is_named(wrong: float) -> None:
    good = {"a": {"mean": np.zeros(3), "var": np.ones(3)}}
    bad = {**good, "block": {"norm": {"mean": np.zeros(2), "var": np.array([1.0, wrong])}}}

    check_statistics(good)
    with pytest.raises(ValueError, match=f"block/norm/var: a running variance is {wrong:g};"):
        check_statistics(bad)
