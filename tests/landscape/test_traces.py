"""Traces against matrices and against means over many directions, with honest error bars."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape.directions import random_direction
from landscape.filters import FilterRules, deviations
from landscape.traces import layer_traces, sharpness, trace
from landscape.vectors import layout_of, to_vector
from tests.landscape.problems import (
    by_definition,
    classification,
    entry_paths,
    init_relu,
    labelled,
    quadratic,
    rounding,
    symmetric,
)

VALUES = np.r_[50.0, 30.0, np.linspace(-1, 1, 38)]


@pytest.mark.parametrize("method", [pytest.param("hutchinson", marks=pytest.mark.slow), "hutch++"])
def test_error_bars_of_a_trace_are_honest(method: str) -> None:
    with jax.enable_x64(True):
        batches = [{"matrix": jnp.asarray(symmetric(VALUES))}]
        params = {"a": jnp.ones(15), "b": jnp.ones(25)}
        found = [
            trace(
                quadratic, params, batches, key=jax.random.key(seed), num_products=24, method=method
            )
            for seed in range(12)
        ]
        off = np.array([(one.value - np.sum(VALUES)) / one.stderr for one in found])

        assert all(one.num_products == 24 for one in found)
        assert np.all(np.abs(off) < 5)  # Student's t of 7 or 23 degrees
        assert 0.2 < np.mean(off**2) < 3  # neither too small nor too large
        if method == "hutch++":  # two eigenvalues dominate
            assert np.mean([one.stderr for one in found]) < 3
        else:
            assert np.mean([one.stderr for one in found]) > 5


def test_traces_of_layers_are_those_of_their_blocks() -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 23)
        hessian = by_definition(classification, params, batch)
        found = layer_traces(
            classification, params, [batch], key=jax.random.key(0), num_products=200
        )
        layout, start = layout_of(params), 0

        assert tuple(found) == layout.moving_paths
        for path, size in zip(layout.moving_paths, layout.sizes, strict=True):
            wanted = np.trace(hessian[start : start + size, start : start + size])
            assert abs(found[path].value - wanted) < 4 * found[path].stderr
            assert found[path].stderr < 0.5 * abs(wanted)
            start += size


@pytest.mark.parametrize(("by", "vectors"), [("filter", "zero"), ("layer", "copy")])
def test_sharpness_is_the_mean_curvature_along_normalized_directions(by: str, vectors: str) -> None:
    with jax.enable_x64(True):
        params, batch = init_relu(0, (4, 5, 3), has_bias=True), labelled(1, 23)
        params["dense_0"]["kernel"] *= np.array([[1, 0, 1, 1, 1]])  # a zero filter
        rules, layout = FilterRules(vectors=vectors), layout_of(params)
        hessian = by_definition(classification, params, batch)
        entries = lambda params: to_vector(layout, deviations(params, by=by, rules=rules))
        scale = np.asarray(jax.jit(entries)(params))
        is_kernel = np.asarray(["kernel" in path for path in entry_paths(params)])
        fixed = np.where(is_kernel, 0, to_vector(layout, params)) * (vectors == "copy")
        exact = np.sum(scale**2 * np.diagonal(hessian)) + fixed @ hessian @ fixed
        found = [
            sharpness(
                classification,
                params,
                [batch],
                key=jax.random.key(0),
                num_products=count,
                method=method,
                by=by,
                rules=rules,
            )
            for method, count in (("hutchinson", 60), ("hutch++", 30))
        ]

        for one in found:
            assert abs(one.value - exact) < 4 * one.stderr
            assert 0 < one.stderr < 0.3 * exact
        draw = lambda key: to_vector(layout, random_direction(key, params, by=by, rules=rules))
        drawn = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(2), 2000))
        along = np.einsum("sn,nm,sm->s", drawn, hessian, drawn)
        assert abs(np.mean(along) - exact) < 4 * np.std(along) / np.sqrt(len(along))


def test_filters_have_their_own_share_by_definition() -> None:
    """sum_f ||theta_f||^2 tr(H_ff) / n_f, filter by filter, on a diagonal Hessian."""
    with jax.enable_x64(True):
        kernel = jnp.asarray([[3.0, 1.0], [4.0, 2.0]])
        diagonal = jnp.asarray([1.0, 2.0, 3.0, 4.0])  # of the entries, row by row
        batches = [{"matrix": jnp.diag(diagonal)}]
        found = sharpness(
            quadratic, {"kernel": kernel}, batches, key=jax.random.key(0), num_products=2
        )

        # Signs do not matter to a diagonal matrix: exact from any probe.
        np.testing.assert_allclose(found.value, 25 * (1 + 3) / 2 + 5 * (2 + 4) / 2, rtol=1e-12)
        assert found.stderr < rounding(found.value, 4)  # both probes say the same
        frozen = {"kernel": kernel, "other": jnp.ones((2, 2))}
        rules = FilterRules(frozen="other")
        again = sharpness(
            lambda p, b: quadratic({"kernel": p["kernel"]}, b),
            frozen,
            batches,
            key=jax.random.key(0),
            num_products=2,
            rules=rules,
        )
        np.testing.assert_allclose(again.value, found.value, rtol=1e-12)


def test_too_few_products_and_unknown_methods_are_refused() -> None:
    params, batches = {"w": jnp.ones((2, 2))}, [{"matrix": jnp.eye(4)}]
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="num_products=1: a standard error needs at least 2"):
        trace(quadratic, params, batches, key=key, num_products=1)
    with pytest.raises(ValueError, match="num_products=5: .* at least 6"):
        trace(quadratic, params, batches, key=key, num_products=5, method="hutch++")
    with pytest.raises(ValueError, match="method='hutch': expected one of hutchinson"):
        trace(quadratic, params, batches, key=key, method="hutch")
    with pytest.raises(ValueError, match="curvature of the loss is not finite"):
        trace(quadratic, params, [{"matrix": jnp.eye(4) * jnp.nan}], key=key)
    with pytest.raises(ValueError, match="by='filters'"):
        sharpness(quadratic, params, batches, key=key, by="filters")
