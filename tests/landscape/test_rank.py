"""Ranks of features against NumPy's singular values, at their edges, and in blocks."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.rank import CENTERS, FeatureRank, feature_rank, rank_of, singular_values
from landscape.streamed_rank import exact_rank, streamed_rank
from tests.landscape.problems import assert_close

SHAPES = ((30, 20), (20, 30))


def features(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Returns features as after a ReLU, of falling size, none of them negative."""
    random = np.random.default_rng(seed)
    spread = np.exp(-np.arange(shape[1]) / 6)
    return np.maximum((random.normal(size=shape) + 0.5) * spread[None], 0)


def by_definition(x: np.ndarray, q: float, center: str) -> tuple[int, float, float]:
    """Returns rank, stable and entropy rank, word by word."""
    if center != "none":
        x = x - x.mean(axis=1 if center == "features" else 0, keepdims=True)
    s = np.linalg.svd(x, compute_uv=False)
    count = 1
    for k in range(1, len(s) + 1):
        count += int(sum(s[:k] ** 2) <= q * sum(s**2))
    p = s[s > 0] / sum(s)
    return min(count, len(s)), sum(s**2) / s[0] ** 2, float(np.exp(-sum(p * np.log(p))))


def assert_ranks(found: FeatureRank, x: np.ndarray, rtol: float) -> None:
    assert (found.n, found.d) == x.shape
    for center in CENTERS:
        rank, *others = by_definition(x, found.q, center)
        assert getattr(found, center).rank == rank
        np.testing.assert_allclose(getattr(found, center)[1:], others, rtol=rtol)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("q", [0.9, 0.9999])
def test_ranks_are_those_of_the_singular_values(shape: tuple[int, int], q: float) -> None:
    # Singular values that are 0 come out of a Gram matrix as up to sqrt(eps) of the largest.
    assert_ranks(exact_rank(features(shape), q=q, block=7), features(shape), rtol=1e-6)


def test_ranks_on_the_device_in_float64() -> None:
    x = features(SHAPES[1])
    with jax.enable_x64(True):
        assert_ranks(feature_rank(x, q=0.9999), x, rtol=1e-6)


@pytest.mark.slow
def test_float32_finds_the_ranks_of_float64_by_either_method() -> None:
    x = features(SHAPES[0]).astype(np.float32)
    for method in ("gram", "svd"):
        # A Gram matrix loses half of the digits of the smallest values, which entropy weighs.
        assert_ranks(feature_rank(x, method=method), x.astype(float), rtol=1e-2)
    half = feature_rank(jnp.asarray(x, jnp.bfloat16), centers=["none"])
    assert half.features is None
    narrow = np.asarray(jnp.asarray(x, jnp.bfloat16), float)
    assert half.none.rank == by_definition(narrow, 0.99, "none")[0]


def test_auto_takes_the_method_that_is_exact_enough() -> None:
    """A Gram matrix of float32 says nothing of values below sqrt(eps) of the largest."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(n, 20)))[0] for n in SHAPES[0])
    s = np.r_[1.0, np.full(19, 1e-5)]
    x = (left @ np.diag(s) @ right.T).astype(np.float32)
    small = lambda q, method: np.asarray(
        singular_values(x, center="none", q=q, method=method), float
    )[1:]

    assert_close(small(0.999999, "auto"), s[1:], rtol=0.1)
    assert np.max(np.abs(small(0.99, "auto") - s[1:])) > 1e-5  # as said: not what 0.99 asks for
    np.testing.assert_array_equal(small(0.99, "auto"), small(0.99, "gram"))


def test_the_definition_at_its_edges() -> None:
    assert rank_of(np.array([1.0, 9, 0]), 0.9) == 2  # 9 <= 9 counts
    assert rank_of(np.array([9.0, 1, 0]), 0.89) == 1
    for d in (50, 99, 100, 250):
        assert rank_of(np.ones(d), 0.99) == int(0.99 * d) + 1
    # In float32 this q is 1, and the count alone would be 4.
    assert rank_of(jnp.array([4.0, 2, 1]), 1 - 1e-9) == 3
    assert rank_of(np.zeros(5), 0.99) == 1  # the count alone would be 6
    constant_rows = np.repeat(np.arange(1.0, 21)[:, None] / 7, 30, axis=1)
    for found in (feature_rank(constant_rows), exact_rank(constant_rows)):
        assert found.features == (1, 1, 1)  # rounding of the means is no feature
        assert found.none.rank == 1
    assert exact_rank(constant_rows.T).samples == (1, 1, 1)


def assert_same(found: FeatureRank, wanted: FeatureRank, centers: Any = CENTERS) -> None:
    """Compares by the accuracy of the smallest singular values, which are zeros of other ranks."""
    for center in centers:
        np.testing.assert_allclose(getattr(found, center), getattr(wanted, center), rtol=1e-6)


def test_ranks_know_no_order_rotation_or_scale() -> None:
    x, random = features(SHAPES[0]), np.random.default_rng(1)
    as_it_was = exact_rank(x, q=0.999)
    for other in (x[random.permutation(30)], x[:, random.permutation(20)], 1e3 * x, 1e-12 * x):
        assert_same(exact_rank(other, q=0.999), as_it_was)
    rotation = np.linalg.qr(random.normal(size=(20, 20)))[0]
    turned = exact_rank(x @ rotation, q=0.999)
    assert_same(turned, as_it_was, ("samples", "none"))
    # The mean over features depends on the basis, unless the vector of ones stays where it is.
    assert turned.features != as_it_was.features
    normal = random.normal(size=20)
    normal -= normal.mean()
    reflection = np.eye(20) - 2 * np.outer(normal, normal) / (normal @ normal)
    assert_same(exact_rank(x @ reflection, q=0.999), as_it_was)
    huge = feature_rank((1e30 * x).astype(np.float32), q=0.999, centers=["none"])
    assert huge.none.rank == as_it_was.none.rank


def test_the_official_centering_is_not_that_of_principal_components() -> None:
    """A large mean example hides everything from the official rank, nothing from the true one."""
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 20)) + 100 * random.normal(size=(1, 20))
    found = exact_rank(x)
    assert found.features.rank == 1 and found.samples.rank > 15


def test_a_matrix_in_blocks_has_the_ranks_of_the_whole() -> None:
    x = features(SHAPES[1])
    whole = exact_rank(x)
    parts = {"examples": [x[:3], x[3:14], x[14:]], "features": [x[:, :11], x[:, 11:]]}
    for axis, blocks in parts.items():
        found = streamed_rank(iter(blocks), axis=axis)
        assert (found.n, found.d) == x.shape
        assert_same(found, whole)


def test_ranks_of_many_matrices_in_one_program() -> None:
    x = np.stack([features(SHAPES[0], seed) for seed in range(3)]).astype(np.float32)
    together = jax.jit(jax.vmap(partial(feature_rank, centers=["features"])))(x)
    for i, one in enumerate(x):
        rank, stable, _ = by_definition(one.astype(float), 0.99, "features")
        assert together.features.rank[i] == rank
        np.testing.assert_allclose(together.features.stable[i], stable, rtol=1e-5)


def test_bad_input_is_refused_in_one_line() -> None:
    x = features(SHAPES[0])
    broken = np.where(x == x.max(), np.nan, x)
    refused: list[tuple[Any, str]] = [
        (lambda: feature_rank(broken), "(30, 20) have 1 entries that are NaN"),
        (lambda: exact_rank(broken), "(30, 20) have 1 entries that are NaN"),
        (lambda: feature_rank(x[:1]), "features of 1 examples x 20"),
        (lambda: streamed_rank([x[:1]]), "features of 1 examples x 20"),
        (lambda: exact_rank(x, q=1.0), "between 0 and 1"),
        (lambda: feature_rank(x, centers=["rows"]), "center='rows'"),
        (lambda: exact_rank(x, centers=["rows"]), "center='rows'"),
        (lambda: feature_rank(x, method="fast"), "method='fast'"),
        (lambda: exact_rank(x, q=1 - 1e-15), "method='svd'"),
        (lambda: streamed_rank([x, x[:, 1:]]), "a block has 19, those before 20"),
        (lambda: streamed_rank([x], axis="rows"), "axis='rows'"),
        (lambda: streamed_rank([]), "no blocks"),
    ]
    for run, said in refused:
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            run()
        assert "\n" not in str(error.value)
