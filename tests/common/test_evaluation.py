"""Sums over whole data sets: exact for every row count, whatever the slice."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.evaluation import (
    check_labels,
    classification_values,
    means,
    strange_labels,
    sums_over,
    values_over,
)


# One row, slices that come out even or do not, one row a slice, one slice.
@pytest.mark.parametrize(
    ("rows", "chunk"), [(1, 4), (3, 1), (7, 8), (8, 4), (8, 8), (9, 8), (23, 4), (23, 100)]
)
def test_sums_are_those_of_every_row_once(rows: int, chunk: int) -> None:
    random = np.random.default_rng(rows)
    x, y = random.standard_normal((rows, 3)), random.integers(0, 5, rows)

    def function(part: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {"square": jnp.sum(part["x"] ** 2, axis=-1), "y": part["y"]}

    with jax.enable_x64(True):
        sums = jax.device_get(sums_over(function, {"x": x, "y": y}, chunk=chunk))

    for name, values in {"square": np.sum(x**2, axis=-1), "y": y}.items():
        total, count = sums[name]
        assert np.isclose(total, np.sum(values), rtol=1e-12)
        assert np.isclose(total / count, np.mean(values), rtol=1e-12)


def test_the_rows_that_fill_the_last_slice_count_nothing_even_if_they_are_not_finite() -> None:
    def function(x: jax.Array) -> dict[str, jax.Array]:
        # Row 0 fills up; as a duplicate it must not turn the sum into NaN.
        seen = jnp.cumsum(x == 0) > 1
        return {"value": jnp.where(seen, jnp.nan, x)}

    total, count = sums_over(function, jnp.arange(5.0), chunk=3)["value"]

    assert (total, count) == (10, 5)


def test_no_slice_is_larger_than_the_chunk() -> None:
    sizes = []

    def function(x: jax.Array) -> dict[str, jax.Array]:
        sizes.append(x.shape[0])
        return {"value": x}

    sums_over(function, jnp.zeros(10), chunk=4)
    sums_over(function, jnp.zeros(3), chunk=4)

    assert set(sizes) == {4, 3}


def test_classification_values_by_hand() -> None:
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])) + jnp.array([[5.0], [-3.0]])
    values = classification_values(logits, jnp.array([0, 1]))

    assert np.allclose(values["accuracy"], [100, 0])
    assert np.allclose(values["loss"], -np.log([0.7, 0.3]), atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_mean_over_half_precision_is_that_of_the_numbers_it_holds(dtype: Any) -> None:
    random = np.random.default_rng(0)
    logits = jnp.asarray(10 * random.normal(size=(9_000, 4)), dtype)
    labels = random.integers(0, 4, 9_000).astype(np.int32)
    exact = np.asarray(logits, np.float64)
    shifted = exact - exact.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    wanted = -log_p[np.arange(9_000), labels].mean()

    def values(rows: Any) -> dict[str, jax.Array]:
        return {**classification_values(rows["l"], rows["y"]), "half": rows["l"][:, 0] + 99}

    got = means(sums_over(values, {"l": logits, "y": labels}, chunk=4_500))

    assert np.isclose(got["loss"], wanted, rtol=1e-6)  # float32 over 9,000 rows
    assert np.isclose(got["half"], np.asarray(logits[:, 0] + 99, np.float64).mean(), rtol=1e-6)


def test_a_half_sum_is_divided_in_float32() -> None:
    pair = (jnp.bfloat16(10), jnp.bfloat16(3))

    assert np.isclose(means({"x": pair})["x"], 10 / 3, rtol=1e-7)


@pytest.mark.parametrize("over", [sums_over, values_over])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"x": np.ones((16, 2)), "y": np.ones(10)}, "x has 16, y has 10"),
        ({"x": np.ones(16), "t": np.float32(1)}, "t has no axis"),
        ({"x": np.ones((0, 3)), "y": np.ones(0)}, r"x is empty: \(0, 3\)"),
        ({}, "got none"),
    ],
)
def test_rows_of_different_number_and_no_rows_are_named(over: Any, rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        over(lambda part: part, rows, chunk=8)


@pytest.mark.parametrize("over", [sums_over, values_over])
def test_a_mean_where_a_value_for_each_row_is_wanted_is_named(over: Any) -> None:
    with pytest.raises(ValueError, match=r"'loss' has shape \(\) for a slice of 4 rows"):
        over(lambda x: {"loss": jnp.mean(x)}, np.ones(8), chunk=4)
    if over is sums_over:  # the sum of 8 rows, not of the first 8 of 24 numbers
        with pytest.raises(ValueError, match=r"'loss' has shape \(4, 3\) for a slice of"):
            over(lambda x: {"loss": x}, np.ones((8, 3)), chunk=4)
    with pytest.raises(ValueError, match="chunk=0: expected at least 1"):
        over(lambda x: {"loss": x}, np.ones(8), chunk=0)


LOGITS = np.log([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.5, 0.2, 0.3]]).astype(np.float32)


def test_a_label_of_no_class_has_no_loss_and_can_be_masked() -> None:
    labels = jnp.array([1, -1, 3])
    logits = jnp.asarray(LOGITS)

    def masked(logits: jax.Array) -> jax.Array:
        loss = classification_values(logits, labels)["loss"]
        return jnp.sum(jnp.where(labels == 1, loss, 0))

    values = classification_values(logits, labels)
    value, slope = jax.jit(jax.value_and_grad(masked))(logits)

    for name, first in (("accuracy", 0), ("loss", -np.log(0.2))):
        assert np.isclose(values[name][0], first, atol=1e-6)
        assert np.isnan(values[name][1:]).all()
    assert np.isclose(value, -np.log(0.2))
    assert np.allclose(slope, [[0.7, 0.2 - 1, 0.1], [0, 0, 0], [0, 0, 0]], atol=1e-6)


def test_labels_of_no_class_are_named() -> None:
    labels = np.array([1, -1, 3])
    wanted = "labels go from -1 to 3, but the 3 classes are 0 to 2"

    with pytest.raises(ValueError, match=wanted):
        classification_values(jnp.asarray(LOGITS), labels)
    with pytest.raises(ValueError, match=r"labels of shape \(2,\) for 3 rows; expected \(3,\)"):
        check_labels(labels[:2], rows=3, classes=3)

    def evaluate(logits: jax.Array, labels: jax.Array) -> Any:
        rows = {"l": logits, "y": labels}
        return sums_over(lambda r: classification_values(r["l"], r["y"]), rows, chunk=3)

    assert strange_labels(evaluate, LOGITS, labels) == wanted
    assert strange_labels(evaluate, LOGITS, np.array([0, 1, 2], np.uint8)) == ""
