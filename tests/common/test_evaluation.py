"""Sums over whole data sets: exact for every row count, whatever the slice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.evaluation import classification_values, sums_over


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
