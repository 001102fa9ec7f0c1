"""Low-rank changes: nothing at the start, exact when merged, of the rank that was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune.blocks import leaf_paths
from finetune.lora import Factors, init_lora, merged

PARAMS = {
    "conv": {"kernel": np.ones((3, 3, 2, 5), np.float32), "bias": np.ones(5, np.float32)},
    "head": {"kernel": np.ones((5, 2), np.float32)},
}
MASK = {"conv": {"kernel": True, "bias": True}, "head": {"kernel": False}}


def test_zero_factors_change_no_bit_and_others_exactly_their_product() -> None:
    factors = init_lora(jax.random.key(0), PARAMS, MASK, rank=3)
    assert leaf_paths(factors) == ("conv/kernel/down", "conv/kernel/up")  # no vectors, no head
    change = factors["conv"]["kernel"]
    assert change.down.shape == (18, 3) and change.up.shape == (3, 5) and not change.up.any()
    assert abs(float(np.std(change.down)) * 18**0.5 - 1) < 0.3  # of 54 Gaussian numbers
    start = merged(factors, PARAMS)
    for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(PARAMS), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

    # Whole numbers: products and sums are exact.
    random = np.random.default_rng(0)
    down, up = (jnp.array(random.integers(-3, 4, s), jnp.float32) for s in ((18, 3), (3, 5)))
    moved = merged(
        {**factors, "conv": {"kernel": Factors(down, up), "bias": None}}, PARAMS, alpha=3
    )
    np.testing.assert_array_equal(moved["conv"]["kernel"], 1 + (down @ up).reshape(3, 3, 2, 5))
    x = random.integers(-3, 4, (7, 18)).astype(np.float32)
    matrix = np.asarray(moved["conv"]["kernel"]).reshape(18, 5)
    np.testing.assert_array_equal(x @ matrix, x @ np.ones((18, 5)) + (x @ down) @ up)


def test_ranks_are_at_most_those_of_the_matrix() -> None:
    mask = {"conv": {"kernel": True, "bias": False}, "head": {"kernel": True}}
    factors = init_lora(jax.random.key(0), PARAMS, mask, rank=4)
    assert factors["conv"]["kernel"].up.shape == (4, 5)
    assert factors["head"]["kernel"].up.shape == (2, 2)
    with pytest.raises(ValueError, match="rank=0; expected at least 1"):
        init_lora(jax.random.key(0), PARAMS, mask, rank=0)
    only_bias = {"conv": {"kernel": False, "bias": True}, "head": {"kernel": False}}
    with pytest.raises(ValueError, match="mask: chooses no matrix"):
        init_lora(jax.random.key(0), PARAMS, only_bias, rank=1)
